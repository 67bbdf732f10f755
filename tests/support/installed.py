"""Copies the dependencies of a package from this environment, for tests without a network."""

import shutil
from importlib.metadata import distribution
from pathlib import Path

from local.package import PINNED, ROOT

# Linked as a folder: linking its 16,700 files takes ten times as long as all other packages.
LINKED_FOLDERS = {"msgraph"}
EXCLUDED = ("..", "__pycache__")


def copy_installed(target: Path, requirements: Path = ROOT / "requirements.txt") -> None:
    """Copy the files of the installed wheels to `target`, as hard links where possible.

    Raises:
        AssertionError: An installed version differs from the pinned version.
    """
    for name, version in PINNED.findall(requirements.read_text(encoding="utf-8")):
        installed = distribution(name)
        assert installed.version == version, (
            f"{name} {installed.version} is installed, but {version} is pinned. Run make setup."
        )
        for file in installed.files or ():
            if file.parts[0] in LINKED_FOLDERS:
                folder = target / file.parts[0]
                if not folder.is_symlink():
                    folder.symlink_to(Path(str(installed.locate_file(file.parts[0]))))
            elif not set(EXCLUDED) & set(file.parts):
                link(Path(str(installed.locate_file(file))), target / file)


def link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:  # the target is on another file system
        shutil.copyfile(source, target)
