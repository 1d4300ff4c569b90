"""What a Flower bundle of this repository holds."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from fedcredit.errors import ConfigFileMissingError, ConfigValueError
from fedcredit.flower.bundle import bundled_files, stage
from fedcredit.flower.processes import carrier_environment, console_script

ROOT = Path(__file__).parents[3]
BUNDLE = [
    "LICENSE",
    "clients/__init__.py",
    "clients/app.py",
    "pyproject.toml",
    "server/__init__.py",
    "server/app.py",
]
SECRETS = [
    "clients/bank_a.toml",
    "clients/bank/node.toml",
    "clients/secret.py",
    "server/gateway.yaml",
    "state/x.jsonl",
    "keys/node.pem",
    "data.parquet",
    "notes.md",
]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the files of the bundle with secrets planted among them."""
    copy = tmp_path / "tree"
    for name in BUNDLE:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, copy / name)
    for name in SECRETS:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text("secret")
    return copy


def _built(app: Path, *, folder: Path) -> list[str]:
    """Return the names in the bundle that Flower itself builds from ``app``."""
    folder.mkdir()
    command = [str(console_script("flwr")), "build", "--app", str(app)]
    subprocess.run(command, env=carrier_environment(folder / "home"), cwd=folder, check=True, capture_output=True)
    (bundle,) = folder.glob("*.fab")
    with zipfile.ZipFile(bundle) as archive:
        return sorted(archive.namelist())


def test_the_bundle_holds_two_couriers_and_no_secret(tree: Path, tmp_path: Path) -> None:
    assert _built(tree, folder=tmp_path / "built") == sorted([*BUNDLE, ".info/CONTENT"])


def test_the_staged_folder_holds_the_bundles_files_and_nothing_else(tree: Path, tmp_path: Path) -> None:
    staged = tmp_path / "staged"
    (staged / "state").mkdir(parents=True)
    (staged / "state" / "old.jsonl").write_text("secret")
    stage(tree, staged)
    found = sorted(str(path.relative_to(staged)) for path in staged.rglob("*") if path.is_file())
    assert found == sorted(BUNDLE) == bundled_files(tree)


@pytest.mark.parametrize(
    "patterns",
    [
        "",
        "fab-include = []",
        "fab-include = [5]",
        'fab-include = ["/**/*.py"]',
        'fab-include = ["server/app.py"]',
        'fab-include = ["/no"]',
        'fab-include = ["/../tree/server/app.py"]',
    ],
)
def test_an_allow_list_that_is_not_one_of_single_files_is_refused(tree: Path, patterns: str) -> None:
    (tree / "pyproject.toml").write_text(f"[tool.flwr.app]\n{patterns}\n")
    with pytest.raises(ConfigValueError, match="fab-include"):
        stage(tree, tree / "staged")


def test_a_folder_without_a_project_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigFileMissingError):
        bundled_files(tmp_path)


def test_the_couriers_are_short() -> None:
    for name in ("server/app.py", "clients/app.py"):
        assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) < 100
