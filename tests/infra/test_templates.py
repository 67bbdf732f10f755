"""Every template complies with every rule, and every rule detects a violation."""

import re

import pytest

from shared.ledger.tables import TABLES
from tests.infra.rules import (
    RULES,
    Rule,
    check_deletion_rules,
    check_descriptions,
    check_documented_limits,
    check_duplicate_declarations,
    check_flex_consumption,
    check_keys,
    check_roles,
    check_security_properties,
    check_tags_and_location,
    check_undeclared_names,
    check_unused_declarations,
)
from tests.support.bicep import INFRA, Template, load_templates, parse_template, walk

HEAD = "metadata name = 'Test'\nmetadata description = 'Violates a rule.'\n"
ACCOUNT = """
resource account 'Microsoft.Storage/storageAccounts@2023-05-01' = {
  name: 'test'
  properties: { %s }
}
"""
VIOLATIONS: list[tuple[Rule, str, str]] = [  # rule, template, part of the message
    (check_descriptions, "param location string\n", "parameter location"),
    (
        check_descriptions,
        "@description('Optional. Where.')\nparam location string\n",
        "must start with 'Required. '",
    ),
    (
        check_descriptions,
        "@description('Required. Where')\nparam location string\n",
        "end with '.'",
    ),
    (check_descriptions, "output id string = 'x'\n", "output id"),
    (
        check_documented_limits,
        "@description('Required. How many, 1 to 4.')\n@maxValue(5)\nparam n int\n",
        "the limit 5",
    ),
    (
        check_keys,
        ACCOUNT % "" + "output key string = account.listKeys().keys[0].value\n",
        "listKeys",
    ),
    (check_keys, "var x = listAccountSas('a', '2023-05-01', {})\n", "listAccountSas"),
    (check_keys, "var x = 'DefaultEndpointsProtocol=https;AccountKey=x'\n", "AccountKey"),
    (
        check_security_properties,
        ACCOUNT % "allowSharedKeyAccess: true",
        "allowSharedKeyAccess must be False",
    ),
    (
        check_security_properties,
        ACCOUNT % "allowSharedKeyAccess: false",
        "minimumTlsVersion must be TLS1_2",
    ),
    (
        check_security_properties,
        ACCOUNT % "minimumTlsVersion: 'TLS1_0'",
        "minimumTlsVersion must be TLS1_2",
    ),
    (
        check_security_properties,
        "resource app 'Microsoft.Web/sites@2024-04-01' = {\n  name: 'x'\n}\n",
        "httpsOnly must be True",
    ),
    (
        check_security_properties,
        "resource logs 'Microsoft.Insights/components@2020-02-02' = {\n  name: 'x'\n}\n",
        "DisableLocalAuth",
    ),
    (
        check_roles,
        "var owner = '8e3af657-a8ff-443c-a75c-2fe8c4bcb635'\n",
        "unknown role",
    ),
    (
        check_roles,
        "var blobDataReader = 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'\n",
        "must have the name blobDataOwner",
    ),
    (
        check_roles,
        "resource r 'Microsoft.Authorization/roleAssignments@2022-04-01' = {\n  name: 'x'\n}\n",
        "has no scope",
    ),
    (
        check_deletion_rules,
        """
resource rules 'Microsoft.Storage/storageAccounts/managementPolicies@2023-05-01' = if (true) {
  name: 'default'
  properties: {
    policy: {
      rules: [
        {
          definition: {
            actions: { baseBlob: { delete: { daysAfterModificationGreaterThan: 9 } } }
          }
        }
      ]
    }
  }
}
""",
        "deletes",
    ),
    (check_tags_and_location, ACCOUNT % "", "no tags"),
    (
        check_tags_and_location,
        (ACCOUNT % "").replace("properties", "location: 'westeurope'\n  properties"),
        "must use the location parameter",
    ),
    (
        check_flex_consumption,
        "resource app 'Microsoft.Web/sites@2024-04-01' = {\n"
        "  properties: { siteConfig: { ftpsState: 'x' } }\n}\n",
        "does not support ftpsState",
    ),
    (
        check_flex_consumption,
        "var settings = { FUNCTIONS_WORKER_RUNTIME: 'python' }\n",
        "does not support FUNCTIONS_WORKER_RUNTIME",
    ),
    (check_duplicate_declarations, "var a = 1\nvar b = a\nvar a = 2\n", "a is declared twice"),
    (check_duplicate_declarations, "output a int = 1\noutput a int = 2\n", "a is declared twice"),
    (check_undeclared_names, "var a = lokation\n", "lokation is not declared"),
    (
        check_undeclared_names,
        "param a string\nvar b = 'x-${a}-${tokn}'\n",
        "tokn is not declared",
    ),
    (check_undeclared_names, "param a bool\nvar b = a ? yes : 'no'\n", "yes is not declared"),
    (check_undeclared_names, "var a = [for x in [1]: { name: y }]\n", "y is not declared"),
    (
        check_unused_declarations,
        "param unused string\nvar used = { unused: 'unused' }\noutput o object = used\n",
        "unused is not used",
    ),
    (check_unused_declarations, "var unused = 1\n", "unused is not used"),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("template", load_templates().values(), ids=lambda template: template.name)
def test_template_complies_with_rule(template: Template, rule: Rule) -> None:
    assert list(rule(template)) == []


@pytest.mark.parametrize(
    ("rule", "source", "message"), VIOLATIONS, ids=lambda value: getattr(value, "__name__", None)
)
def test_rule_with_violation_returns_message(rule: Rule, source: str, message: str) -> None:
    assert message in "\n".join(rule(parse_template(HEAD + source)))


def test_every_rule_has_violation() -> None:
    assert {rule for rule, _, _ in VIOLATIONS} == set(RULES)


def test_load_templates_includes_main_and_modules() -> None:
    assert {"main.bicep", "modules/identity.bicep", "modules/function-app.bicep"} <= set(
        load_templates()
    )


def test_resource_type_has_one_api_version() -> None:
    versions: dict[str, set[str]] = {}
    for template in load_templates().values():
        for resource in template.tree.get("resources", {}).values():
            versions.setdefault(resource["type"], set()).add(resource["api_version"])
    assert {kind: used for kind, used in versions.items() if len(used) > 1} == {}


def test_function_app_uses_flex_consumption_and_managed_identity() -> None:
    app = load_templates()["modules/function-app.bicep"]
    plan = next(body for _, _, body in app.resources("Microsoft.Web/serverfarms"))
    assert plan["sku"] == {"tier": "FlexConsumption", "name": "FC1"}
    site = next(body for _, _, body in app.resources("Microsoft.Web/sites"))
    config = site["properties"]["functionAppConfig"]
    assert config["runtime"] == {"name": "python", "version": "3.11"}
    assert config["deployment"]["storage"]["authentication"]["type"] == "UserAssignedIdentity"
    assert site["identity"]["type"] == "UserAssigned"
    assert ("name", "durable") in list(walk(config["scaleAndConcurrency"]))
    main = load_templates()["main.bicep"].parameters
    assert (main["instanceMemoryMB"]["default"], main["alwaysReadyInstances"]["default"]) == (
        2048,
        1,
    )
    policies = app.resources("Microsoft.Web/sites/basicPublishingCredentialsPolicies")
    assert {body["name"] for _, _, body in policies} == {"scm"}


def test_role_assignments_have_narrow_scopes() -> None:
    assignments = {
        (
            template.name,
            name,
            str(
                body["scope"]
                if isinstance(body["scope"], str)
                else dict(walk(body["scope"]))["operand_1"]
            ),
        )
        for template in load_templates().values()
        for name, _, body in template.resources("Microsoft.Authorization/roleAssignments")
    }
    assert assignments == {
        ("modules/landing-access.bicep", "writesBlobs", "container"),  # only the landing container
        ("modules/landing-access.bicep", "readsBlobs", "container"),
        ("modules/landing-access.bicep", "writesAllTables", "account"),  # default scope
        ("modules/landing-access.bicep", "writesTables", "tables"),  # the five tables of the ledger
        ("modules/role-assignments.bicep", "ownsHostStorage", "hostAccount"),
        ("modules/role-assignments.bicep", "sendsTelemetry", "applicationInsights"),
    }


def test_landing_access_creates_tables_of_ledger() -> None:
    landing = load_templates()["modules/landing-access.bicep"]
    assert tuple(landing.tree["variables"]["tableNames"]["value"]) == TABLES
    assert load_templates()["main.bicep"].parameters["ledgerRoleScope"]["default"] == "account"


def test_landing_account_has_soft_delete_and_folders_or_versioning() -> None:
    landing = load_templates()["modules/landing-storage.bicep"]
    properties = dict(
        walk(next(body for _, _, body in landing.resources("Microsoft.Storage/storageAccounts")))
    )
    assert properties["isHnsEnabled"] == "hierarchicalNamespace"
    service = next(
        body for _, _, body in landing.resources("Microsoft.Storage/storageAccounts/blobServices")
    )["properties"]
    assert re.search(r"isVersioningEnabled: !hierarchicalNamespace\b", landing.source)
    retention = {"enabled": True, "days": "softDeleteDays"}
    assert (
        service["deleteRetentionPolicy"] == service["containerDeleteRetentionPolicy"] == retention
    )


def test_cool_tier_applies_to_billed_versions_only() -> None:
    """Unbilled versions are pruned within days, and the cool tier charges for at least 30 days."""
    assert re.findall(
        r"prefixMatch: (\[.*\])",
        (INFRA / "modules" / "landing-storage.bicep").read_text(encoding="utf-8"),
    ) == ["['${data}/billed_usage/', '${data}/billed_reconciliation/']"]
