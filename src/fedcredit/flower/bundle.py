"""The app folder that a Flower run is submitted from: copies of the files of the allow-list, and nothing else.

``flwr run`` walks the whole folder it is given and then applies its rules. A folder that holds only the bundle's files
makes the walk short, and a change of those rules harmless.
"""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path
from typing import Final

from fedcredit.errors import ConfigFileMissingError, ConfigValueError

_PROJECT: Final = "pyproject.toml"


def bundled_files(app_dir: Path) -> list[str]:
    """Return the files of the bundle of ``app_dir``, relative and sorted: pyproject.toml and ``fab-include``.

    Raises:
        ConfigFileMissingError: ``app_dir`` holds no project.
        ConfigValueError: ``fab-include`` is missing, empty, or names anything but single files inside the folder.
    """
    project = app_dir / _PROJECT
    if not project.is_file():
        raise ConfigFileMissingError(what="Flower app", path=project, command="flwr build --app FOLDER")
    app = tomllib.loads(project.read_text(encoding="utf-8")).get("tool", {}).get("flwr", {}).get("app", {})
    patterns = app.get("fab-include")
    if not isinstance(patterns, list) or not patterns:
        raise ConfigValueError(path=project, key="fab-include", problem="must list the files of the bundle")
    for pattern in patterns:
        if not isinstance(pattern, str) or not pattern.startswith("/") or set(pattern) & set("*?[]!\\"):
            raise ConfigValueError(path=project, key="fab-include", problem="must name single files from the root")
        if ".." in Path(pattern).parts or not (app_dir / pattern[1:]).is_file():
            raise ConfigValueError(path=project, key="fab-include", problem="names a file that is not there")
    return sorted([_PROJECT, *(pattern[1:] for pattern in patterns)])


def stage(app_dir: Path, directory: Path) -> Path:
    """Replace ``directory`` by copies of the bundle's files of ``app_dir`` and return it."""
    names = bundled_files(app_dir)
    shutil.rmtree(directory, ignore_errors=True)
    for name in names:
        target = directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(app_dir / name, target)
    return directory
