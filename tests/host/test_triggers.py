"""HTTP triggers with their routes, and timer triggers."""

from datetime import timedelta

import azure.functions as func
import pytest

from local.host import FunctionFailedError, LocalHost
from local.host.errors import UnsupportedAppError
from local.host.routes import Route, best_match

from .sample_host import HostClient, create_sample_host


def test_http_function_receives_request_and_returns_response(client: HostClient) -> None:
    response = client.request(
        "PUT", "/api/reflect/5/a%20b/c?x=1&y=%C3%A4", b"body", {"x-test": "header"}
    )
    assert response.status == 201 and response.headers["content-type"] == "application/json"
    assert response.json() == {
        "method": "PUT",
        "url": f"{client.base_url}/api/reflect/5/a%20b/c?x=1&y=%C3%A4",
        "params": {"x": "1", "y": "ä"},
        "route": {"n": "5", "rest": "a b/c"},
        "header": "header",
        "body": "body",
        "name": "reflect",
        "setting": "from settings",
    }


def test_in_process_request_returns_response(host: LocalHost) -> None:
    response = host.request("GET", "/api/reflect/5/x", headers={"X-Test": "q"})
    assert (response.status, response.json()["header"]) == (201, "q")
    assert [value for name, value in response.headers if name == "Set-Cookie"] == [
        "a=1; Path=/",
        "b=2",
    ]
    assert host.request("GET", "/runtime/webhooks/durabletask/instances/unknown").status == 404


def test_http_function_with_other_results_returns_expected_status(client: HostClient) -> None:
    assert client.request("GET", "/api/reflect/fixed/text").body == b"fixed route"
    assert client.request("DELETE", "/API/Nothing").status == 500
    assert client.request("DELETE", "/api/reflect/5/x").status == 404
    assert client.request("GET", "/api/reflect/five/x").status == 404
    assert client.request("GET", "/nowhere").status == 404
    for route in ("broken", "broken-result"):
        response = client.request("GET", f"/api/{route}")
        assert (response.status, response.body) == (500, b"")
    large_response = client.request("PUT", "/api/reflect/1/x", b"x" * 5_000_000)
    assert len(large_response.json()["body"]) == 5_000_000


def test_request_with_foreign_host_header_is_rejected(client: HostClient) -> None:
    for host_header in ("evil.example", "127.0.0.1.evil.example", "localhost.evil:80", ""):
        response = client.request("GET", "/api/ticks", headers={"Host": host_header})
        assert response.status == 421
    for host_header in ("localhost", "LOCALHOST:80", "[::1]:1"):
        response = client.request("GET", "/api/ticks", headers={"Host": host_header})
        assert response.status == 200


def test_route_matching_prefers_specific_templates() -> None:
    templates = [
        "runs",
        "runs/{id}",
        "runs/{id}/blobs",
        "runs/latest",
        "runs/{n:int}",
        "{*all}",
        "opt/{a?}",
    ]
    routes = [(Route.parse(template, "api", "f"), template) for template in templates]
    for path, expected in {
        "/api/runs": "runs",
        "/api/runs/": "runs",
        "/API/Runs/Latest": "runs/latest",
        "/api/runs/7": "runs/{n:int}",
        "/api/runs/x": "runs/{id}",
        "/api/runs/x/blobs": "runs/{id}/blobs",
        "/api/other/x/y": "{*all}",
        "/api/opt": "opt/{a?}",
        "/api/opt/1": "opt/{a?}",
    }.items():
        assert best_match(routes, path)[0][0] == expected, path
    assert best_match(routes, "/runs") == []
    assert best_match(routes, "/api/runs/a%2Fb")[0][1] == {"id": "a/b"}
    for template in ("runs/{id:regex(x)}", "runs/a{id}", "runs/{id"):
        with pytest.raises(UnsupportedAppError):
            Route.parse(template, "api", "f")
    with pytest.raises(UnsupportedAppError):
        Route.parse("admin/x", "", "f")


def test_timer_fires_on_virtual_clock() -> None:
    with create_sample_host(settings={"SAMPLE_SCHEDULE": "*/2 * * * * *"}) as host:
        first_count = int(host.request("GET", "/api/ticks").text)
        host.advance(timedelta(seconds=4.1))
        assert int(host.request("GET", "/api/ticks").text) == first_count + 2
        assert host.clock.now().second == 4
        host.advance(timedelta(minutes=10))
        assert int(host.request("GET", "/api/ticks").text) == first_count + 302
        assert host.instances() == []
    with create_sample_host(timers=False, settings={"SAMPLE_SCHEDULE": "*/2 * * * * *"}) as host:
        host.advance(timedelta(minutes=1))
        assert int(host.request("GET", "/api/ticks").text) == first_count + 302


def test_fire_timer_starts_orchestration(host: LocalHost, client: HostClient) -> None:
    host.fire_timer("daily")
    assert client.request("POST", "/admin/functions/daily", {}).status == 202
    host.run_until(
        lambda: len([i for i in host.instances() if i["name"] == "chain" and i["output"] == 2]) == 2
    )
    assert client.request("POST", "/admin/functions/unknown", {}).status == 404
    assert client.request("POST", "/admin/functions/chain", {}).status == 400
    names = {entry["name"] for entry in client.request("GET", "/admin/functions").json()}
    assert {"daily", "chain", "start"} <= names
    with pytest.raises(LookupError):
        host.fire_timer("chain")


def test_disabled_functions_do_not_run() -> None:
    with create_sample_host() as host:
        host.advance(timedelta(days=3))
        assert [instance["name"] for instance in host.instances()] == ["chain"] * 3
    with create_sample_host(
        settings={"AzureWebJobs.daily.Disabled": "true", "AzureWebJobs_fixed_Disabled": "1"}
    ) as host:
        host.advance(timedelta(days=3))
        assert host.instances() == []
        assert host.request("GET", "/api/reflect/fixed/text").status == 404


def test_fire_timer_with_failing_function_raises() -> None:
    app = func.FunctionApp()

    @app.timer_trigger(arg_name="tick", schedule="0 0 0 1 1 *")
    def raises(tick: func.TimerRequest) -> None:
        raise RuntimeError("planned")

    @app.timer_trigger(arg_name="tick", schedule="0 0 0 1 1 *")
    def returns_value(tick: func.TimerRequest) -> int:
        return 5

    with LocalHost(app) as host:
        for name, text in (
            ("raises", "RuntimeError: planned"),
            ("returns_value", "returned a value"),
        ):
            with pytest.raises(FunctionFailedError, match=text):
                host.fire_timer(name)
