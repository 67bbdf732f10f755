"""Resource names comply with the Azure naming rules for all parameter values."""

import re
from collections.abc import Mapping

import pytest

from tests.support.bicep import (
    Template,
    get_body,
    get_decorator,
    load_abbreviations,
    load_templates,
    parse_template,
)

HASH_LENGTH = 13  # characters of uniqueString (Bicep functions for strings)
# Minimum length, maximum length and pattern (Naming rules and restrictions for Azure resources).
LIMITS = {
    "Microsoft.Storage/storageAccounts": (3, 24, r"[a-z0-9]+"),
    # Azure allows 60 characters, but the host distinguishes apps by the first 32.
    "Microsoft.Web/sites": (2, 32, r"[a-z0-9-]+"),
    "Microsoft.Web/serverfarms": (1, 60, r"[a-z0-9-]+"),
    "Microsoft.ManagedIdentity/userAssignedIdentities": (3, 128, r"[a-z0-9-]+"),
    "Microsoft.OperationalInsights/workspaces": (4, 63, r"[a-z0-9-]+"),
    "Microsoft.Insights/components": (1, 260, r"[a-z0-9-]+"),
    "Microsoft.Insights/actionGroups": (1, 260, r"[a-z0-9-]+"),
    "Microsoft.Network/virtualNetworks": (2, 64, r"[a-z0-9-]+"),
    "Microsoft.Network/natGateways": (1, 80, r"[a-z0-9-]+"),
    "Microsoft.Network/publicIPAddresses": (1, 80, r"[a-z0-9-]+"),
    "Microsoft.Network/privateEndpoints": (2, 64, r"[a-z0-9-]+"),
}
MAIN = load_templates()["main.bicep"]


def get_longest_name(expression: str, known: Mapping[str, str]) -> str:
    """Return the longest name that an expression in main.bicep can produce."""
    name = re.sub(r"\$\{abbreviations\.(\w+)\}", lambda match: known[match[1]], expression)
    name = name.replace("${token}", "a" * HASH_LENGTH)
    assert "${" not in name, f"{expression}: the length is unknown"
    return name


def list_longest_names() -> list[tuple[str, str, str]]:
    """Return the resource type, parameter and longest name of each resource."""
    resources = []
    for module in MAIN.modules.values():
        template = load_templates()[module["detail"]["path"]]
        passed = get_body(module["config"])["params"]
        for _, resource, body in template.resources():
            if resource["type"] in LIMITS:
                expression = str(body["name"]).replace(
                    "${endpoint.name}", "landing-table"
                )  # the longest endpoint name
                parameter = re.sub(r"^\$\{(\w+)\}.*", r"\1", expression)
                prefix = get_longest_name(passed[parameter], load_abbreviations())
                name = (
                    prefix
                    if expression == parameter
                    else expression.replace(f"${{{parameter}}}", prefix)
                )
                resources.append((resource["type"], f"{template.name}:{parameter}", name))
    return resources


@pytest.mark.parametrize(
    ("kind", "parameter", "name"), list_longest_names(), ids=lambda value: value.rpartition("/")[2]
)
def test_resource_name_complies_with_naming_rule(kind: str, parameter: str, name: str) -> None:
    min_length, max_length, pattern = LIMITS[kind]
    assert min_length <= len(name) <= max_length, parameter
    assert re.fullmatch(pattern, name), parameter


def test_limits_include_every_named_resource_type() -> None:
    types = {
        resource["type"]
        for path, template in load_templates().items()
        if path.startswith("modules/")
        for _, resource, body in template.resources()
        if re.match(r"^(name|\w+Name|\$\{namePrefix\}.*)$", str(body.get("name")))
    }
    assert types - set(LIMITS) <= {
        # A parameter with limits specifies the name of the container.
        "Microsoft.Storage/storageAccounts/blobServices/containers",
        "Microsoft.Network/privateDnsZones",
        "Microsoft.Network/privateDnsZones/virtualNetworkLinks",
    }
    assert {kind for kind, _, _ in list_longest_names()} == set(LIMITS)


def test_longest_name_detects_long_and_unknown_names() -> None:
    assert (
        len(
            get_longest_name(
                "${abbreviations.storageAccount}partnerland${token}", {"storageAccount": "st"}
            )
        )
        > 24
    )
    with pytest.raises(AssertionError, match="length is unknown"):
        get_longest_name("st${environmentName}", {})


@pytest.mark.parametrize(
    "path", sorted(path for path in load_templates() if path.startswith("modules/"))
)
def test_account_name_parameter_has_limits(path: str) -> None:
    assert list(find_missing_limits(load_templates()[path])) == []


def find_missing_limits(template: Template) -> list[str]:
    """Return the parameters for storage account names that do not have the length limits."""
    parameters = template.parameters
    account_names = {
        str(resource["config"].get("name"))
        for resource in template.tree.get("resources", {}).values()
        if resource["type"] == "Microsoft.Storage/storageAccounts"
    }
    return [
        name
        for name in account_names & set(parameters)
        if (
            get_decorator(parameters[name], "min_length"),
            get_decorator(parameters[name], "max_length"),
        )
        != (3, 24)
    ]


def test_find_missing_limits_returns_parameter() -> None:
    source = (
        "param name string\n"
        "resource a 'Microsoft.Storage/storageAccounts@2023-05-01' = {\n  name: name\n}\n"
    )
    assert find_missing_limits(parse_template(source)) == ["name"]


def test_main_template_uses_every_abbreviation() -> None:
    assert set(re.findall(r"\babbreviations\.(\w+)\}", MAIN.source)) == set(load_abbreviations())
