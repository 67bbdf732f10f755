"""Copies the dependencies of a package from this environment, for tests without a network."""

import shutil
from importlib.metadata import distribution
from pathlib import Path

from local.package import PINNED, ROOT

AS_A_WHOLE = {
    "msgraph"
}  # 16,700 files: as one link, for linking each takes ten times as long as all the others together
UNPACKED = ("..", "__pycache__")


def copy_installed(target: Path, requirements: Path = ROOT / "requirements.txt") -> None:
    """Every file that the installed wheels have, as hard links where the file system has them. Refuses other versions."""
    for name, version in PINNED.findall(requirements.read_text(encoding="utf-8")):
        installed = distribution(name)
        assert installed.version == version, (
            f"{name} {installed.version} is installed and {version} is pinned: make setup"
        )
        for file in installed.files or ():
            if file.parts[0] in AS_A_WHOLE:
                whole = target / file.parts[0]
                if not whole.is_symlink():
                    whole.symlink_to(Path(str(installed.locate_file(file.parts[0]))))
            elif not set(UNPACKED) & set(file.parts):
                link(Path(str(installed.locate_file(file))), target / file)


def link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:  # another file system
        shutil.copyfile(source, target)
