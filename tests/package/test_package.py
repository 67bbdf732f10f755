"""The deployment package: what is in it, that it runs by itself, that it is the same every time."""

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
    download,
    runs_here,
    tidy,
    write_zip,
)
from local.stack import run_stack
from local.supply_chain import SBOM
from tests.support.installed import copy_installed
from tests.support.world import ENVIRONMENT

AS_ON_AZURE = pytest.mark.skipif(
    not runs_here(), reason=f"the package is for Python {PYTHON} on Linux, x86-64"
)
MUST_SHIP = {
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
    "triggers",
    "orchestrations",
    "activities",
    "shared",
}
TOP = CODE | {PACKAGES.parts[0]}
NEVER = re.compile(r"__pycache__|\.pyc$|local\.settings|\.pth$|(^|/)\.(git|env|venv|state)")
OF_DEVELOPERS = {
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
    """From the packages of this environment: no network."""
    folder = tmp_path_factory.mktemp("package") / "app"
    assemble(folder, copy_installed)
    yield folder
    shutil.rmtree(folder)


def names(folder: Path) -> set[str]:
    """Of a folder that is linked as a whole, one file stands for all."""
    linked = {path / "__init__.py" for path in (folder / PACKAGES).iterdir() if path.is_symlink()}
    files = {path for path in folder.rglob("*") if path.is_file() and not path.parent.is_symlink()}
    return {file.relative_to(folder).as_posix() for file in files | linked}


def packages(names: set[str]) -> set[str]:
    below = f"{PACKAGES}/"
    return {name.removeprefix(below).split("/")[0] for name in names if name.startswith(below)}


def assert_contents(shipped: set[str]) -> None:
    assert shipped >= MUST_SHIP
    assert {name.split("/")[0] for name in shipped} == TOP
    assert not [name for name in shipped if NEVER.search(name)]
    assert not packages(shipped) & OF_DEVELOPERS
    assert not [
        name for name in shipped if name.endswith(".md") and not name.startswith(str(PACKAGES))
    ]


@AS_ON_AZURE
def test_it_has_what_the_app_needs_and_nothing_else_and_runs_by_itself(
    assembled: Path, tmp_path: Path
) -> None:
    assert_contents(names(assembled))
    with run_stack(tmp_path / "state", app_root=assembled) as stack:
        assert httpx.get(f"{stack.app_url}/api/health", timeout=60).status_code == 200
        status = httpx.get(f"{stack.app_url}/api/status", timeout=60).json()
    pinned = dict(package.PINNED.findall((ROOT / "requirements.txt").read_text(encoding="utf-8")))
    assert status["versions"]["azure-functions-durable"] == pinned["azure-functions-durable"]


@AS_ON_AZURE
@pytest.mark.parametrize(
    ("lacking", "module"),
    [
        (PACKAGES / "pydantic_settings", "pydantic_settings"),
        (Path("shared/clock.py"), "shared.clock"),
    ],
)
def test_what_the_package_lacks_is_missing_though_this_machine_has_it(
    assembled: Path, tmp_path: Path, lacking: Path, module: str
) -> None:
    (assembled / lacking).rename(tmp_path / "away")
    try:
        refused = subprocess.run(
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
        (tmp_path / "away").rename(assembled / lacking)
    assert refused.returncode == 2, refused.stdout
    assert f"No module named '{module}'" in refused.stderr, refused.stderr


def test_what_lies_about_in_a_checkout_is_left_out() -> None:
    files = {file.as_posix() for file in app_files()}
    assert {file.split("/")[0] for file in files} == CODE
    assert not [file for file in files if NEVER.search(file)]


def test_a_setting_file_or_a_secret_of_a_laptop_never_ships(tmp_path: Path) -> None:
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


def a_package(folder: Path, *, prefix: str, text: str = "one = 1\n") -> Path:
    """As pip leaves it: with a start script, its own notes and a RECORD that names them."""
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
    tidy(packages)
    return folder


def zipped(folder: Path, archive: Path) -> bytes:
    write_zip(folder, archive)
    return archive.read_bytes()


def test_the_same_pins_and_code_are_the_same_bytes_on_any_machine(tmp_path: Path) -> None:
    one, two = (
        a_package(tmp_path / "a", prefix="/usr"),
        a_package(tmp_path / "b", prefix="/opt/elsewhere"),
    )
    os.utime(two / "host.json", (1_000_000_000, 1_000_000_000))
    (two / "host.json").chmod(0o700)
    first = zipped(one, tmp_path / "a.zip")
    assert first == zipped(two, tmp_path / "b.zip")
    assert first != zipped(
        a_package(tmp_path / "c", prefix="/usr", text="one = 2\n"), tmp_path / "c.zip"
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


def test_without_an_index_it_says_what_is_wanted_and_leaves_no_zip(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
    assert package.main(["--archive", str(tmp_path / "dist" / "a.zip")]) == 1
    said = capsys.readouterr().err
    assert (
        said.startswith(f"pip could not install requirements.txt for Python {PYTHON} on Linux:")
        and "Traceback" not in said
    )
    assert not list((tmp_path / "dist").iterdir())


def test_a_wheel_that_is_not_the_pinned_one_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As if somebody had exchanged it on its way."""
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
    pins, right = (
        tmp_path / "requirements.txt",
        hashlib.sha256((tmp_path / "one-1.0-py3-none-any.whl").read_bytes()).hexdigest(),
    )
    pins.write_text(f"one==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(PackageError, match="THESE PACKAGES DO NOT MATCH THE HASHES"):
        download(tmp_path / "refused", pins)
    assert not (tmp_path / "refused" / "one.py").exists()
    pins.write_text(f"one==1.0 --hash=sha256:{right}\n")
    download(tmp_path / "taken", pins)
    assert (tmp_path / "taken" / "one.py").read_text() == "one = 1\n"


def test_there_is_nothing_to_unpack_before_it_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        package.main(["--archive", str(tmp_path / "a.zip"), "unpack", str(tmp_path / "app")]) == 1
    )
    assert capsys.readouterr().err.endswith("a.zip is not there: make package\n")


def test_it_is_made_for_the_python_that_the_template_asks_for() -> None:
    template = "\n".join(
        file.read_text(encoding="utf-8")
        for file in sorted((ROOT / "infra").rglob("function-app.bicep"))
    )
    assert f"'{PYTHON}'" in template


@pytest.mark.long
@AS_ON_AZURE
def test_the_whole_way(tmp_path: Path) -> None:
    """As typed, bill of materials included. Needs a package index."""
    done = subprocess.run(
        ["make", "run-package"], cwd=ROOT, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^all \d+ blobs landed and proven", done.stdout, flags=re.MULTILINE)
    with zipfile.ZipFile(package.ARCHIVE) as archive:
        assert_contents(set(archive.namelist()))
        archive.extractall(tmp_path)
    assert (
        hashlib.sha256(zipped(tmp_path, tmp_path.parent / "again.zip")).hexdigest() in done.stdout
    )
    bill = subprocess.run(
        [sys.executable, "-m", "local.supply_chain", "sbom"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert bill.returncode == 0, bill.stderr
    [digest] = json.loads(SBOM.read_text(encoding="utf-8"))["metadata"]["component"]["hashes"]
    assert digest["content"] in done.stdout
