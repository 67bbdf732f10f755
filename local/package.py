"""`make package`: the zip that is deployed, with its dependencies, the same bytes every time.

    dist/partner-billing-export.zip
        function_app.py  host.json  requirements.txt  triggers/  orchestrations/  activities/  shared/
        .python_packages/lib/site-packages/     what requirements.txt pins, by hash, for Azure's Python and platform

    python -m local.package                 writes it
    python -m local.package unpack DIR      the zip as a folder, in place of what is there

The dependencies are in it because what is tested is then what is deployed, and because a build on Azure has little time
(docs/adr/0040).
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable, Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pathspec

from local.azurite import ROOT
from local.stack import display_path

ARCHIVE = ROOT / "dist" / "partner-billing-export.zip"
PACKAGES = Path(".python_packages/lib/site-packages")
REQUIREMENTS = "requirements.txt"
PYTHON, MACHINE = "3.11", "x86_64"  # of the function app: infra/modules/function-app.bicep
PLATFORMS = [
    f"manylinux{name}_{MACHINE}"
    for name in ("_2_28", "_2_17", "2014", "_2_12", "2010", "_2_5", "1")
]
PINNED = re.compile(r"^([a-z0-9][a-z0-9.-]*)==(\S+)", re.MULTILINE)
OF_THE_INSTALLER = frozenset({"INSTALLER", "REQUESTED", "direct_url.json"})
EARLIEST = (1980, 1, 1, 0, 0, 0)  # a zip knows no earlier time
MODE = 0o100644 << 16


class PackageError(Exception):
    """The package could not be made; the text says why and what to do."""


# -- what goes in -------------------------------------------------------------


def app_files(root: Path = ROOT) -> Iterator[Path]:
    """What .funcignore lets through, relative to the project; links are not followed."""
    ignored = pathspec.PathSpec.from_lines(
        "gitignore", (root / ".funcignore").read_text(encoding="utf-8").splitlines()
    )
    for folder, folders, files in os.walk(root):
        below = Path(folder).relative_to(root)
        folders[:] = [
            name
            for name in folders
            if name != PACKAGES.parts[0] and not ignored.match_file(f"{below / name}/")
        ]
        yield from (below / name for name in files if not ignored.match_file(str(below / name)))


def download(target: Path, requirements: Path = ROOT / REQUIREMENTS) -> None:
    """Installs what is pinned into the folder: wheels for Azure's platform, each checked against its hash, nothing built here."""
    platforms = [f"--platform={name}" for name in PLATFORMS]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-compile",
            "--no-deps",
            "--require-hashes",
            "--only-binary=:all:",
            "--implementation=cp",
            f"--python-version={PYTHON}",
            *platforms,
            f"--target={target}",
            f"--requirement={requirements}",
        ],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise PackageError(
            f"pip could not install {requirements.name} for Python {PYTHON} on Linux:\n{done.stderr.strip()[-2000:]}"
        )


def runs_here() -> bool:
    """Whether this machine can run what is packed for Azure."""
    return (
        "{}.{}".format(*sys.version_info) == PYTHON
        and sysconfig.get_platform() == f"linux-{MACHINE}"
    )


def tidy(packages: Path) -> None:
    """Takes away what differs from machine to machine: start scripts, and what the installer notes of itself."""
    shutil.rmtree(packages / "bin", ignore_errors=True)
    for found in list(distributions(path=[str(packages)])):
        tidy_record(found, packages)


def tidy_record(found: Distribution, packages: Path) -> None:
    """RECORD without the files that the package leaves out; written anew, for a linked file is not ours to change."""
    kept = []
    for file in found.files or ():
        if file.name in OF_THE_INSTALLER and file.parts[0].endswith(".dist-info"):
            (packages / file).unlink(missing_ok=True)
        elif (packages / file).is_file() and ".." not in file.parts:
            kept.append(
                f"{file},{f'{file.hash.mode}={file.hash.value}' if file.hash else ''},{file.size or ''}\n"
            )
        if file.name == "RECORD":
            record = packages / file
    record.unlink()
    record.write_text("".join(sorted(kept)), encoding="utf-8")


# -- the zip ------------------------------------------------------------------


def assemble(folder: Path, install: Callable[[Path], None] = download) -> None:
    """The package as a folder; what was there goes. `install` puts the dependencies there: the seam for tests."""
    shutil.rmtree(folder, ignore_errors=True)
    for file in app_files():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, folder / file)
    install(folder / PACKAGES)
    tidy(folder / PACKAGES)


def write_zip(folder: Path, archive: Path) -> None:
    """Sorted, with one time and one mode for all: equal folders make equal bytes. There whole or not at all."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    unfinished = archive.with_suffix(".part")
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as packed:
        for file in sorted(
            (file for file in folder.rglob("*") if file.is_file()), key=lambda file: file.as_posix()
        ):
            entry = zipfile.ZipInfo(file.relative_to(folder).as_posix(), EARLIEST)
            entry.external_attr, entry.compress_type, entry.create_system = (
                MODE,
                zipfile.ZIP_DEFLATED,
                3,
            )
            packed.writestr(entry, file.read_bytes())
    unfinished.replace(archive)


def unpack(archive: Path, folder: Path) -> None:
    """The zip as a folder that the local host can run."""
    if not archive.is_file():
        raise PackageError(f"{archive} is not there: make package")
    if not runs_here():
        raise PackageError(
            f"The package is for Python {PYTHON} on Linux ({MACHINE}) and cannot run here."
        )
    shutil.rmtree(folder, ignore_errors=True)
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m local.package", description="Makes the zip that is deployed."
    )
    parser.add_argument("--archive", type=Path, default=ARCHIVE)
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("unpack", help="the zip as a folder").add_argument("folder", type=Path)
    given = parser.parse_args(arguments)
    archive = given.archive.resolve()
    try:
        if given.command == "unpack":
            unpack(archive, given.folder.resolve())
            return 0
        folder = archive.with_suffix("")
        try:
            assemble(folder)
            write_zip(folder, archive)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        print(f"{display_path(archive)}: {archive.stat().st_size / 1e6:.0f} MB, SHA-256 {digest}")
        return 0
    except PackageError as failed:
        print(failed, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
