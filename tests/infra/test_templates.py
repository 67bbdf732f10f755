"""Every template keeps every rule, and every rule can be broken."""

import re

import pytest

from shared.ledger.tables import TABLES
from tests.infra.bicep import INFRA, Template, parse, templates, walk
from tests.infra.rules import (
    RULES,
    Rule,
    declares_once,
    deletes_nothing,
    flex_takes_it,
    has_no_key,
    is_described,
    is_shut,
    is_tagged_and_placed,
    knows_every_name,
    knows_its_roles,
    tells_its_limits,
    uses_what_it_declares,
)

HEAD = "metadata name = 'Planted'\nmetadata description = 'Wrong on purpose.'\n"
ACCOUNT = """
resource account 'Microsoft.Storage/storageAccounts@2023-05-01' = {
  name: 'planted'
  properties: { %s }
}
"""
PLANTED: list[tuple[Rule, str, str]] = [  # rule, template, what must be told of it
    (is_described, "param location string\n", "parameter location"),
    (
        is_described,
        "@description('Optional. Where.')\nparam location string\n",
        "begins with 'Required. '",
    ),
    (is_described, "@description('Required. Where')\nparam location string\n", "full stop"),
    (is_described, "output id string = 'x'\n", "output id"),
    (
        tells_its_limits,
        "@description('Required. How many, 1 to 4.')\n@maxValue(5)\nparam n int\n",
        "does not say 5",
    ),
    (
        has_no_key,
        ACCOUNT % "" + "output key string = account.listKeys().keys[0].value\n",
        "listKeys",
    ),
    (has_no_key, "var x = listAccountSas('a', '2023-05-01', {})\n", "listAccountSas"),
    (has_no_key, "var x = 'DefaultEndpointsProtocol=https;AccountKey=x'\n", "AccountKey"),
    (is_shut, ACCOUNT % "allowSharedKeyAccess: true", "allowSharedKeyAccess must be False"),
    (is_shut, ACCOUNT % "allowSharedKeyAccess: false", "minimumTlsVersion must be TLS1_2"),
    (is_shut, ACCOUNT % "minimumTlsVersion: 'TLS1_0'", "minimumTlsVersion must be TLS1_2"),
    (
        is_shut,
        "resource app 'Microsoft.Web/sites@2024-04-01' = {\n  name: 'x'\n}\n",
        "httpsOnly must be True",
    ),
    (
        is_shut,
        "resource logs 'Microsoft.Insights/components@2020-02-02' = {\n  name: 'x'\n}\n",
        "DisableLocalAuth",
    ),
    (
        knows_its_roles,
        "var owner = '8e3af657-a8ff-443c-a75c-2fe8c4bcb635'\n",
        "no role that is known",
    ),
    (
        knows_its_roles,
        "var blobDataReader = 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'\n",
        "called something else",
    ),
    (
        knows_its_roles,
        "resource r 'Microsoft.Authorization/roleAssignments@2022-04-01' = {\n  name: 'x'\n}\n",
        "has no scope",
    ),
    (
        deletes_nothing,
        """
resource rules 'Microsoft.Storage/storageAccounts/managementPolicies@2023-05-01' = if (true) {
  name: 'default'
  properties: {
    policy: { rules: [{ definition: { actions: { baseBlob: { delete: { daysAfterModificationGreaterThan: 9 } } } } }] }
  }
}
""",
        "deletes",
    ),
    (is_tagged_and_placed, ACCOUNT % "", "no tags"),
    (
        is_tagged_and_placed,
        (ACCOUNT % "").replace("properties", "location: 'westeurope'\n  properties"),
        "region of its own",
    ),
    (
        flex_takes_it,
        "resource app 'Microsoft.Web/sites@2024-04-01' = {\n  properties: { siteConfig: { ftpsState: 'x' } }\n}\n",
        "refuses ftpsState",
    ),
    (
        flex_takes_it,
        "var settings = { FUNCTIONS_WORKER_RUNTIME: 'python' }\n",
        "refuses FUNCTIONS_WORKER_RUNTIME",
    ),
    (declares_once, "var a = 1\nvar b = a\nvar a = 2\n", "a is declared twice"),
    (declares_once, "output a int = 1\noutput a int = 2\n", "a is declared twice"),
    (knows_every_name, "var a = lokation\n", "lokation is declared nowhere"),
    (knows_every_name, "param a string\nvar b = 'x-${a}-${tokn}'\n", "tokn is declared nowhere"),
    (knows_every_name, "param a bool\nvar b = a ? yes : 'no'\n", "yes is declared nowhere"),
    (knows_every_name, "var a = [for x in [1]: { name: y }]\n", "y is declared nowhere"),
    (
        uses_what_it_declares,
        "param forgotten string\nvar told = { forgotten: 'forgotten' }\noutput o object = told\n",
        "forgotten is not used",
    ),
    (uses_what_it_declares, "var forgotten = 1\n", "forgotten is not used"),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("template", templates().values(), ids=lambda template: template.name)
def test_every_template_keeps_every_rule(template: Template, rule: Rule) -> None:
    assert list(rule(template)) == []


@pytest.mark.parametrize(
    ("rule", "planted", "told"), PLANTED, ids=lambda value: getattr(value, "__name__", None)
)
def test_a_template_that_breaks_the_rule_is_found(rule: Rule, planted: str, told: str) -> None:
    assert told in "\n".join(rule(parse(HEAD + planted)))


def test_every_rule_is_shown_to_be_able_to_fail() -> None:
    assert {rule for rule, _, _ in PLANTED} == set(RULES)


def test_there_are_templates() -> None:
    assert {"main.bicep", "modules/identity.bicep", "modules/function-app.bicep"} <= set(
        templates()
    )


def test_a_resource_type_has_one_version() -> None:
    versions: dict[str, set[str]] = {}
    for template in templates().values():
        for resource in template.tree.get("resources", {}).values():
            versions.setdefault(resource["type"], set()).add(resource["api_version"])
    assert {kind: found for kind, found in versions.items() if len(found) > 1} == {}


def test_the_plan_is_what_the_app_is_built_for() -> None:
    app = templates()["modules/function-app.bicep"]
    plan = next(said for _, _, said in app.resources("Microsoft.Web/serverfarms"))
    assert plan["sku"] == {"tier": "FlexConsumption", "name": "FC1"}
    site = next(said for _, _, said in app.resources("Microsoft.Web/sites"))
    config = site["properties"]["functionAppConfig"]
    assert config["runtime"] == {"name": "python", "version": "3.11"}
    assert config["deployment"]["storage"]["authentication"]["type"] == "UserAssignedIdentity"
    assert site["identity"]["type"] == "UserAssigned"
    assert ("name", "durable") in list(walk(config["scaleAndConcurrency"]))
    main = templates()["main.bicep"].parameters
    assert (main["instanceMemoryMB"]["default"], main["alwaysReadyInstances"]["default"]) == (
        2048,
        1,
    )
    doors = app.resources("Microsoft.Web/sites/basicPublishingCredentialsPolicies")
    assert {said["name"] for _, _, said in doors} == {"scm"}


def test_roles_are_as_narrow_as_they_work() -> None:
    found = {
        (
            template.name,
            name,
            str(
                said["scope"]
                if isinstance(said["scope"], str)
                else dict(walk(said["scope"]))["operand_1"]
            ),
        )
        for template in templates().values()
        for name, _, said in template.resources("Microsoft.Authorization/roleAssignments")
    }
    assert found == {
        ("modules/landing-access.bicep", "writesBlobs", "container"),  # no other container
        ("modules/landing-access.bicep", "readsBlobs", "container"),
        ("modules/landing-access.bicep", "writesAllTables", "account"),  # where nothing is said
        ("modules/landing-access.bicep", "writesTables", "tables"),  # five
        ("modules/role-assignments.bicep", "ownsHostStorage", "hostAccount"),
        ("modules/role-assignments.bicep", "sendsTelemetry", "applicationInsights"),
    }


def test_the_tables_that_are_made_are_those_of_the_ledger() -> None:
    landing = templates()["modules/landing-access.bicep"]
    assert tuple(landing.tree["variables"]["tableNames"]["value"]) == TABLES
    assert templates()["main.bicep"].parameters["ledgerRoleScope"]["default"] == "account"


def test_folders_or_versions_and_soft_delete_always() -> None:
    landing = templates()["modules/landing-storage.bicep"]
    said = dict(
        walk(next(said for _, _, said in landing.resources("Microsoft.Storage/storageAccounts")))
    )
    assert said["isHnsEnabled"] == "hierarchicalNamespace"
    service = next(
        said for _, _, said in landing.resources("Microsoft.Storage/storageAccounts/blobServices")
    )["properties"]
    assert re.search(r"isVersioningEnabled: !hierarchicalNamespace\b", landing.source)
    kept = {"enabled": True, "days": "softDeleteDays"}
    assert service["deleteRetentionPolicy"] == service["containerDeleteRetentionPolicy"] == kept


def test_only_billed_versions_are_tiered() -> None:
    """Unbilled ones are pruned within days, and the cool tier is charged for 30 at least."""
    assert re.findall(
        r"prefixMatch: (\[.*\])",
        (INFRA / "modules" / "landing-storage.bicep").read_text(encoding="utf-8"),
    ) == ["['${data}/billed_usage/', '${data}/billed_reconciliation/']"]
