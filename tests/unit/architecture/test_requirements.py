"""What is installed is pinned, the same for everybody, and says nothing of where it was fetched."""

import json
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FILES = ("requirements.txt", "requirements-dev.txt", "requirements-worker.txt")
PIN = re.compile(r"([a-z0-9][a-z0-9.-]*)==([0-9][0-9A-Za-z.!+-]*)(?: --hash=sha256:[0-9a-f]{64})+")


def requirements(name: str) -> str:
    """Without comments, each on one line."""
    text = re.sub(r"^#.*\n", "", (ROOT / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
    return re.sub(r" *\\\n *", " ", text)


def pins(name: str) -> dict[str, str]:
    lines = [line for line in requirements(name).splitlines() if line]
    found = [PIN.fullmatch(line) for line in lines]
    assert all(found), [line for line, pin in zip(lines, found, strict=True) if not pin]
    return {pin[1]: pin[2] for pin in found if pin}


def declared(extra: str | None = None) -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["optional-dependencies"][extra] if extra else project["dependencies"]
    return {re.match(r"[A-Za-z0-9._-]+", requirement)[0].lower() for requirement in wanted}


@pytest.mark.parametrize("name", FILES)
def test_every_package_is_pinned_exactly_and_by_hash(name: str) -> None:
    assert pins(name)


@pytest.mark.parametrize("name", FILES)
def test_no_address_no_path_no_option(name: str) -> None:
    assert not re.search(r"://|^\s*--|@ |[\\/]", requirements(name), re.MULTILINE)


def test_what_the_app_needs_is_deployed_and_what_developers_need_is_not() -> None:
    app, development = pins(FILES[0]), pins(FILES[1])
    assert declared() <= set(app)
    assert declared("dev") <= set(development)
    assert not {"pytest", "mypy", "ruff", "rich", "import-linter", "pip-tools"} & set(app)


def test_developers_run_what_is_deployed() -> None:
    app, development = pins(FILES[0]), pins(FILES[1])
    assert app == {name: development.get(name) for name in app}


def test_the_npm_lock_names_no_registry() -> None:
    assert '"resolved"' not in (ROOT / "package-lock.json").read_text(encoding="utf-8")


def test_every_npm_package_is_known_by_its_hash() -> None:
    packages = json.loads((ROOT / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    assert len(packages) > 50
    assert not [name for name, package in packages.items() if name and not package.get("integrity")]
