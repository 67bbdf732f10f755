"""The deployment package has the correct contents, runs on its own and is reproducible."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from local import package
from local.package import (
    PACKAGES,
    PYTHON,
    ROOT,
    PackageError,
    app_files,
    assemble,
    can_run_package,
    download,
    normalize,
    write_zip,
)
from local.stack import run_stack
from local.supply_chain import SBOM
from tests.support.app_environment import ENVIRONMENT
from tests.support.installed import copy_installed

requires_package_platform = pytest.mark.skipif(
    not can_run_package(), reason=f"the package requires Python {PYTHON} on Linux, x86-64"
)
REQUIRED_FILES = {
    "function_app.py",
    "host.json",
    "requirements.txt",
    "triggers/schedule.py",
    "orchestrations/export_run.py",
    "activities/claim_run.py",
    "shared/settings.py",
    "shared/graph/client.py",
    f"{PACKAGES}/azure/durable_functions/__init__.py",
    f"{PACKAGES}/msgraph/__init__.py",
    f"{PACKAGES}/pydantic_settings/__init__.py",
}
CODE = {
    "function_app.py",
    "host.json",
    "requirements.txt",
    "ncrontab",
    "triggers",
    "orchestrations",
    "activities",
    "shared",
}
TOP_LEVEL = CODE | {PACKAGES.parts[0]}
FORBIDDEN_FILES = re.compile(
    r"__pycache__|\.pyc$|local\.settings|\.pth$|(^|/)\.(git|env|venv|state)"
)
DEVELOPMENT_PACKAGES = {
    "pytest",
    "_pytest",
    "rich",
    "typer",
    "mypy",
    "ruff",
    "duckdb",
    "polars",
    "hypothesis",
    "partner_billing",
    "pip",
}


@pytest.fixture(scope="module")
def assembled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A package that is built offline from the packages in this environment."""
    folder = tmp_path_factory.mktemp("package") / "app"
    assemble(folder, copy_installed)
    yield folder
    shutil.rmtree(folder)


def file_names(folder: Path) -> set[str]:
    """Return the files in a folder; for a linked subfolder, return only its `__init__.py`."""
    linked = {path / "__init__.py" for path in (folder / PACKAGES).iterdir() if path.is_symlink()}
    files = {path for path in folder.rglob("*") if path.is_file() and not path.parent.is_symlink()}
    return {file.relative_to(folder).as_posix() for file in files | linked}


def package_names(names: set[str]) -> set[str]:
    prefix = f"{PACKAGES}/"
    return {name.removeprefix(prefix).split("/")[0] for name in names if name.startswith(prefix)}


def assert_contents(shipped: set[str]) -> None:
    assert shipped >= REQUIRED_FILES
    assert {name.split("/")[0] for name in shipped} == TOP_LEVEL
    assert not [name for name in shipped if FORBIDDEN_FILES.search(name)]
    assert not package_names(shipped) & DEVELOPMENT_PACKAGES
    assert not [
        name for name in shipped if name.endswith(".md") and not name.startswith(str(PACKAGES))
    ]


@requires_package_platform
def test_package_contains_only_the_app_and_runs_on_its_own(assembled: Path, tmp_path: Path) -> None:
    assert_contents(file_names(assembled))
    with run_stack(tmp_path / "state", app_root=assembled) as stack:
        assert httpx.get(f"{stack.app_url}/api/health", timeout=60).status_code == 200
        status = httpx.get(f"{stack.app_url}/api/status", timeout=60).json()
    pinned = dict(package.PINNED.findall((ROOT / "requirements.txt").read_text(encoding="utf-8")))
    assert status["versions"]["azure-functions-durable"] == pinned["azure-functions-durable"]


@requires_package_platform
@pytest.mark.parametrize(
    ("removed", "module"),
    [
        (PACKAGES / "pydantic_settings", "pydantic_settings"),
        (Path("shared/clock.py"), "shared.clock"),
    ],
)
def test_package_missing_module_is_not_taken_from_this_machine(
    assembled: Path, tmp_path: Path, removed: Path, module: str
) -> None:
    (assembled / removed).rename(tmp_path / "removed")
    try:
        process = subprocess.run(
            [
                sys.executable,
                "-m",
                "local.host",
                "--app-root",
                str(assembled),
                "--port",
                "0",
                "--state-dir",
                str(tmp_path / "s"),
            ],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], **ENVIRONMENT},
            capture_output=True,
            text=True,
            timeout=60,
        )
    finally:
        (tmp_path / "removed").rename(assembled / removed)
    assert process.returncode == 2, process.stdout
    assert f"No module named '{module}'" in process.stderr, process.stderr


def test_app_files_in_checkout_contain_only_the_app() -> None:
    files = {file.as_posix() for file in app_files()}
    assert {file.split("/")[0] for file in files} == CODE
    assert not [file for file in files if FORBIDDEN_FILES.search(file)]


def test_app_files_with_local_settings_and_secrets_excludes_them(tmp_path: Path) -> None:
    for name in (
        ".funcignore",
        "function_app.py",
        "local.settings.json",
        ".env",
        "shared/a.py",
        "shared/__pycache__/a.pyc",
        ".state/run/landing.txt",
        "tests/test_a.py",
        "notes.md",
        ".python_packages/lib/site-packages/old.py",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    shutil.copyfile(ROOT / ".funcignore", tmp_path / ".funcignore")
    assert {file.as_posix() for file in app_files(tmp_path)} == {"function_app.py", "shared/a.py"}


def create_package(folder: Path, *, prefix: str, text: str = "one = 1\n") -> Path:
    """Create a normalized package from files as pip installs them.

    They include a start script, the installer's own files and a RECORD that lists them.
    """
    info, packages = "one-1.0.dist-info", folder / PACKAGES
    for name, content in {
        "one/__init__.py": text,
        "bin/one": f"#!{prefix}/bin/python\n",
        f"{info}/INSTALLER": "pip\n",
        f"{info}/REQUESTED": "",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: one\nVersion: 1.0\n",
    }.items():
        (packages / name).parent.mkdir(parents=True, exist_ok=True)
        (packages / name).write_text(content)
    listed = [
        "one/__init__.py",
        f"{info}/INSTALLER",
        f"{info}/METADATA",
        f"{info}/REQUESTED",
        f"{info}/RECORD",
    ]
    script = hashlib.sha256(prefix.encode()).hexdigest()
    (packages / info / "RECORD").write_text(
        "".join([f"../../bin/one,sha256={script},9\n", *(f"{name},,\n" for name in listed)])
    )
    (folder / "host.json").write_text("{}")
    normalize(packages)
    return folder


def write_and_read_zip(folder: Path, archive: Path) -> bytes:
    write_zip(folder, archive)
    return archive.read_bytes()


def test_write_zip_equal_contents_on_different_machines_gives_equal_bytes(tmp_path: Path) -> None:
    one, two = (
        create_package(tmp_path / "a", prefix="/usr"),
        create_package(tmp_path / "b", prefix="/opt/elsewhere"),
    )
    os.utime(two / "host.json", (1_000_000_000, 1_000_000_000))
    (two / "host.json").chmod(0o700)
    first = write_and_read_zip(one, tmp_path / "a.zip")
    assert first == write_and_read_zip(two, tmp_path / "b.zip")
    assert first != write_and_read_zip(
        create_package(tmp_path / "c", prefix="/usr", text="one = 2\n"), tmp_path / "c.zip"
    )
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == sorted(archive.namelist())
        assert not [
            name
            for name in archive.namelist()
            if name.endswith(("INSTALLER", "REQUESTED", "bin/one"))
        ]
        assert b"bin/one" not in archive.read(f"{PACKAGES}/one-1.0.dist-info/RECORD")
    assert not list(tmp_path.glob("*.part"))


def test_main_without_package_index_reports_pip_error_and_writes_no_zip(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
    assert package.main(["--archive", str(tmp_path / "dist" / "a.zip")]) == 1
    error = capsys.readouterr().err
    assert (
        error.startswith(f"pip could not install requirements.txt for Python {PYTHON} on Linux:")
        and "Traceback" not in error
    )
    assert not list((tmp_path / "dist").iterdir())


def test_download_wheel_with_other_hash_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    info = "one-1.0.dist-info"
    with zipfile.ZipFile(tmp_path / "one-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("one.py", "one = 1\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: one\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr(
            f"{info}/RECORD", f"one.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n"
        )
    for name, value in {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
    pins = tmp_path / "requirements.txt"
    digest = hashlib.sha256((tmp_path / "one-1.0-py3-none-any.whl").read_bytes()).hexdigest()
    pins.write_text(f"one==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(PackageError, match="THESE PACKAGES DO NOT MATCH THE HASHES"):
        download(tmp_path / "refused", pins)
    assert not (tmp_path / "refused" / "one.py").exists()
    pins.write_text(f"one==1.0 --hash=sha256:{digest}\n")
    download(tmp_path / "accepted", pins)
    assert (tmp_path / "accepted" / "one.py").read_text() == "one = 1\n"


def test_main_unpack_without_package_reports_missing_zip(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        package.main(["--archive", str(tmp_path / "a.zip"), "unpack", str(tmp_path / "app")]) == 1
    )
    assert capsys.readouterr().err.endswith("a.zip does not exist. Run `make package`.\n")


def test_python_version_matches_bicep_template() -> None:
    template = "\n".join(
        file.read_text(encoding="utf-8")
        for file in sorted((ROOT / "infra").rglob("function-app.bicep"))
    )
    assert f"'{PYTHON}'" in template


@pytest.mark.long
@requires_package_platform
def test_make_run_package_lands_all_datasets_and_sbom_matches(tmp_path: Path) -> None:
    """The test runs the make target, which writes the bill of materials and needs an index."""
    demo = subprocess.run(
        ["make", "run-package"], cwd=ROOT, capture_output=True, text=True, timeout=900
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert re.search(r"^All \d+ blobs landed and verified", demo.stdout, flags=re.MULTILINE)
    with zipfile.ZipFile(package.ARCHIVE) as archive:
        assert_contents(set(archive.namelist()))
        archive.extractall(tmp_path)
    assert (
        hashlib.sha256(write_and_read_zip(tmp_path, tmp_path.parent / "again.zip")).hexdigest()
        in demo.stdout
    )
    sbom = subprocess.run(
        [sys.executable, "-m", "local.supply_chain", "sbom"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert sbom.returncode == 0, sbom.stderr
    [digest] = json.loads(SBOM.read_text(encoding="utf-8"))["metadata"]["component"]["hashes"]
    assert digest["content"] in demo.stdout
