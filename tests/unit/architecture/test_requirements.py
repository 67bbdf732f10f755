"""Dependencies are pinned by version and hash, and the lock files do not contain a registry."""

import json
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
APP, DEVELOPMENT, WORKER = (
    ROOT / "requirements.txt",
    ROOT / "requirements-dev.txt",
    ROOT / "local" / "requirements-worker.txt",
)
FILES = (APP, DEVELOPMENT, WORKER)
NPM_LOCK = ROOT / "local" / "package-lock.json"
PIN = re.compile(r"([a-z0-9][a-z0-9.-]*)==([0-9][0-9A-Za-z.!+-]*)(?: --hash=sha256:[0-9a-f]{64})+")


def read_requirements(file: Path) -> str:
    """Return the content of a file without comments, with each requirement on one line."""
    text = re.sub(r"^#.*\n", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return re.sub(r" *\\\n *", " ", text)


def read_pins(file: Path) -> dict[str, str]:
    """Return the version of each package; fail if a requirement has no version or hash."""
    lines = [line for line in read_requirements(file).splitlines() if line]
    pins = [PIN.fullmatch(line) for line in lines]
    assert all(pins), [line for line, pin in zip(lines, pins, strict=True) if not pin]
    return {pin[1]: pin[2] for pin in pins if pin}


def declared_packages(extra: str | None = None) -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = project["optional-dependencies"][extra] if extra else project["dependencies"]
    return {re.match(r"[A-Za-z0-9._-]+", requirement)[0].lower() for requirement in requirements}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_requirements_are_pinned_by_version_and_hash(file: Path) -> None:
    assert read_pins(file)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_requirements_contain_no_address_path_or_option(file: Path) -> None:
    assert not re.search(r"://|^\s*--|@ |[\\/]", read_requirements(file), re.MULTILINE)


def test_app_requirements_contain_no_development_packages() -> None:
    app, development = read_pins(APP), read_pins(DEVELOPMENT)
    assert declared_packages() <= set(app)
    assert declared_packages("dev") <= set(development)
    assert {"pytest", "mypy", "ruff", "rich", "import-linter", "pip-tools"}.isdisjoint(app)


def test_development_requirements_contain_the_pins_of_the_app() -> None:
    app, development = read_pins(APP), read_pins(DEVELOPMENT)
    assert app == {name: development.get(name) for name in app}


def test_npm_lock_names_no_registry() -> None:
    assert '"resolved"' not in NPM_LOCK.read_text(encoding="utf-8")


def test_npm_lock_has_hash_for_every_package() -> None:
    packages = json.loads(NPM_LOCK.read_text(encoding="utf-8"))["packages"]
    without_hash = {name for name, package in packages.items() if not package.get("integrity")}
    assert "node_modules/azurite" in packages
    assert without_hash == {""}  # the project itself
