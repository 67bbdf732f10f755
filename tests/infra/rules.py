"""The rules that every template keeps. Each takes a template and yields what is wrong, in words."""

import re
from collections.abc import Callable, Iterator

from tests.infra.bicep import Template, decorator, uses, walk

Rule = Callable[[Template], Iterator[str]]

ROLES = {  # Azure's built-in roles, by the id that is the same in every tenant
    "ba92f5b4-2d11-453d-a403-e96b0029c9fe": "blobDataContributor",
    "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1": "blobDataReader",
    "b7e6dc6d-f1e8-4753-8033-0f276bb0955b": "blobDataOwner",
    "974c5e8b-45b9-4653-ba55-5f855dd0fb88": "queueDataContributor",
    "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3": "tableDataContributor",
    "3913510d-42f4-4e42-8a64-420c390055eb": "monitoringMetricsPublisher",
}
FOREIGN_GUIDS = {"00000003-0000-0000-c000-000000000000": "microsoftGraph"}
GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
MUST = {  # what a resource of the type must say, however deep the member lies
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
FLEX_REFUSES = {  # "... for Flex Consumption sites is invalid" (App settings reference, Flex deprecations; the error itself)
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
WORDS = {"var", "existing", "if", "for", "in", "true", "false", "null"}
UNTAGGED = re.compile(  # types that take no tags
    r"(?i)roleAssignments|diagnosticSettings|blobServices|tableServices|managementPolicies|basicPublishing|privateDnsZoneGroups|"
    r"Microsoft\.Graph/|containers$"
)


def is_described(template: Template) -> Iterator[str]:
    metadata = template.tree.get("metadata", {})
    yield from (
        f"has no metadata {name}" for name in ("name", "description") if name not in metadata
    )
    for name, declared in template.parameters.items():
        said = decorator(declared, "description") or ""
        begins = "Required. " if declared.get("default") is None else "Optional. "
        if not said.startswith(begins) or not said.endswith("."):
            yield f"parameter {name}: a description that begins with '{begins}' and ends with a full stop is missing"
    for name, declared in template.outputs.items():
        if not (decorator(declared, "description") or "").endswith("."):
            yield f"output {name} is not described"


def tells_its_limits(template: Template) -> Iterator[str]:
    """Azure's refusal names the parameter and the number; the description says what it may be. Of what people set: main.bicep."""
    for name, declared in (
        template.parameters.items() if template.name in ("main.bicep", "planted.bicep") else ()
    ):
        said = decorator(declared, "description") or ""
        limits = (decorator(declared, kind) for kind in ("min_value", "max_value", "max_length"))
        untold = (
            limit for limit in limits if limit is not None and not re.search(rf"\b{limit}\b", said)
        )
        yield from (f"{name} does not say {limit}" for limit in untold)


def has_no_key(template: Template) -> Iterator[str]:
    yield from (
        f"calls {found}: keys are switched off"
        for found in re.findall(r"(?i)\blist[a-z]*(?=\()", template.code)
    )
    yield from (
        f"says {found}"
        for found in re.findall(
            r"(?i)AccountKey|SharedAccessKey|InstrumentationKey=", template.source
        )
    )


def is_shut(template: Template) -> Iterator[str]:
    for name, resource, said in template.resources():
        found = dict(walk(said))
        for member, value in MUST.get(resource["type"], {}).items():
            if found.get(member) != value:
                yield f"{name}: {member} must be {value}"


def knows_its_roles(template: Template) -> Iterator[str]:
    for guid in GUID.findall(template.source):
        word = ROLES.get(guid) or FOREIGN_GUIDS.get(guid)
        if word is None:
            yield f"{guid} is no role that is known"
        elif not re.search(rf"\b{word}( =|:) '{guid}'", template.source):
            yield f"{guid} is {word} and called something else"
    for name, _, said in template.resources("Microsoft.Authorization/roleAssignments"):
        if "scope" not in said:
            yield f"{name} has no scope: the role would hold for the whole resource group"
        if dict(walk(said)).get("principalType") not in ("ServicePrincipal", "Group"):
            yield f"{name} has no principalType: a new identity may not be found yet"


def deletes_nothing(template: Template) -> Iterator[str]:
    for name, _, said in template.resources("Microsoft.Storage/storageAccounts/managementPolicies"):
        yield from (
            f"{name} has a rule that deletes"
            for member, _ in walk(said)
            if member.lower() == "delete"
        )


def is_tagged_and_placed(template: Template) -> Iterator[str]:
    for name, resource, said in template.resources():
        if not UNTAGGED.search(resource["type"]):
            if "tags" not in said:
                yield f"{name} has no tags"
            if said.get("location") not in ("location", "global"):
                yield f"{name} has a region of its own"


def flex_takes_it(template: Template) -> Iterator[str]:
    found = {member for member, _ in walk(template.tree)} & FLEX_REFUSES
    yield from (f"Flex Consumption refuses {member}" for member in sorted(found))


def declares_once(template: Template) -> Iterator[str]:
    """Pycep keeps the last of two declarations and says nothing; a compiler would refuse both. Outputs are names of their own."""
    for kinds in ("param|var|resource|module", "output"):
        names = re.findall(rf"^(?:{kinds}) (\w+)\b", template.code, flags=re.MULTILINE)
        yield from (
            f"{name} is declared twice"
            for name in sorted({name for name in names if names.count(name) > 1})
        )


def knows_every_name(template: Template) -> Iterator[str]:
    """A name that is used and declared nowhere: what a compiler would say first."""
    declared = {
        name
        for kind in ("parameters", "variables", "resources", "modules")
        for name in template.tree.get(kind, {})
    }
    declared |= {
        name for pair in re.findall(r"\bfor (\w+) in\b|\b(\w+) =>", template.code) for name in pair
    }
    declared |= {
        name for pair in re.findall(r"\bfor \((\w+), (\w+)\) in\b", template.code) for name in pair
    }
    heads = r"^(metadata|targetScope|extension|param|output|resource|module)\b[^=\n]*|^@\w+"
    code = re.sub(heads, "", template.code, flags=re.MULTILINE)
    used = re.findall(r"(?<![\w.?!])([A-Za-z_]\w*)\b(?!\s*[(:])", code) + re.findall(
        r"\? ([A-Za-z_]\w*) :", code
    )
    yield from (f"{name} is declared nowhere" for name in sorted(set(used) - declared - WORDS))


def uses_what_it_declares(template: Template) -> Iterator[str]:
    for kind in ("parameters", "variables"):
        for name in template.tree.get(kind, {}):
            if not uses(template, name):
                yield f"{name} is not used"


RULES: tuple[Rule, ...] = (
    is_described,
    tells_its_limits,
    has_no_key,
    is_shut,
    knows_its_roles,
    deletes_nothing,
    is_tagged_and_placed,
    flex_takes_it,
    declares_once,
    knows_every_name,
    uses_what_it_declares,
)
