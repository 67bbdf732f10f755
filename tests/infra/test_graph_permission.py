"""The script that grants the Graph permission, against a directory with the CLI's own ways."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.infra import fake_az
from tests.infra.bicep import INFRA, templates

SCRIPT = INFRA / "graph" / "permission.py"
TENANT = "11111111-0000-4000-8000-000000000001"
IDENTITY, GRAPH = "22222222-0000-4000-8000-000000000002", "33333333-0000-4000-8000-000000000003"
APP = "44444444-0000-4000-8000-000000000004"
ROLE, OTHER = "7c3e1994-38ff-4412-a99b-9369f6bb7706", "55555555-0000-4000-8000-000000000005"
MICROSOFT_GRAPH = "00000003-0000-0000-c000-000000000000"


class Directory:
    """One tenant, and the command line of somebody signed in to it."""

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
        self.write(
            {
                "tenant": TENANT,
                "calls": [],
                "grants": {IDENTITY: [{"id": "kept", "appRoleId": OTHER, "resourceId": GRAPH}]},
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
                            {"id": OTHER, "value": "User.Read.All"},
                            {"id": ROLE, "value": "PartnerBilling.Read.All"},
                        ],
                    },
                },
            }
        )

    def write(self, state: dict[str, Any]) -> None:
        self.file.write_text(json.dumps(state), encoding="utf-8")

    def read(self) -> dict[str, Any]:
        return dict(json.loads(self.file.read_text(encoding="utf-8")))

    def change(self, **members: Any) -> None:
        self.write({**self.read(), **members})

    def run(
        self,
        *arguments: str,
        who: tuple[str, str] = ("--principal-id", IDENTITY),
        tenant: str = TENANT,
    ) -> tuple[int, str]:
        """Exit code and all that is said."""
        self.change(calls=[])
        done = subprocess.run(
            [sys.executable, str(SCRIPT), arguments[0], "--tenant", tenant, *who, *arguments[1:]],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    @property
    def writes(self) -> list[str]:
        return [call for call in self.read()["calls"] if call != "get"]

    def roles(self, principal: str = IDENTITY) -> list[str]:
        return [grant["appRoleId"] for grant in self.read()["grants"].get(principal, [])]


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return Directory(tmp_path)


def test_it_is_granted_once(directory: Directory) -> None:
    assert directory.run("grant") == (
        0,
        f"PartnerBilling.Read.All was granted to {IDENTITY}; tokens that are out already stay as they are until they expire\n",
    )
    assert directory.roles() == [OTHER, ROLE] and directory.writes == ["post"]


def test_a_second_run_does_nothing(directory: Directory) -> None:
    directory.run("grant")
    code, said = directory.run("grant")
    assert (code, said, directory.writes) == (0, f"{IDENTITY} has PartnerBilling.Read.All\n", [])
    assert directory.roles() == [OTHER, ROLE]


@pytest.mark.parametrize("action", ["grant", "remove"])
def test_what_if_changes_nothing(directory: Directory, action: str) -> None:
    if action == "remove":
        directory.run("grant")
    before = directory.read()["grants"]
    code, said = directory.run(action, "--what-if")
    assert code == 0 and said.startswith("would ") and said.endswith("nothing was changed\n")
    assert directory.writes == [] and directory.read()["grants"] == before


def test_it_is_taken_away_and_nothing_else_is(directory: Directory) -> None:
    directory.run("grant")
    assert directory.run("remove")[0] == 0
    assert directory.roles() == [OTHER] and directory.writes == ["delete"]
    assert directory.run("remove") == (0, f"{IDENTITY} does not have PartnerBilling.Read.All\n")
    assert directory.writes == []


def test_show_tells_by_its_exit_code(directory: Directory) -> None:
    assert directory.run("show") == (1, f"{IDENTITY} does not have PartnerBilling.Read.All\n")
    directory.run("grant")
    assert directory.run("show")[0] == 0 and directory.writes == []


def test_an_app_of_another_tenant_is_taken_in_first(directory: Directory) -> None:
    who = ("--client-id", APP)
    assert directory.run("show", who=who) == (1, f"app {APP} is not known in this tenant\n")
    code, said = directory.run("grant", "--what-if", who=who)
    assert code == 0 and "it would be taken in" in said and directory.writes == []
    assert directory.run("grant", who=who)[0] == 0 and directory.writes == ["post", "post"]
    taken_in = next(
        one["id"] for one in directory.read()["principals"].values() if one["appId"] == APP
    )
    assert directory.roles(taken_in) == [ROLE]
    assert directory.run("grant", who=who)[0] == 0 and directory.writes == []


def test_another_tenant_is_refused_before_anything_is_asked(directory: Directory) -> None:
    code, said = directory.run("grant", tenant="99999999-0000-4000-8000-000000000009")
    assert code == 1 and f"signed in to tenant {TENANT}" in said and directory.read()["calls"] == []


def test_somebody_without_the_role_is_told_which(directory: Directory) -> None:
    directory.change(denied=True)
    code, said = directory.run("grant")
    assert (
        code == 1
        and "Authorization_RequestDenied" in said
        and "Privileged Role Administrator" in said
    )
    assert directory.roles() == [OTHER]


def test_an_identity_that_is_not_in_this_tenant_is_told(directory: Directory) -> None:
    code, said = directory.run(
        "grant", who=("--principal-id", "99999999-0000-4000-8000-000000000009")
    )
    assert code == 1 and "Request_ResourceNotFound" in said


@pytest.mark.parametrize(
    "who", [(), ("--principal-id", "me"), ("--principal-id", IDENTITY, "--client-id", APP)]
)
def test_bad_arguments_end_with_2(directory: Directory, who: tuple[str, ...]) -> None:
    assert directory.run("grant", who=who)[0] == 2 and directory.read()["calls"] == []  # type: ignore[arg-type]


def test_without_the_cli_it_says_so(directory: Directory) -> None:
    directory.environment["PATH"] = "/nowhere"
    code, said = directory.run("grant")
    assert code == 1 and "Azure CLI" in said


def test_template_and_script_grant_the_same() -> None:
    template = templates()["graph/graph-permission.bicep"]
    assert template.tree["variables"]["permission"]["value"] == "PartnerBilling.Read.All"
    assert template.tree["variables"]["microsoftGraph"]["value"] == MICROSOFT_GRAPH
    grant = next(said for _, _, said in template.resources("Microsoft.Graph/appRoleAssignedTo"))
    assert grant["principalId"] == "principalId"


def test_the_app_trusts_the_identity_of_its_own_tenant_and_no_secret() -> None:
    template = templates()["graph/federated-app.bicep"]
    trust = next(
        said
        for _, _, said in template.resources(
            "Microsoft.Graph/applications/federatedIdentityCredentials"
        )
    )
    assert trust["subject"] == "identityPrincipalId" and trust["audiences"] == [
        "api://AzureADTokenExchange"
    ]
    app = next(said for _, _, said in template.resources("Microsoft.Graph/applications"))
    assert app["signInAudience"] == "AzureADMultipleOrgs"
    assert not {"passwordCredentials", "keyCredentials"} & set(app)


def test_the_privileged_templates_alone_need_the_graph_extension() -> None:
    configured = {
        folder: json.loads((folder / "bicepconfig.json").read_text(encoding="utf-8"))
        for folder in (INFRA, INFRA / "graph")
    }
    for name, template in templates().items():
        needs = configured[INFRA / "graph" if name.startswith("graph/") else INFRA]
        assert ("extension microsoftGraphV1" in template.source) == ("extensions" in needs), name
    assert configured[INFRA]["analyzers"] == configured[INFRA / "graph"]["analyzers"]
