"""Names are as long and as plain as Azure allows, whatever the parameters are."""

import re
from collections.abc import Mapping

import pytest

from tests.infra.bicep import Template, abbreviations, body, decorator, parse, templates

HASH = 13  # letters and digits that uniqueString makes (Bicep functions for strings)
LIMITS = {  # least, most, what may stand in it (Naming rules and restrictions for Azure resources)
    "Microsoft.Storage/storageAccounts": (3, 24, r"[a-z0-9]+"),
    "Microsoft.Web/sites": (
        2,
        32,
        r"[a-z0-9-]+",
    ),  # Azure takes 60, and the host tells two apps apart by 32 of them
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
MAIN = templates()["main.bicep"]


def longest(expression: str, known: Mapping[str, str]) -> str:
    """The name that an expression of main.bicep makes, with a hash of full length."""
    name = re.sub(r"\$\{abbreviations\.(\w+)\}", lambda match: known[match[1]], expression)
    name = name.replace("${token}", "a" * HASH)
    assert "${" not in name, f"{expression}: nobody knows how long that is"
    return name


def names() -> list[tuple[str, str, str]]:
    """Type, how it is named, the longest name."""
    found = []
    for module in MAIN.modules.values():
        template = templates()[module["detail"]["path"]]
        passed = body(module["config"])["params"]
        for _, resource, said in template.resources():
            if resource["type"] in LIMITS:
                named = str(said["name"]).replace(
                    "${endpoint.name}", "landing-table"
                )  # the longest of them
                parameter = re.sub(r"^\$\{(\w+)\}.*", r"\1", named)
                begin = longest(passed[parameter], abbreviations())
                whole = begin if named == parameter else named.replace(f"${{{parameter}}}", begin)
                found.append((resource["type"], f"{template.name}:{parameter}", whole))
    return found


@pytest.mark.parametrize(
    ("kind", "where", "name"), names(), ids=lambda value: value.rpartition("/")[2]
)
def test_a_name_is_within_the_limits_of_its_type(kind: str, where: str, name: str) -> None:
    least, most, form = LIMITS[kind]
    assert least <= len(name) <= most and re.fullmatch(form, name), (where, name)


def test_every_resource_whose_name_we_make_is_looked_at() -> None:
    made = {
        resource["type"]
        for path, template in templates().items()
        if path.startswith("modules/")
        for _, resource, said in template.resources()
        if re.match(r"^(name|\w+Name|\$\{namePrefix\}.*)$", str(said.get("name")))
    }
    assert (
        made - set(LIMITS)
        <= {
            "Microsoft.Storage/storageAccounts/blobServices/containers",  # named by the operator, within a constraint
            "Microsoft.Network/privateDnsZones",
            "Microsoft.Network/privateDnsZones/virtualNetworkLinks",
        }
    )
    assert {kind for kind, _, _ in names()} == set(LIMITS)


def test_a_name_that_is_too_long_is_found() -> None:
    assert (
        len(longest("${abbreviations.storageAccount}partnerland${token}", {"storageAccount": "st"}))
        > 24
    )
    with pytest.raises(AssertionError, match="nobody knows"):
        longest("st${environmentName}", {})


@pytest.mark.parametrize(
    "path", sorted(path for path in templates() if path.startswith("modules/"))
)
def test_a_parameter_that_names_an_account_has_the_limits_of_one(path: str) -> None:
    assert list(unlimited(templates()[path])) == []


def unlimited(template: Template) -> list[str]:
    parameters = template.parameters
    said = {
        str(one["config"].get("name"))
        for one in template.tree.get("resources", {}).values()
        if one["type"] == "Microsoft.Storage/storageAccounts"
    }
    return [
        name
        for name in said & set(parameters)
        if (decorator(parameters[name], "min_length"), decorator(parameters[name], "max_length"))
        != (3, 24)
    ]


def test_an_account_without_limits_is_found() -> None:
    planted = "param name string\nresource a 'Microsoft.Storage/storageAccounts@2023-05-01' = {\n  name: name\n}\n"
    assert unlimited(parse(planted)) == ["name"]


def test_every_abbreviation_is_used() -> None:
    assert set(re.findall(r"\babbreviations\.(\w+)\}", MAIN.source)) == set(abbreviations())
