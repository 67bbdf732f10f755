"""The script that grants the Graph permission works with a simulated directory."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.infra import fake_az
from tests.support.bicep import INFRA, load_templates

SCRIPT = INFRA / "graph" / "permission.py"
TENANT = "11111111-0000-4000-8000-000000000001"
IDENTITY, GRAPH = "22222222-0000-4000-8000-000000000002", "33333333-0000-4000-8000-000000000003"
APP = "44444444-0000-4000-8000-000000000004"
ROLE, OTHER_ROLE = "7c3e1994-38ff-4412-a99b-9369f6bb7706", "55555555-0000-4000-8000-000000000005"
MICROSOFT_GRAPH = "00000003-0000-0000-c000-000000000000"


class Directory:
    """A simulated tenant, and the Azure CLI with a signed-in user."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "state.json"
        program = folder / "bin" / "az"
        program.parent.mkdir()
        program.write_text(
            f'#!/bin/sh\nexec {sys.executable} {fake_az.__file__} "$@"\n', encoding="utf-8"
        )
        program.chmod(0o755)
        self.environment = {
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            "AZ_STATE": str(self.file),
        }
        self.write_state(
            {
                "tenant": TENANT,
                "calls": [],
                "grants": {
                    IDENTITY: [{"id": "kept", "appRoleId": OTHER_ROLE, "resourceId": GRAPH}]
                },
                "principals": {
                    IDENTITY: {
                        "id": IDENTITY,
                        "appId": "66666666-0000-4000-8000-000000000006",
                        "appRoles": [],
                    },
                    GRAPH: {
                        "id": GRAPH,
                        "appId": MICROSOFT_GRAPH,
                        "appRoles": [
                            {"id": OTHER_ROLE, "value": "User.Read.All"},
                            {"id": ROLE, "value": "PartnerBilling.Read.All"},
                        ],
                    },
                },
            }
        )

    def write_state(self, state: dict[str, Any]) -> None:
        self.file.write_text(json.dumps(state), encoding="utf-8")

    def read_state(self) -> dict[str, Any]:
        return dict(json.loads(self.file.read_text(encoding="utf-8")))

    def update_state(self, **members: Any) -> None:
        self.write_state({**self.read_state(), **members})

    def run_script(
        self,
        *arguments: str,
        target: tuple[str, ...] = ("--principal-id", IDENTITY),
        tenant: str = TENANT,
    ) -> tuple[int, str]:
        """Run the script and return its exit code and output."""
        self.update_state(calls=[])
        process = subprocess.run(
            [
                sys.executable,
                str(SCRIPT),
                arguments[0],
                "--tenant",
                tenant,
                *target,
                *arguments[1:],
            ],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return process.returncode, process.stdout + process.stderr

    @property
    def write_methods(self) -> list[str]:
        return [call for call in self.read_state()["calls"] if call != "get"]

    def get_roles(self, principal: str = IDENTITY) -> list[str]:
        return [grant["appRoleId"] for grant in self.read_state()["grants"].get(principal, [])]


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return Directory(tmp_path)


def test_grant_adds_role(directory: Directory) -> None:
    assert directory.run_script("grant") == (
        0,
        f"Granted PartnerBilling.Read.All to {IDENTITY}. "
        "Existing tokens remain unchanged until they expire.\n",
    )
    assert directory.get_roles() == [OTHER_ROLE, ROLE] and directory.write_methods == ["post"]


def test_grant_second_time_changes_nothing(directory: Directory) -> None:
    directory.run_script("grant")
    code, output = directory.run_script("grant")
    assert (code, output) == (0, f"{IDENTITY} has PartnerBilling.Read.All.\n")
    assert directory.write_methods == []
    assert directory.get_roles() == [OTHER_ROLE, ROLE]


@pytest.mark.parametrize("action", ["grant", "remove"])
def test_what_if_changes_nothing(directory: Directory, action: str) -> None:
    if action == "remove":
        directory.run_script("grant")
    before = directory.read_state()["grants"]
    code, output = directory.run_script(action, "--what-if")
    assert code == 0
    assert output.startswith("Would ")
    assert output.endswith("Nothing was changed.\n")
    assert directory.write_methods == [] and directory.read_state()["grants"] == before


def test_remove_removes_only_permission(directory: Directory) -> None:
    directory.run_script("grant")
    assert directory.run_script("remove")[0] == 0
    assert directory.get_roles() == [OTHER_ROLE] and directory.write_methods == ["delete"]
    assert directory.run_script("remove") == (
        0,
        f"{IDENTITY} does not have PartnerBilling.Read.All.\n",
    )
    assert directory.write_methods == []


def test_show_returns_exit_code_of_permission(directory: Directory) -> None:
    assert directory.run_script("show") == (
        1,
        f"{IDENTITY} does not have PartnerBilling.Read.All.\n",
    )
    directory.run_script("grant")
    assert directory.run_script("show")[0] == 0 and directory.write_methods == []


def test_grant_app_of_other_tenant_adds_app_first(directory: Directory) -> None:
    target = ("--client-id", APP)
    assert directory.run_script("show", target=target) == (1, f"App {APP} is not in this tenant.\n")
    code, output = directory.run_script("grant", "--what-if", target=target)
    assert code == 0
    assert "would be added" in output
    assert directory.write_methods == []
    assert directory.run_script("grant", target=target)[0] == 0 and directory.write_methods == [
        "post",
        "post",
    ]
    principal_id = next(
        principal["id"]
        for principal in directory.read_state()["principals"].values()
        if principal["appId"] == APP
    )
    assert directory.get_roles(principal_id) == [ROLE]
    assert directory.run_script("grant", target=target)[0] == 0 and directory.write_methods == []


def test_grant_signed_in_to_other_tenant_sends_no_request(directory: Directory) -> None:
    code, output = directory.run_script("grant", tenant="99999999-0000-4000-8000-000000000009")
    assert (
        code == 1
        and f"signed in to tenant {TENANT}" in output
        and directory.read_state()["calls"] == []
    )


def test_grant_without_role_prints_required_role(directory: Directory) -> None:
    directory.update_state(is_denied=True)
    code, output = directory.run_script("grant")
    assert (
        code == 1
        and "Authorization_RequestDenied" in output
        and "Privileged Role Administrator" in output
    )
    assert directory.get_roles() == [OTHER_ROLE]


def test_grant_unknown_identity_prints_error(directory: Directory) -> None:
    code, output = directory.run_script(
        "grant", target=("--principal-id", "99999999-0000-4000-8000-000000000009")
    )
    assert code == 1 and "Request_ResourceNotFound" in output


@pytest.mark.parametrize(
    "target", [(), ("--principal-id", "me"), ("--principal-id", IDENTITY, "--client-id", APP)]
)
def test_invalid_arguments_return_two(directory: Directory, target: tuple[str, ...]) -> None:
    assert (
        directory.run_script("grant", target=target)[0] == 2
        and directory.read_state()["calls"] == []
    )


def test_grant_without_azure_cli_prints_error(directory: Directory) -> None:
    directory.environment["PATH"] = "/nowhere"
    code, output = directory.run_script("grant")
    assert code == 1
    assert "Azure CLI" in output


def test_template_grants_permission_of_script() -> None:
    template = load_templates()["graph/graph-permission.bicep"]
    assert template.tree["variables"]["permission"]["value"] == "PartnerBilling.Read.All"
    assert template.tree["variables"]["microsoftGraph"]["value"] == MICROSOFT_GRAPH
    grant = next(body for _, _, body in template.resources("Microsoft.Graph/appRoleAssignedTo"))
    assert grant["principalId"] == "principalId"


def test_federated_app_trusts_identity_and_has_no_secret() -> None:
    template = load_templates()["graph/federated-app.bicep"]
    credential = next(
        body
        for _, _, body in template.resources(
            "Microsoft.Graph/applications/federatedIdentityCredentials"
        )
    )
    assert credential["subject"] == "identityPrincipalId"
    assert credential["audiences"] == ["api://AzureADTokenExchange"]
    app = next(body for _, _, body in template.resources("Microsoft.Graph/applications"))
    assert app["signInAudience"] == "AzureADMultipleOrgs"
    assert not {"passwordCredentials", "keyCredentials"} & set(app)


def test_only_graph_templates_use_graph_extension() -> None:
    configurations = {
        folder: json.loads((folder / "bicepconfig.json").read_text(encoding="utf-8"))
        for folder in (INFRA, INFRA / "graph")
    }
    for name, template in load_templates().items():
        configuration = configurations[INFRA / "graph" if name.startswith("graph/") else INFRA]
        assert ("extension microsoftGraphV1" in template.source) == (
            "extensions" in configuration
        ), name
    assert configurations[INFRA]["analyzers"] == configurations[INFRA / "graph"]["analyzers"]
