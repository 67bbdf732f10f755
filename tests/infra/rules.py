"""Rules for Bicep templates. A rule yields a message for each violation in a template."""

import re
from collections.abc import Callable, Iterator

from tests.support.bicep import Template, count_uses, get_decorator, walk

Rule = Callable[[Template], Iterator[str]]

ROLES = {  # IDs of built-in Azure roles, which are the same in every tenant
    "ba92f5b4-2d11-453d-a403-e96b0029c9fe": "blobDataContributor",
    "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1": "blobDataReader",
    "b7e6dc6d-f1e8-4753-8033-0f276bb0955b": "blobDataOwner",
    "974c5e8b-45b9-4653-ba55-5f855dd0fb88": "queueDataContributor",
    "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3": "tableDataContributor",
    "3913510d-42f4-4e42-8a64-420c390055eb": "monitoringMetricsPublisher",
}
APPLICATIONS = {"00000003-0000-0000-c000-000000000000": "microsoftGraph"}
GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
REQUIRED_PROPERTIES = {  # resource type -> properties, at any depth
    "Microsoft.Storage/storageAccounts": {
        "allowSharedKeyAccess": False,
        "allowBlobPublicAccess": False,
        "allowCrossTenantReplication": False,
        "defaultToOAuthAuthentication": True,
        "minimumTlsVersion": "TLS1_2",
        "supportsHttpsTrafficOnly": True,
    },
    "Microsoft.Storage/storageAccounts/blobServices/containers": {"publicAccess": "None"},
    "Microsoft.Web/sites": {"httpsOnly": True, "minTlsVersion": "1.2", "scmMinTlsVersion": "1.2"},
    "Microsoft.Web/sites/basicPublishingCredentialsPolicies": {"allow": False},
    "Microsoft.Insights/components": {"DisableLocalAuth": True},
    "Microsoft.OperationalInsights/workspaces": {"disableLocalAuth": True},
}
# Properties and settings that Flex Consumption rejects (App settings reference, Flex Consumption
# deprecations).
FLEX_UNSUPPORTED = {
    "alwaysOn",
    "containerSize",
    "ftpsState",
    "functionAppScaleLimit",
    "javaVersion",
    "linuxFxVersion",
    "netFrameworkVersion",
    "nodeVersion",
    "phpVersion",
    "powerShellVersion",
    "preWarmedInstanceCount",
    "pythonVersion",
    "use32BitWorkerProcess",
    "vnetContentShareEnabled",
    "vnetImagePullEnabled",
    "vnetRouteAllEnabled",
    "windowsFxVersion",
    "ENABLE_ORYX_BUILD",
    "FUNCTIONS_EXTENSION_VERSION",
    "FUNCTIONS_WORKER_PROCESS_COUNT",
    "FUNCTIONS_WORKER_RUNTIME",
    "FUNCTIONS_WORKER_RUNTIME_VERSION",
    "SCM_DO_BUILD_DURING_DEPLOYMENT",
    "WEBSITE_CONTENTAZUREFILECONNECTIONSTRING",
    "WEBSITE_CONTENTOVERVNET",
    "WEBSITE_CONTENTSHARE",
    "WEBSITE_RUN_FROM_PACKAGE",
    "WEBSITE_TIME_ZONE",
    "WEBSITE_VNET_ROUTE_ALL",
}
KEYWORDS = {"var", "existing", "if", "for", "in", "true", "false", "null"}
UNTAGGED = re.compile(  # resource types without tags
    r"(?i)roleAssignments|diagnosticSettings|blobServices|tableServices|managementPolicies"
    r"|basicPublishing|privateDnsZoneGroups|Microsoft\.Graph/|containers$"
)


def check_descriptions(template: Template) -> Iterator[str]:
    """Require a description for the template and for each parameter and output."""
    metadata = template.tree.get("metadata", {})
    for name in ("name", "description"):
        if name not in metadata:
            yield f"metadata {name} is missing"
    for name, declaration in template.parameters.items():
        description = get_decorator(declaration, "description") or ""
        prefix = "Required. " if declaration.get("default") is None else "Optional. "
        if not description.startswith(prefix) or not description.endswith("."):
            yield f"parameter {name}: the description must start with '{prefix}' and end with '.'"
    for name, declaration in template.outputs.items():
        if not (get_decorator(declaration, "description") or "").endswith("."):
            yield f"output {name}: the description is missing or does not end with '.'"


def check_documented_limits(template: Template) -> Iterator[str]:
    """Require that the descriptions in main.bicep contain the limits that Azure enforces."""
    if template.name not in ("main.bicep", "test.bicep"):
        return
    for name, declaration in template.parameters.items():
        description = get_decorator(declaration, "description") or ""
        for kind in ("min_value", "max_value", "max_length"):
            limit = get_decorator(declaration, kind)
            if limit is not None and not re.search(rf"\b{limit}\b", description):
                yield f"parameter {name}: the description does not contain the limit {limit}"


def check_keys(template: Template) -> Iterator[str]:
    """Forbid functions that return keys, and strings that contain keys."""
    for function in re.findall(r"(?i)\blist[a-z]*(?=\()", template.code):
        yield f"{function} is not allowed because keys are disabled"
    for text in re.findall(r"(?i)AccountKey|SharedAccessKey|InstrumentationKey=", template.source):
        yield f"{text} is not allowed because keys are disabled"


def check_security_properties(template: Template) -> Iterator[str]:
    """Require the security properties for each resource."""
    for name, resource, body in template.resources():
        properties = dict(walk(body))
        for member, value in REQUIRED_PROPERTIES.get(resource["type"], {}).items():
            if properties.get(member) != value:
                yield f"{name}: {member} must be {value}"


def check_roles(template: Template) -> Iterator[str]:
    """Allow only known roles, and require a scope and a principal type for role assignments."""
    for guid in GUID.findall(template.source):
        name = ROLES.get(guid) or APPLICATIONS.get(guid)
        if name is None:
            yield f"{guid} is an unknown role"
        elif not re.search(rf"\b{name}( =|:) '{guid}'", template.source):
            yield f"{guid} must have the name {name}"
    for name, _, body in template.resources("Microsoft.Authorization/roleAssignments"):
        if "scope" not in body:
            yield f"{name} has no scope, so the role would apply to the resource group"
        if dict(walk(body)).get("principalType") not in ("ServicePrincipal", "Group"):
            yield f"{name} has no principalType, so the assignment can fail for a new identity"


def check_deletion_rules(template: Template) -> Iterator[str]:
    """Forbid lifecycle rules that delete blobs."""
    for name, _, body in template.resources("Microsoft.Storage/storageAccounts/managementPolicies"):
        for member, _ in walk(body):
            if member.lower() == "delete":
                yield f"{name} has a rule that deletes blobs"


def check_tags_and_location(template: Template) -> Iterator[str]:
    """Require the tags and the location that the parameters specify."""
    for name, resource, body in template.resources():
        if not UNTAGGED.search(resource["type"]):
            if "tags" not in body:
                yield f"{name} has no tags"
            if body.get("location") not in ("location", "global"):
                yield f"{name} must use the location parameter"


def check_flex_consumption(template: Template) -> Iterator[str]:
    """Forbid properties and settings that Flex Consumption does not support."""
    members = {member for member, _ in walk(template.tree)} & FLEX_UNSUPPORTED
    yield from (f"Flex Consumption does not support {member}" for member in sorted(members))


def check_duplicate_declarations(template: Template) -> Iterator[str]:
    """Forbid duplicate names, which pycep accepts. Outputs have their own namespace."""
    for kinds in ("param|var|resource|module", "output"):
        names = re.findall(rf"^(?:{kinds}) (\w+)\b", template.code, flags=re.MULTILINE)
        duplicates = sorted({name for name in names if names.count(name) > 1})
        yield from (f"{name} is declared twice" for name in duplicates)


def check_undeclared_names(template: Template) -> Iterator[str]:
    """Forbid names that are used but not declared."""
    code = template.code
    declared = {
        name
        for kind in ("parameters", "variables", "resources", "modules")
        for name in template.tree.get(kind, {})
    }
    for pattern in (r"\bfor (\w+) in\b|\b(\w+) =>", r"\bfor \((\w+), (\w+)\) in\b"):
        declared |= {name for names in re.findall(pattern, code) for name in names}
    heads = r"^(metadata|targetScope|extension|param|output|resource|module)\b[^=\n]*|^@\w+"
    code = re.sub(heads, "", code, flags=re.MULTILINE)
    used = set(re.findall(r"(?<![\w.?!])([A-Za-z_]\w*)\b(?!\s*[(:])", code))
    used |= set(re.findall(r"\? ([A-Za-z_]\w*) :", code))
    yield from (f"{name} is not declared" for name in sorted(used - declared - KEYWORDS))


def check_unused_declarations(template: Template) -> Iterator[str]:
    """Forbid parameters and variables that are not used."""
    for kind in ("parameters", "variables"):
        for name in template.tree.get(kind, {}):
            if not count_uses(template, name):
                yield f"{name} is not used"


RULES: tuple[Rule, ...] = (
    check_descriptions,
    check_documented_limits,
    check_keys,
    check_security_properties,
    check_roles,
    check_deletion_rules,
    check_tags_and_location,
    check_flex_consumption,
    check_duplicate_declarations,
    check_undeclared_names,
    check_unused_declarations,
)
