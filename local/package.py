"""Builds the deployment package: a zip file with all dependencies, reproducible byte for byte.

    dist/partner-billing-export.zip
        function_app.py  host.json  requirements.txt
        triggers/  orchestrations/  activities/  shared/  ncrontab/
        .python_packages/lib/site-packages/     the pins of requirements.txt, checked by hash,
                                                for the Python version and platform on Azure

    python -m local.package                 build the zip
    python -m local.package unpack DIR      extract the zip to DIR, which is replaced

The package contains its dependencies so that the tested files are the deployed files, and because
the time for a build on Azure is limited (docs/adr/0040).
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
PYTHON, MACHINE = "3.11", "x86_64"  # as in infra/modules/function-app.bicep
PLATFORMS = [
    f"manylinux{name}_{MACHINE}"
    for name in ("_2_28", "_2_17", "2014", "_2_12", "2010", "_2_5", "1")
]
PINNED = re.compile(r"^([a-z0-9][a-z0-9.-]*)==(\S+)", re.MULTILINE)
INSTALLER_FILES = frozenset({"INSTALLER", "REQUESTED", "direct_url.json"})
EARLIEST_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest time that the zip format supports
FILE_MODE = 0o100644 << 16


class PackageError(Exception):
    """The package could not be built. The message states why and what to do."""


# -- contents -----------------------------------------------------------------


def app_files(root: Path = ROOT) -> Iterator[Path]:
    """Yield the files that .funcignore does not exclude, relative to `root`.

    Symbolic links are not followed.
    """
    ignored = pathspec.PathSpec.from_lines(
        "gitignore", (root / ".funcignore").read_text(encoding="utf-8").splitlines()
    )
    for folder, folders, files in os.walk(root):
        relative = Path(folder).relative_to(root)
        folders[:] = [
            name
            for name in folders
            if name != PACKAGES.parts[0] and not ignored.match_file(f"{relative / name}/")
        ]
        yield from (
            relative / name for name in files if not ignored.match_file(str(relative / name))
        )


def download(target: Path, requirements: Path = ROOT / REQUIREMENTS) -> None:
    """Install the pinned wheels for Azure's platform into a folder and verify their hashes.

    No package is built on this machine.

    Raises:
        PackageError: pip could not install a package.
    """
    platforms = [f"--platform={name}" for name in PLATFORMS]
    result = subprocess.run(
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
    if result.returncode:
        raise PackageError(
            f"pip could not install {requirements.name} for Python {PYTHON} on Linux:\n"
            f"{result.stderr.strip()[-2000:]}"
        )


def can_run_package() -> bool:
    """Return whether this machine can run the package."""
    return (
        "{}.{}".format(*sys.version_info) == PYTHON
        and sysconfig.get_platform() == f"linux-{MACHINE}"
    )


def normalize(packages: Path) -> None:
    """Remove the files that differ between machines: start scripts and the installer's files."""
    shutil.rmtree(packages / "bin", ignore_errors=True)
    for distribution in list(distributions(path=[str(packages)])):
        normalize_record(distribution, packages)


def normalize_record(distribution: Distribution, packages: Path) -> None:
    """Rewrite RECORD without the files that the package omits.

    The file is replaced, not edited, because it might be a hard link to an installed file.
    """
    entries = []
    for file in distribution.files or ():
        if file.name in INSTALLER_FILES and file.parts[0].endswith(".dist-info"):
            (packages / file).unlink(missing_ok=True)
        elif (packages / file).is_file() and ".." not in file.parts:
            file_hash = f"{file.hash.mode}={file.hash.value}" if file.hash else ""
            entries.append(f"{file},{file_hash},{file.size or ''}\n")
        if file.name == "RECORD":
            record = packages / file
    record.unlink()
    record.write_text("".join(sorted(entries)), encoding="utf-8")


# -- the zip ------------------------------------------------------------------


def assemble(folder: Path, install: Callable[[Path], None] = download) -> None:
    """Build the package as a folder, replacing the folder if it exists.

    `install` installs the dependencies into a folder; tests replace it to work offline.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for file in app_files():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, folder / file)
    install(folder / PACKAGES)
    normalize(folder / PACKAGES)


def write_zip(folder: Path, archive: Path) -> None:
    """Write a folder as a zip file, atomically.

    Files are sorted and have the same time and mode, so that identical folders result in identical
    bytes.
    """
    archive.parent.mkdir(parents=True, exist_ok=True)
    unfinished = archive.with_suffix(".part")
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as packed:
        for file in sorted(
            (file for file in folder.rglob("*") if file.is_file()), key=lambda file: file.as_posix()
        ):
            entry = zipfile.ZipInfo(file.relative_to(folder).as_posix(), EARLIEST_TIME)
            entry.external_attr, entry.compress_type, entry.create_system = (
                FILE_MODE,
                zipfile.ZIP_DEFLATED,
                3,
            )
            packed.writestr(entry, file.read_bytes())
    unfinished.replace(archive)


def unpack(archive: Path, folder: Path) -> None:
    """Replace a folder with the extracted package, which the local host can run."""
    if not archive.is_file():
        raise PackageError(f"{archive} does not exist. Run `make package`.")
    if not can_run_package():
        raise PackageError(
            f"The package requires Python {PYTHON} on Linux ({MACHINE}); it cannot run here."
        )
    shutil.rmtree(folder, ignore_errors=True)
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder)


def main(arguments: list[str] | None = None) -> int:
    """Build or extract the package and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m local.package", description="Builds the deployment package."
    )
    parser.add_argument("--archive", type=Path, default=ARCHIVE)
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("unpack", help="extract the package to a folder").add_argument(
        "folder", type=Path
    )
    options = parser.parse_args(arguments)
    archive = options.archive.resolve()
    try:
        if options.command == "unpack":
            unpack(archive, options.folder.resolve())
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
    except PackageError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
