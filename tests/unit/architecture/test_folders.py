"""The house has these rooms, each says what lives in it, and nobody looks back along the arrows."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
APP = ("triggers", "orchestrations", "activities", "shared")
SHARED = {
    "exports",
    "messages",
    "errors",
    "settings",
    "identity",
    "clock",
    "redaction",
    "retry_after",
    "telemetry",
    "urls",
    "manifest",
    "invoices",
    "due",
    "gaps",
    "tie_out",
    "services",
    "graph",
    "partner_center",
    "landing",
    "copying",
    "ledger",
    "preflight",
    "proxies",
}


def sources(*folders: str) -> list[Path]:
    return sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))


def packages() -> list[Path]:
    found = {file.parent for file in sources(*APP, "local")}
    return sorted(found | {ROOT / "tests" / "unit" / "architecture"})


def text(folder: Path) -> str:
    """What the folder says of itself: its docstring, else its README."""
    init, readme = folder / "__init__.py", folder / "README.md"
    said = ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))) if init.exists() else None
    return said or (readme.read_text(encoding="utf-8") if readme.exists() else "")


def imports(file: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return plain | {
        f"{node.module}.{alias.name}"
        for node in nodes
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_shared_is_a_closed_list() -> None:
    there = {
        path.stem for path in (ROOT / "shared").iterdir() if not path.name.startswith(("_", "."))
    } - {"README"}
    assert there <= SHARED, (
        "a new room in shared/ is a decision: write it into docs/architecture.md and here"
    )


@pytest.mark.parametrize("folder", packages(), ids=lambda folder: str(folder.relative_to(ROOT)))
def test_every_folder_says_what_lives_there(folder: Path) -> None:
    assert len(text(folder)) > 40


@pytest.mark.parametrize("file", sources(*APP), ids=lambda file: str(file.relative_to(ROOT)))
def test_every_module_of_the_app_says_what_it_is_for(file: Path) -> None:
    assert ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))


def test_the_domain_knows_nothing_of_durable_functions() -> None:
    wrong = {
        str(file.relative_to(ROOT)): names
        for file in sources("shared")
        if (
            names := {
                name
                for name in imports(file)
                if name.startswith(("azure.durable_functions", "azure.functions"))
            }
        )
    }
    assert not wrong


def test_the_app_never_knows_what_is_for_development_only() -> None:
    development = ("local.", "cli.", "bench.", "tests.", "partner_billing.")
    files = [*sources(*APP), *(file for file in [ROOT / "function_app.py"] if file.exists())]
    wrong = {
        str(file.relative_to(ROOT)): names
        for file in files
        if (names := {name for name in imports(file) if f"{name}.".startswith(development)})
    }
    assert not wrong


def test_no_answer_carries_the_address_of_the_management_api() -> None:
    """It holds the system key."""
    banned = (
        "create_check_status_response",
        "create_http_management_payload",
        "get_client_response_links",
    )
    files = [*sources(*APP), *(file for file in [ROOT / "function_app.py"] if file.exists())]
    assert not [
        str(file.relative_to(ROOT))
        for file in files
        if any(name in file.read_text(encoding="utf-8") for name in banned)
    ]
