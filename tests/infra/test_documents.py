"""The documents match the templates."""

import json
import re
from pathlib import Path

import pytest

from tests.infra.test_modules import list_modules
from tests.support.bicep import INFRA, ROOT, get_decorator, load_templates

DOCUMENTS = [
    INFRA / "README.md",
    INFRA / "graph" / "README.md",
    *(ROOT / "docs" / f"{name}.md" for name in ("deploy", "upgrade", "cost")),
]
MAIN = load_templates()["main.bicep"]
EXTERNAL_NAMES = {  # of Azure, host.json or Entra
    "allowedCopyScope",
    "defaultVersion",
    "versionMatchStrategy",
    "versionFailureStrategy",
    "partitionCount",
    "clientId",
}
CAMEL = re.compile(r"`([a-z]+[A-Z]\w*)(?: ?= ?[^`]*)?`|param (\w+) =")


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_document_parameters_and_outputs_exist(file: Path) -> None:
    named = {first or second for first, second in CAMEL.findall(file.read_text(encoding="utf-8"))}
    known = {
        name
        for template in load_templates().values()
        for name in (*template.parameters, *template.outputs)
    }
    assert named <= known | EXTERNAL_NAMES


def test_main_template_outputs_are_documented_or_used() -> None:
    readers = "".join(
        file.read_text(encoding="utf-8") for file in (*DOCUMENTS, INFRA / "hooks" / "hook.py")
    )
    assert {name for name in MAIN.outputs if name not in readers} == set()


def test_readme_parameter_table_has_defaults_of_main_template() -> None:
    text = (INFRA / "README.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| `(\w+)` \| ([^\s|,]+)[^|]*\| ",
        text.partition("## Parameters")[2],
        flags=re.MULTILINE,
    )
    documented = {name: value.strip("`,") for name, value in rows}
    assert "partnerTenantId" in documented and "keepVersionsUnbilled" in documented
    for name, value in documented.items():
        default = MAIN.parameters[name].get("default")
        expected = {"None": "none", "[]": "none", "": "new", "True": "true", "False": "false"}.get(
            str(default), str(default)
        )
        assert value == expected, name


def test_readme_lists_every_module() -> None:
    text = (INFRA / "README.md").read_text(encoding="utf-8")
    assert {path for _, path, _ in list_modules(MAIN) if f"]({path})" not in text} == set()


@pytest.mark.parametrize(
    "row",
    re.findall(
        r"^\| [^|]+ \| ([\d.×+ ]+) \| ([\d.]+) \|$",
        (ROOT / "docs" / "cost.md").read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    ),
)
def test_cost_example_products_are_correct(row: tuple[str, str]) -> None:
    product = 1.0
    for factor in row[0].split("×"):
        product *= float(factor)
    assert f"{product:.2f}" == row[1]


def test_cost_example_uses_defaults_of_main_template() -> None:
    """The idle time is 22 hours a day for 30 days, with the default memory and instances."""
    instances, memory = (
        MAIN.parameters["alwaysReadyInstances"]["default"],
        MAIN.parameters["instanceMemoryMB"]["default"] // 1024,
    )
    idle = f"{instances} × {memory} × {22 * 3600 * 30} × "
    assert idle in (ROOT / "docs" / "cost.md").read_text(encoding="utf-8")


def test_cost_example_includes_every_alert_rule() -> None:
    rules = json.loads((INFRA / "alerts" / "rules.json").read_text(encoding="utf-8"))
    assert f"| {len(rules)} × " in (ROOT / "docs" / "cost.md").read_text(encoding="utf-8")


def test_host_json_and_main_template_agree() -> None:
    host = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))["extensions"]["durableTask"]
    hub = MAIN.parameters["taskHubName"]
    assert host["hubName"] == "%TASK_HUB_NAME%" and (
        get_decorator(hub, "min_length"),
        get_decorator(hub, "max_length"),
    ) == (3, 45)
    assert host["tracing"]["version"] == "V2" and host["tracing"]["traceInputsAndOutputs"] is False
    assert (
        host["storageProvider"]["type"] == "AzureStorage"
    )  # determines the roles on the host account
    assert (host["versionMatchStrategy"], host["versionFailureStrategy"]) == (
        "CurrentOrOlder",
        "Reject",
    )


def test_hooks_and_documents_name_the_deployment_package() -> None:
    for file in ("azure.yaml", "docs/deploy.md", "infra/hooks/hook.py"):
        assert "dist/partner-billing-export.zip" in (ROOT / file).read_text(encoding="utf-8"), file
