"""azure.yaml and its hooks."""

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest
import yaml

from tests.infra.bicep import INFRA, ROOT, templates, walk

PROJECT: dict[str, Any] = yaml.safe_load((ROOT / "azure.yaml").read_text(encoding="utf-8"))
specification = importlib.util.spec_from_file_location("hook", INFRA / "hooks" / "hook.py")
assert specification and specification.loader
hook = importlib.util.module_from_spec(specification)
specification.loader.exec_module(hook)
TENANT, IDENTITY = "11111111-0000-4000-8000-000000000001", "22222222-0000-4000-8000-000000000002"
GOOD = {"PARTNER_TENANT_ID": TENANT}


def test_the_service_is_the_one_that_the_template_tags() -> None:
    assert set(PROJECT["services"]) == {"app"}
    assert "'azd-service-name': 'app'" in templates()["modules/function-app.bicep"].source
    assert "'azd-env-name': environmentName" in templates()["main.bicep"].source


def test_azd_up_deploys_the_zip_that_make_builds() -> None:
    deploy = PROJECT["workflows"]["up"]["steps"][-1]["azd"]
    zip_ = deploy.partition("--from-package ")[2]
    package = next(
        line
        for line in (ROOT / "Makefile").read_text(encoding="utf-8").splitlines()
        if line.startswith("package:")
    )
    assert zip_ and zip_ in package
    assert PROJECT["services"]["app"]["remoteBuild"] is False


def test_every_hook_that_is_called_exists_and_every_one_is_called() -> None:
    runs = [str(value) for name, value in walk(PROJECT) if name == "run"]
    called = {match[1] for run in runs if (match := re.search(r"hook\.py (\w+)", run))}
    assert called == set(hook.HOOKS)
    for name, found in PROJECT["hooks"].items():
        assert set(found) == {"posix", "windows"}, name


def test_the_infrastructure_is_where_azd_looks() -> None:
    infra = PROJECT["infra"]
    assert (ROOT / infra["path"] / f"{infra['module']}.bicep").is_file()


def test_hooks_read_what_the_template_tells_and_the_file_of_parameters_reads() -> None:
    source = (INFRA / "hooks" / "hook.py").read_text(encoding="utf-8")
    outputs = set(re.findall(r'values\["([a-z]\w+)"\]', source))
    assert outputs and outputs <= set(templates()["main.bicep"].outputs)
    named = set(
        re.findall(
            r"readEnvironmentVariable\('(\w+)'",
            (INFRA / "main.bicepparam").read_text(encoding="utf-8"),
        )
    )
    assert set(re.findall(r"\b([A-Z]+(?:_[A-Z]+){2,}|INVOICE_SOURCE)\b", source)) <= named


def test_good_values_pass() -> None:
    assert list(hook.faults(GOOD)) == [] and hook.preprovision(GOOD) == 0


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({}, "PARTNER_TENANT_ID"),
        ({"PARTNER_TENANT_ID": "contoso.com"}, "PARTNER_TENANT_ID"),
        ({**GOOD, "PARTNER_APP_CLIENT_ID": "my-app"}, "PARTNER_APP_CLIENT_ID"),
        ({**GOOD, "PARTNER_CENTER_APP_CLIENT_ID": "my-app"}, "PARTNER_CENTER_APP_CLIENT_ID"),
        ({**GOOD, "INVOICE_SOURCE": "email"}, "INVOICE_SOURCE"),
        ({**GOOD, "EXISTING_LANDING_ACCOUNT": "My-Account"}, "EXISTING_LANDING_ACCOUNT"),
        ({**GOOD, "EXISTING_LANDING_RESOURCE_GROUP": "rg"}, "EXISTING_LANDING_RESOURCE_GROUP"),
    ],
)
def test_a_wrong_value_is_refused_before_anything_is_made(
    values: dict[str, str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hook.preprovision(values) == 1
    assert capsys.readouterr().err.startswith(named)


def test_all_wrong_values_are_told_at_once() -> None:
    faults = list(hook.faults({"INVOICE_SOURCE": "email", "EXISTING_LANDING_ACCOUNT": "X"}))
    names = [fault.partition(" ")[0] for fault in faults]
    assert names == ["PARTNER_TENANT_ID", "INVOICE_SOURCE", "EXISTING_LANDING_ACCOUNT"]


@pytest.mark.parametrize(
    ("app", "who"), [("", f"--principal-id {IDENTITY}"), (TENANT, f"--client-id {TENANT}")]
)
def test_the_grant_is_told_as_it_is_to_be_typed(
    app: str, who: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        hook.postprovision({**GOOD, "identityPrincipalId": IDENTITY, "PARTNER_APP_CLIENT_ID": app})
        == 0
    )
    assert f"permission.py grant --tenant {TENANT} {who} --what-if\n" in capsys.readouterr().out


def test_a_zip_without_packages_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, str(INFRA / "hooks" / "hook.py"), "prepackage"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and "make package" in done.stderr


@pytest.fixture
def app() -> Iterator[tuple[str, list[int]]]:
    """An app that answers with each status once, with the last one for ever."""
    statuses: list[int] = [200]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(statuses.pop(0) if len(statuses) > 1 else statuses[0])
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", statuses
    server.shutdown()
    thread.join()
    server.server_close()


def test_it_waits_until_the_app_is_healthy(
    app: tuple[str, list[int]], capsys: pytest.CaptureFixture[str]
) -> None:
    uri, statuses = app
    statuses[:] = [503, 404, 200]
    assert hook.postdeploy({"functionAppUri": uri}, pause=0) == 0
    assert "is healthy" in capsys.readouterr().out and statuses == [200]


def test_an_app_that_stays_ill_fails_the_deployment(
    app: tuple[str, list[int]], capsys: pytest.CaptureFixture[str]
) -> None:
    uri, statuses = app
    statuses[:] = [503]
    assert hook.postdeploy({"functionAppUri": uri}, seconds=0.05, pause=0.01) == 1
    assert "503" in capsys.readouterr().err


def test_an_app_that_is_not_there_fails_the_deployment() -> None:
    assert hook.postdeploy({"functionAppUri": "http://127.0.0.1:1"}, seconds=0.01, pause=0) == 1


def test_only_the_app_is_asked() -> None:
    with pytest.raises(ValueError, match="not an address"):
        hook.health("file:///etc/hostname")
