"""What the documents say of the templates is so."""

import json
import re
from pathlib import Path

import pytest

from tests.infra.bicep import INFRA, ROOT, decorator, templates
from tests.infra.test_modules import modules_of

DOCUMENTS = [
    INFRA / "README.md",
    INFRA / "graph" / "README.md",
    *(ROOT / "docs" / f"{name}.md" for name in ("deploy", "upgrade", "cost")),
]
MAIN = templates()["main.bicep"]
NOT_OURS = {  # of Azure, host.json or Entra
    "allowedCopyScope",
    "defaultVersion",
    "versionMatchStrategy",
    "versionFailureStrategy",
    "partitionCount",
    "clientId",
}
CAMEL = re.compile(r"`([a-z]+[A-Z]\w*)(?: ?= ?[^`]*)?`|param (\w+) =")


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_parameter_and_output_that_is_named_exists(file: Path) -> None:
    named = {first or second for first, second in CAMEL.findall(file.read_text(encoding="utf-8"))}
    known = {
        name
        for template in templates().values()
        for name in (*template.parameters, *template.outputs)
    }
    assert named <= known | NOT_OURS


def test_every_output_is_wanted_by_somebody() -> None:
    readers = "".join(
        file.read_text(encoding="utf-8") for file in (*DOCUMENTS, INFRA / "hooks" / "hook.py")
    )
    assert {name for name in MAIN.outputs if name not in readers} == set()


def test_the_tables_of_the_readme_have_the_defaults() -> None:
    text = (INFRA / "README.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| `(\w+)` \| ([^\s|,]+)[^|]*\| ",
        text.partition("## What you may choose")[2],
        flags=re.MULTILINE,
    )
    told = {name: value.strip("`,") for name, value in rows}
    assert len(told) > 8
    for name, value in told.items():
        default = MAIN.parameters[name].get("default")
        said = {"None": "none", "[]": "none", "": "one", "True": "true", "False": "false"}.get(
            str(default), str(default)
        )
        assert value == said, name


def test_every_module_is_in_the_readme() -> None:
    text = (INFRA / "README.md").read_text(encoding="utf-8")
    assert {path for _, path, _ in modules_of(MAIN) if f"]({path})" not in text} == set()


@pytest.mark.parametrize(
    "row",
    re.findall(
        r"^\| [^|]+ \| ([\d.×+ ]+) \| ([\d.]+) \|$",
        (ROOT / "docs" / "cost.md").read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    ),
)
def test_the_example_is_calculated_right(row: tuple[str, str]) -> None:
    product = 1.0
    for factor in row[0].split("×"):
        product *= float(factor)
    assert f"{product:.2f}" == row[1]


def test_the_example_is_of_the_template() -> None:
    """A day less two busy hours, for a month, with the memory and the instances of the defaults."""
    instances, memory = (
        MAIN.parameters["alwaysReadyInstances"]["default"],
        MAIN.parameters["instanceMemoryMB"]["default"] // 1024,
    )
    idle = f"{instances} × {memory} × {22 * 3600 * 30} × "
    assert idle in (ROOT / "docs" / "cost.md").read_text(encoding="utf-8")


def test_the_example_pays_for_every_alarm() -> None:
    rules = json.loads((INFRA / "alerts" / "rules.json").read_text(encoding="utf-8"))
    assert f"| {len(rules)} × " in (ROOT / "docs" / "cost.md").read_text(encoding="utf-8")


def test_host_json_and_the_template_agree() -> None:
    host = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))["extensions"]["durableTask"]
    hub = MAIN.parameters["taskHubName"]
    assert host["hubName"] == "%TASK_HUB_NAME%" and (
        decorator(hub, "min_length"),
        decorator(hub, "max_length"),
    ) == (3, 45)
    assert host["tracing"]["version"] == "V2" and host["tracing"]["traceInputsAndOutputs"] is False
    assert (
        host["storageProvider"]["type"] == "AzureStorage"
    )  # what the roles on the host's account are for
    assert (host["versionMatchStrategy"], host["versionFailureStrategy"]) == (
        "CurrentOrOlder",
        "Reject",
    )


def test_what_is_deployed_is_what_the_hooks_and_documents_name() -> None:
    for file in ("azure.yaml", "docs/deploy.md", "infra/hooks/hook.py"):
        assert "dist/partner-billing-export.zip" in (ROOT / file).read_text(encoding="utf-8"), file
