"""azure.yaml and its hooks are valid and match the templates."""

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

from tests.support.bicep import INFRA, ROOT, load_templates, walk

PROJECT: dict[str, Any] = yaml.safe_load((ROOT / "azure.yaml").read_text(encoding="utf-8"))
specification = importlib.util.spec_from_file_location("hook", INFRA / "hooks" / "hook.py")
assert specification and specification.loader
hook = importlib.util.module_from_spec(specification)
specification.loader.exec_module(hook)
TENANT, IDENTITY = "11111111-0000-4000-8000-000000000001", "22222222-0000-4000-8000-000000000002"
VALID = {"PARTNER_TENANT_ID": TENANT}


def test_azure_yaml_service_has_tag_of_template() -> None:
    assert set(PROJECT["services"]) == {"app"}
    assert "'azd-service-name': 'app'" in load_templates()["modules/function-app.bicep"].source
    assert "'azd-env-name': environmentName" in load_templates()["main.bicep"].source


def test_azd_up_deploys_package_of_makefile() -> None:
    deploy = PROJECT["workflows"]["up"]["steps"][-1]["azd"]
    package_path = deploy.partition("--from-package ")[2]
    target = next(
        line
        for line in (ROOT / "Makefile").read_text(encoding="utf-8").splitlines()
        if line.startswith("package:")
    )
    assert package_path
    assert package_path in target
    assert PROJECT["services"]["app"]["remoteBuild"] is False


def test_azure_yaml_calls_every_hook() -> None:
    commands = [str(value) for name, value in walk(PROJECT) if name == "run"]
    called = {match[1] for command in commands if (match := re.search(r"hook\.py (\w+)", command))}
    assert called == set(hook.HOOKS)
    for name, shells in PROJECT["hooks"].items():
        assert set(shells) == {"posix", "windows"}, name


def test_azure_yaml_infra_path_exists() -> None:
    infra = PROJECT["infra"]
    assert (ROOT / infra["path"] / f"{infra['module']}.bicep").is_file()


def test_hook_values_are_outputs_or_environment_variables() -> None:
    source = (INFRA / "hooks" / "hook.py").read_text(encoding="utf-8")
    outputs = set(re.findall(r'values\["([a-z]\w+)"\]', source))
    assert outputs
    assert outputs <= set(load_templates()["main.bicep"].outputs)
    variables = set(
        re.findall(
            r"readEnvironmentVariable\('(\w+)'",
            (INFRA / "main.bicepparam").read_text(encoding="utf-8"),
        )
    )
    assert set(re.findall(r"\b([A-Z]+(?:_[A-Z]+){2,}|INVOICE_SOURCE)\b", source)) <= variables


def test_preprovision_valid_values_returns_zero() -> None:
    assert list(hook.find_errors(VALID)) == []
    assert hook.preprovision(VALID) == 0


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({}, "PARTNER_TENANT_ID"),
        ({"PARTNER_TENANT_ID": "contoso.com"}, "PARTNER_TENANT_ID"),
        ({**VALID, "PARTNER_APP_CLIENT_ID": "my-app"}, "PARTNER_APP_CLIENT_ID"),
        ({**VALID, "PARTNER_CENTER_APP_CLIENT_ID": "my-app"}, "PARTNER_CENTER_APP_CLIENT_ID"),
        ({**VALID, "INVOICE_SOURCE": "email"}, "INVOICE_SOURCE"),
        ({**VALID, "EXISTING_LANDING_ACCOUNT": "My-Account"}, "EXISTING_LANDING_ACCOUNT"),
        ({**VALID, "EXISTING_LANDING_RESOURCE_GROUP": "rg"}, "EXISTING_LANDING_RESOURCE_GROUP"),
    ],
)
def test_preprovision_invalid_value_prints_error_and_returns_one(
    values: dict[str, str], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hook.preprovision(values) == 1
    assert capsys.readouterr().err.startswith(name)


def test_find_errors_several_invalid_values_returns_all() -> None:
    errors = list(hook.find_errors({"INVOICE_SOURCE": "email", "EXISTING_LANDING_ACCOUNT": "X"}))
    names = [error.partition(" ")[0] for error in errors]
    assert names == ["PARTNER_TENANT_ID", "INVOICE_SOURCE", "EXISTING_LANDING_ACCOUNT"]


@pytest.mark.parametrize(
    ("client_id", "target"), [("", f"--principal-id {IDENTITY}"), (TENANT, f"--client-id {TENANT}")]
)
def test_postprovision_prints_grant_command(
    client_id: str, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        hook.postprovision(
            {**VALID, "identityPrincipalId": IDENTITY, "PARTNER_APP_CLIENT_ID": client_id}
        )
        == 0
    )
    assert f"permission.py grant --tenant {TENANT} {target} --what-if\n" in capsys.readouterr().out


def test_prepackage_prints_command_and_returns_one() -> None:
    process = subprocess.run(
        [sys.executable, str(INFRA / "hooks" / "hook.py"), "prepackage"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 1
    assert "make package" in process.stderr


@pytest.fixture
def health_server() -> Iterator[tuple[str, list[int]]]:
    """A server that returns each status in a list once, and then repeats the last one."""
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


def test_postdeploy_waits_until_app_is_healthy(
    health_server: tuple[str, list[int]], capsys: pytest.CaptureFixture[str]
) -> None:
    url, statuses = health_server
    statuses[:] = [503, 404, 200]
    assert hook.postdeploy({"functionAppUri": url}, interval_seconds=0) == 0
    assert "is healthy" in capsys.readouterr().out
    assert statuses == [200]


def test_postdeploy_unhealthy_app_returns_one(
    health_server: tuple[str, list[int]], capsys: pytest.CaptureFixture[str]
) -> None:
    url, statuses = health_server
    statuses[:] = [503]
    assert (
        hook.postdeploy({"functionAppUri": url}, timeout_seconds=0.05, interval_seconds=0.01) == 1
    )
    assert "503" in capsys.readouterr().err


def test_postdeploy_unreachable_app_returns_one() -> None:
    assert (
        hook.postdeploy(
            {"functionAppUri": "http://127.0.0.1:1"}, timeout_seconds=0.01, interval_seconds=0
        )
        == 1
    )


def test_get_health_status_file_url_raises_value_error() -> None:
    with pytest.raises(ValueError, match="must start with"):
        hook.get_health_status("file:///etc/hostname")
