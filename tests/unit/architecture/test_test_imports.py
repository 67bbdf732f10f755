"""Test folders do not import from each other; they share code in tests/support."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[2]
FOLDERS = ("unit", "durable", "host", "integration", "infra", "alarms", "package", "docs")


def list_test_imports(tree: ast.AST, package: str = "tests") -> Iterator[str]:
    """Yield the modules under `tests` that a module in `package` imports."""
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=module, level=level):
                parents = package.split(".")[: package.count(".") + 2 - level] if level else []
                names = [".".join([*parents, *([module] if module else [])])]
            case ast.Import(names=aliases):
                names = [alias.name for alias in aliases]
            case _:
                continue
        yield from (name for name in names if name.split(".")[0] == "tests")


def list_imports_of_file(path: Path) -> list[str]:
    package = ".".join(path.parent.relative_to(TESTS.parent).parts)
    return list(list_test_imports(ast.parse(path.read_text(encoding="utf-8")), package))


def test_list_test_imports_finds_all_forms_of_imports() -> None:
    source = (
        "import tests.unit.a, json\ndef f():\n    from tests.host import b\n"
        "from .c import d\nfrom . import e\nfrom ..g import h\n"
    )
    assert set(list_test_imports(ast.parse(source), "tests.unit.x")) == {
        "tests.unit.a",
        "tests.host",
        "tests.unit.x.c",
        "tests.unit.x",
        "tests.unit.g",
    }


def test_no_test_imports_a_conftest() -> None:
    files = {
        path
        for path in TESTS.rglob("*.py")
        for module in list_imports_of_file(path)
        if module.endswith(".conftest")
    }
    assert files == set(), "move shared names to another module"


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_of_tests_stay_in_their_folder_or_support(folder: str) -> None:
    allowed = (f"tests.{folder}", "tests.support")
    paths = sorted((TESTS / folder).rglob("*.py"))
    assert paths
    for path in paths:
        for module in list_imports_of_file(path):
            assert module.startswith(allowed), (path, module)


def test_support_imports_no_tests() -> None:
    for path in sorted((TESTS / "support").rglob("*.py")):
        for module in list_imports_of_file(path):
            assert module.startswith("tests.support"), (path, module)
