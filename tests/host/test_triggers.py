"""HTTP and timer triggers, and the routes that belong to them."""

import pytest

from local.host import FunctionFailedError, LocalHost
from local.host.errors import UnsupportedAppError
from local.host.routes import Route, best_match

from .conftest import Web, call, sample_host


def test_request_and_response(web: Web) -> None:
    answer = web.call("PUT", "/api/reflect/5/a%20b/c?x=1&y=%C3%A4", b"body", {"x-test": "header"})
    assert answer.status == 201 and answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "method": "PUT",
        "url": f"{web.base_url}/api/reflect/5/a%20b/c?x=1&y=%C3%A4",
        "params": {"x": "1", "y": "ä"},
        "route": {"n": "5", "rest": "a b/c"},
        "header": "header",
        "body": "body",
        "name": "reflect",
        "setting": "from settings",
    }


def test_in_process_request_needs_no_port(host: LocalHost) -> None:
    answer = host.request("GET", "/api/reflect/5/x", headers={"X-Test": "q"})
    assert (answer.status, answer.json()["header"]) == (201, "q")
    assert [value for name, value in answer.headers if name == "Set-Cookie"] == [
        "a=1; Path=/",
        "b=2",
    ]
    assert host.request("GET", "/runtime/webhooks/durabletask/instances/nobody").status == 404


def test_other_results(web: Web) -> None:
    assert web.call("GET", "/api/reflect/fixed/text").body == b"fixed wins"
    assert web.call("DELETE", "/API/Nothing").status == 500
    assert web.call("DELETE", "/api/reflect/5/x").status == 404
    assert web.call("GET", "/api/reflect/five/x").status == 404
    assert web.call("GET", "/nowhere").status == 404
    for broken in ("broken", "broken-result"):
        answer = web.call("GET", f"/api/{broken}")
        assert (answer.status, answer.body) == (500, b"")
    assert len(web.call("PUT", "/api/reflect/1/x", b"x" * 5_000_000).json()["body"]) == 5_000_000


def test_only_names_of_this_machine(web: Web) -> None:
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil:80", ""):
        assert call(web.base_url, "GET", "/api/ticks", headers={"Host": host}).status == 421
    for host in ("localhost", "LOCALHOST:80", "[::1]:1"):
        assert call(web.base_url, "GET", "/api/ticks", headers={"Host": host}).status == 200


def test_routes() -> None:
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
    for path, winner in {
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
        assert best_match(routes, path)[0][0] == winner, path
    assert best_match(routes, "/runs") == []
    assert best_match(routes, "/api/runs/a%2Fb")[0][1] == {"id": "a/b"}
    for bad in ("runs/{id:regex(x)}", "runs/a{id}", "runs/{id"):
        with pytest.raises(UnsupportedAppError):
            Route.parse(bad, "api", "f")
    with pytest.raises(UnsupportedAppError):
        Route.parse("admin/x", "", "f")


def test_timer_fires_on_the_virtual_clock() -> None:
    from datetime import timedelta

    with sample_host(settings={"SAMPLE_SCHEDULE": "*/2 * * * * *"}) as host:
        before = int(host.request("GET", "/api/ticks").text)
        host.advance(timedelta(seconds=4.1))
        assert int(host.request("GET", "/api/ticks").text) == before + 2
        assert host.clock.now().second == 4
        host.advance(timedelta(minutes=10))
        assert int(host.request("GET", "/api/ticks").text) == before + 302
        assert host.instances() == []
    with sample_host(timers=False, settings={"SAMPLE_SCHEDULE": "*/2 * * * * *"}) as host:
        host.advance(timedelta(minutes=1))
        assert int(host.request("GET", "/api/ticks").text) == before + 302


def test_timer_by_hand_starts_an_orchestration(host: LocalHost, web: Web) -> None:
    host.fire_timer("daily")
    assert web.call("POST", "/admin/functions/daily", {}).status == 202
    host.run_until(
        lambda: len([i for i in host.instances() if i["name"] == "chain" and i["output"] == 2]) == 2
    )
    assert web.call("POST", "/admin/functions/nobody", {}).status == 404
    assert web.call("POST", "/admin/functions/chain", {}).status == 400
    names = {entry["name"] for entry in web.call("GET", "/admin/functions").json()}
    assert {"daily", "chain", "start"} <= names
    with pytest.raises(LookupError):
        host.fire_timer("chain")


def test_daily_timer_and_disabled_functions() -> None:
    from datetime import timedelta

    with sample_host() as host:
        host.advance(timedelta(days=3))
        assert [instance["name"] for instance in host.instances()] == ["chain"] * 3
    with sample_host(
        settings={"AzureWebJobs.daily.Disabled": "true", "AzureWebJobs_fixed_Disabled": "1"}
    ) as host:
        host.advance(timedelta(days=3))
        assert host.instances() == []
        assert host.request("GET", "/api/reflect/fixed/text").status == 404


def test_failing_timer_is_reported() -> None:
    import azure.functions as func

    app = func.FunctionApp()

    @app.timer_trigger(arg_name="tick", schedule="0 0 0 1 1 *")
    def bad(tick: func.TimerRequest) -> None:
        raise RuntimeError("as asked")

    @app.timer_trigger(arg_name="tick", schedule="0 0 0 1 1 *")
    def talks(tick: func.TimerRequest) -> int:
        return 5

    with LocalHost(app) as host:
        for name, text in (("bad", "RuntimeError: as asked"), ("talks", "returned a value")):
            with pytest.raises(FunctionFailedError, match=text):
                host.fire_timer(name)
