"""The packages of the project, their descriptions and the forbidden imports."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
APP = ("triggers", "orchestrations", "activities", "shared", "ncrontab")
SHARED = {
    "blob_facts",
    "exports",
    "messages",
    "errors",
    "settings",
    "identity",
    "instances",
    "clock",
    "redaction",
    "retry_after",
    "telemetry",
    "urls",
    "manifest",
    "operations",
    "planning",
    "invoices",
    "tie_out",
    "services",
    "http",
    "graph",
    "partner_center",
    "landing",
    "transfer",
    "versions",
    "lines",
    "money",
    "ledger",
    "preflight",
    "proxies",
    "optimistic_concurrency",
}


def python_files(*folders: str) -> list[Path]:
    return sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))


def app_files() -> list[Path]:
    return [*python_files(*APP), ROOT / "function_app.py"]


def packages() -> list[Path]:
    return sorted({file.parent for file in python_files(*APP, "local")})


def relative_path(path: Path) -> str:
    return str(path.relative_to(ROOT))


def description(folder: Path) -> str:
    """Return the first paragraph of a folder's docstring, or the title of its README."""
    init, readme = folder / "__init__.py", folder / "README.md"
    docstring = init.exists() and ast.get_docstring(ast.parse(init.read_text(encoding="utf-8")))
    if docstring:
        return docstring.partition("\n\n")[0]
    return readme.read_text(encoding="utf-8").partition("\n")[0] if readme.exists() else ""


def imported_names(file: Path) -> set[str]:
    """Return the imported modules, and `module.name` for every name imported from a module."""
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return modules | {
        f"{node.module}.{alias.name}"
        for node in nodes
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def files_that_import(files: list[Path], prefixes: tuple[str, ...]) -> dict[str, set[str]]:
    """Return the imports with one of the prefixes, for each file that has any."""
    return {
        relative_path(file): names
        for file in files
        if (names := {name for name in imported_names(file) if f"{name}.".startswith(prefixes)})
    }


def test_shared_contains_only_documented_packages() -> None:
    existing = {
        file.relative_to(ROOT / "shared").parts[0].removesuffix(".py")
        for file in python_files("shared")
    } - {"__init__"}
    assert existing - SHARED == set(), "describe the new package in docs/architecture.md, then here"


@pytest.mark.parametrize("folder", packages(), ids=relative_path)
def test_package_has_description(folder: Path) -> None:
    assert description(folder).startswith("# ") or description(folder).endswith((".", ":"))


@pytest.mark.parametrize("file", python_files(*APP), ids=relative_path)
def test_module_of_app_has_docstring(file: Path) -> None:
    assert ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))


def test_shared_does_not_import_azure_functions() -> None:
    prefixes = ("azure.durable_functions.", "azure.functions.")
    assert files_that_import(python_files("shared"), prefixes) == {}


def test_app_does_not_import_development_tools() -> None:
    prefixes = ("local.", "cli.", "bench.", "tests.", "partner_billing.")
    assert files_that_import(app_files(), prefixes) == {}


def test_app_does_not_return_management_urls() -> None:
    """The URLs of the management API contain the system key."""
    forbidden = (
        "create_check_status_response",
        "create_http_management_payload",
        "get_client_response_links",
    )
    files = [
        relative_path(file)
        for file in app_files()
        if any(name in file.read_text(encoding="utf-8") for name in forbidden)
    ]
    assert files == []
