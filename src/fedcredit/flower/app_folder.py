"""Where the Flower app (the two couriers) lies: in the repository, or inside an installed wheel."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from fedcredit.errors import ConfigFileMissingError

_REPOSITORY = Path(__file__).resolve().parents[3]


def app_folder() -> Path:
    """Return the folder to submit a Flower run from."""
    packaged = Path(str(resources.files("fedcredit.flower"))) / "_app"
    for folder in (packaged, _REPOSITORY):
        if (folder / "server" / "app.py").is_file() and (folder / "pyproject.toml").is_file():
            return folder
    raise ConfigFileMissingError(
        what="Flower app", path=str(packaged), command="pip install --force-reinstall fedcredit"
    )
