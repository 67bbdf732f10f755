"""The app that the host's tests run: one orchestrator for each scenario of durable-protocol, section 9."""

import asyncio
import os
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path

import azure.durable_functions as df
import azure.functions as func

app = df.DFApp(http_auth_level=func.AuthLevel.FUNCTION)
calls: Counter[str] = Counter()
seen_threads: set[str] = set()


# -- activities ---------------------------------------------------------------


@app.activity_trigger(input_name="n")
def inc(n: int) -> int:
    return n + 1


@app.activity_trigger(input_name="n")
async def inc_async(n: int) -> int:
    await asyncio.sleep(0)
    return n + 1


@app.activity_trigger(input_name="value")
def echo(value: object) -> object:
    return value


@app.activity_trigger(input_name="order")
def flaky(order: dict) -> int:
    """Fails `fail` times for its key, then returns the number of the attempt."""
    time.sleep(order.get("seconds", 0))
    calls[order["key"]] += 1
    if calls[order["key"]] <= order["fail"]:
        raise ValueError(f"boom {calls[order['key']]}")
    return calls[order["key"]]


@app.activity_trigger(input_name="seconds")
def slow(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@app.activity_trigger(input_name="order")
def slow_step(order: dict) -> int:
    """Leaves a mark for each time it begins."""
    with Path(order["log"]).open("a") as log:
        log.write(f"{order['n']}\n")
    time.sleep(order["seconds"])
    return order["n"] + 1


@app.activity_trigger(input_name="size")
def blob(size: int) -> str:
    return "x" * size


@app.activity_trigger(input_name="key")
def call_count(key: str) -> int:
    return calls[key]


@app.activity_trigger(input_name="value")
def bad_result(value: object) -> object:
    return {1, 2}


@app.activity_trigger(input_name="n")
@app.durable_client_input(client_name="client")
async def own_status(n: int, client: df.DurableOrchestrationClient, context: func.Context) -> list:
    found = await client.get_status("nobody")
    return [n, bool(found), context.function_name]


# -- orchestrators ------------------------------------------------------------


@app.orchestration_trigger(context_name="context")
def chain(context: df.DurableOrchestrationContext):
    value = 0
    for _ in range(int(context.get_input() or 5)):
        value = yield context.call_activity("inc", value)
    return value


@app.orchestration_trigger(context_name="context")
def fan_async(context):
    results = yield context.task_all(
        [context.call_activity("inc_async", n) for n in range(context.get_input())]
    )
    return sum(results)


@app.orchestration_trigger(context_name="context")
def fan_sync(context):
    results = yield context.task_all(
        [context.call_activity("inc", n) for n in range(context.get_input())]
    )
    return sum(results)


@app.orchestration_trigger(context_name="context")
def retry(context):
    order = context.get_input()
    options = df.RetryOptions(200, order["attempts"])
    attempt = yield context.call_activity_with_retry("flaky", options, order)
    return (yield context.call_activity("inc", attempt))


@app.orchestration_trigger(context_name="context")
def retry_all(context):
    options = df.RetryOptions(200, 4)
    return (
        yield context.task_all(
            [
                context.call_activity_with_retry(
                    "flaky", options, {"key": f"{context.instance_id}-{i}", "fail": i % 3}
                )
                for i in range(10)
            ]
        )
    )


@app.orchestration_trigger(context_name="context")
def timer(context):
    before = context.current_utc_datetime
    yield context.create_timer(before + timedelta(seconds=context.get_input()))
    return (context.current_utc_datetime - before).total_seconds()


@app.orchestration_trigger(context_name="context")
def race(context):
    order = context.get_input()
    deadline = context.create_timer(context.current_utc_datetime + timedelta(seconds=order["s"]))
    event = context.wait_for_external_event("go")
    winner = yield context.task_any([deadline, event])
    if winner == event:
        if order.get("cancel", True):
            deadline.cancel()
        return {"won": "event", "data": event.result, "type": type(event.result).__name__}
    return {"won": "timer"}


@app.orchestration_trigger(context_name="context")
def events(context):
    found = []
    for _ in range(3):
        found.append((yield context.wait_for_external_event("e")))
    return found


@app.orchestration_trigger(context_name="context")
def nested_fan_out(context):
    """A failure inside the inner fan-out is caught while a sibling is still open; what follows is further work, or nothing."""
    failing = context.call_activity("flaky", {"key": context.instance_id, "fail": 10**9})
    inner = context.task_all([failing, context.wait_for_external_event("go")])
    try:
        yield context.task_all([inner, context.call_activity("inc", 1)])
    except Exception:
        if context.get_input() == "return":
            return "caught"
    return (yield context.call_activity("inc", 2))


@app.orchestration_trigger(context_name="context")
def early_events(context):
    yield context.create_timer(context.current_utc_datetime + timedelta(seconds=2))
    found = []
    for _ in range(3):
        found.append((yield context.wait_for_external_event("e")))
    return found


@app.orchestration_trigger(context_name="context")
def early_events_any(context):
    yield context.create_timer(context.current_utc_datetime + timedelta(seconds=2))
    found = []
    for _ in range(3):
        event = context.wait_for_external_event("e")
        deadline = context.create_timer(context.current_utc_datetime + timedelta(seconds=5))
        yield context.task_any([event, deadline])
        deadline.cancel()
        found.append(event.result)
    return found


@app.orchestration_trigger(context_name="context")
def parent(context):
    fanned = yield context.task_all([context.call_sub_orchestrator("chain", n) for n in (1, 2, 3)])
    named = yield context.call_sub_orchestrator("chain", 2, f"{context.instance_id}:child")
    return [fanned, named]


@app.orchestration_trigger(context_name="context")
def bad_sub(context):
    try:
        yield context.call_sub_orchestrator("fails", context.get_input())
    except Exception as error:
        return f"caught: {str(error)[:120]}"


@app.orchestration_trigger(context_name="context")
def own_child(context):
    return (yield context.call_sub_orchestrator("chain", 1, context.instance_id))


@app.orchestration_trigger(context_name="context")
def twins(context):
    same = f"{context.instance_id}:same"
    try:
        return (
            yield context.task_all(
                [context.call_sub_orchestrator("timer", 3, same) for _ in range(2)]
            )
        )
    except Exception as error:
        return str(error)


@app.orchestration_trigger(context_name="context")
def eternal(context):
    generation = context.get_input() or 0
    context.set_custom_status({"gen": generation})
    following = yield context.call_activity("inc", generation)
    if generation < 5:
        context.continue_as_new(following)
        return None
    return generation


@app.orchestration_trigger(context_name="context")
def monitor(context):
    generation = context.get_input() or 0
    deadline = context.create_timer(context.current_utc_datetime + timedelta(seconds=1))
    work = context.call_activity("inc", generation)
    winner = yield context.task_any([work, deadline])
    if winner == work:
        deadline.cancel()
    word = yield context.call_activity("echo", f"second{generation}")
    if generation < 15:
        context.continue_as_new(generation + 1)
        return None
    return word


@app.orchestration_trigger(context_name="context")
def stale_timer(context):
    if not context.get_input():
        deadline = context.create_timer(context.current_utc_datetime + timedelta(seconds=1))
        work = context.call_activity("echo", "x")
        winner = yield context.task_any([deadline, work])
        if winner == work:
            deadline.cancel()
        context.continue_as_new(1)
        return None
    before = context.current_utc_datetime
    yield context.create_timer(before + timedelta(seconds=3))
    return (context.current_utc_datetime - before).total_seconds()


@app.orchestration_trigger(context_name="context")
def event_once(context):
    seen = context.get_input() or []
    event = context.wait_for_external_event("e")
    deadline = context.create_timer(context.current_utc_datetime + timedelta(seconds=6))
    winner = yield context.task_any([event, deadline])
    if winner != event:
        return [*seen, "timeout"]
    deadline.cancel()
    if len(seen) < 2:
        context.continue_as_new([*seen, event.result])
        return None
    return [*seen, event.result]


@app.orchestration_trigger(context_name="context")
def statuses(context):
    for stage in ("one", "two", "three"):
        context.set_custom_status({"stage": stage})
        yield context.call_activity("slow", 0.3)
    return "ok"


@app.orchestration_trigger(context_name="context")
def status_cleared(context):
    context.set_custom_status({"stage": "one"})
    yield context.call_activity("echo", 1)
    context.set_custom_status(None)
    yield context.create_timer(context.current_utc_datetime + timedelta(seconds=60))
    return "ok"


@app.orchestration_trigger(context_name="context")
def big_status(context):
    context.set_custom_status("x" * context.get_input())
    yield context.call_activity("inc", 1)
    return "never"


@app.orchestration_trigger(context_name="context")
def fails(context):
    yield context.call_activity("flaky", {"key": f"{context.instance_id}", "fail": 10**9})


@app.orchestration_trigger(context_name="context")
def fails_once(context):
    first = yield context.call_activity("inc", 1)
    second = yield context.call_activity("flaky", {"key": f"once-{context.instance_id}", "fail": 1})
    return [first, second]


@app.orchestration_trigger(context_name="context")
def catches(context):
    try:
        yield context.call_activity("flaky", {"key": context.instance_id, "fail": 10**9})
    except Exception as error:
        word = yield context.call_activity("echo", "handled")
        return [word, str(error)[:80]]


@app.orchestration_trigger(context_name="context")
def fail_fast(context):
    try:
        yield context.task_all(
            [
                context.call_activity("slow", 1.5),
                context.call_activity("flaky", {"key": context.instance_id, "fail": 10**9}),
            ]
        )
    except Exception:
        return (yield context.call_activity("echo", "after"))


@app.orchestration_trigger(context_name="context")
def desync(context):
    """Trap T1: catching the failure while a sibling still retries."""
    try:
        yield context.task_all(
            [
                context.call_activity_with_retry(
                    "flaky", df.RetryOptions(10, 1), {"key": f"{context.instance_id}a", "fail": 9}
                ),
                context.call_activity_with_retry(
                    "flaky",
                    df.RetryOptions(100, 3),
                    {"key": f"{context.instance_id}b", "fail": 1, "seconds": 0.5},
                ),
            ]
        )
    except Exception:
        return (yield context.call_activity("echo", "this must come back"))


@app.orchestration_trigger(context_name="context")
def raises(context):
    yield context.call_activity("inc", 1)
    raise KeyError("oops")


@app.orchestration_trigger(context_name="context")
def error_with_key(context):
    yield context.call_activity("inc", 1)
    raise RuntimeError("no row with key=abc, sorry")


executions: Counter[str] = Counter()


@app.orchestration_trigger(context_name="context")
def nondeterministic(context):
    executions[context.instance_id] += 1
    yield context.call_activity("inc" if executions[context.instance_id] == 1 else "echo", 1)
    return "never"


@app.orchestration_trigger(context_name="context")
def unknown_activity(context):
    return (yield context.call_activity("nope", 1))


@app.orchestration_trigger(context_name="context")
def http_call(context):
    return (yield context.call_http("GET", "http://127.0.0.1:9/"))


@app.orchestration_trigger(context_name="context")
def plain_return(context):
    return {"plain": True, "id": context.instance_id}


@app.orchestration_trigger(context_name="context")
def clock(context):
    first, a, b = context.current_utc_datetime, context.new_uuid(), context.new_uuid()
    yield context.create_timer(first + timedelta(seconds=1))
    return [context.current_utc_datetime > first, a != b, context.is_replaying]


@app.orchestration_trigger(context_name="context")
def slow_parent(context):
    return (yield context.call_sub_orchestrator("timer", context.get_input()))


@app.orchestration_trigger(context_name="context")
def big_results(context):
    results = yield context.task_all([context.call_activity("blob", 10_000) for _ in range(600)])
    return sum(len(result) for result in results)


@app.orchestration_trigger(context_name="context")
def many_timers(context):
    moment = context.current_utc_datetime
    yield context.task_all(
        [
            context.create_timer(moment + timedelta(seconds=60 + n))
            for n in range(context.get_input())
        ]
    )


@app.orchestration_trigger(context_name="context")
def day_of_hours(context):
    for _ in range(24):
        yield context.create_timer(context.current_utc_datetime + timedelta(hours=1))
    return context.current_utc_datetime.isoformat()


@app.orchestration_trigger(context_name="context")
def crash_chain(context):
    order = context.get_input()
    value = 0
    for _ in range(order["steps"]):
        value = yield context.call_activity(
            "slow_step", {"n": value, "seconds": order["seconds"], "log": order["log"]}
        )
    return value


@app.orchestration_trigger(context_name="context")
def version(context):
    child = yield context.call_sub_orchestrator("version_of_child")
    return [context.version, child]


@app.orchestration_trigger(context_name="context")
def version_of_child(context):
    return context.version


@app.orchestration_trigger(context_name="context")
def bad_result_caught(context):
    try:
        yield context.call_activity("bad_result", 1)
    except Exception as error:
        return str(error)[:120]


@app.orchestration_trigger(context_name="context")
def activity_with_client(context):
    return (yield context.call_activity("own_status", 7))


@app.orchestration_trigger(context_name="context")
def out_date(context):
    yield context.call_activity("inc", 1)
    return {"when": "2026-01-02T03:04:05.1230000+02:00", "s": "2026-01-02T03:04:05Z"}


# -- HTTP triggers ------------------------------------------------------------


@app.route(route="start/{name}/{iid?}", methods=["POST"])
@app.durable_client_input(client_name="client")
async def start(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    body = req.get_body()
    given = req.get_json() if body else None
    instance_id = await client.start_new(
        req.route_params["name"], req.route_params.get("iid"), given
    )
    return client.create_check_status_response(req, instance_id)


@app.route(route="start-once/{name}/{iid}", methods=["POST"])
@app.durable_client_input(client_name="client")
async def start_once(
    req: func.HttpRequest, client: df.DurableOrchestrationClient
) -> func.HttpResponse:
    status = await client.get_status(req.route_params["iid"])
    if status and status.runtime_status.name in ("Running", "Pending", "Suspended"):
        return func.HttpResponse("live already", status_code=409)
    await client.start_new(req.route_params["name"], req.route_params["iid"], req.get_json())
    return client.create_check_status_response(req, req.route_params["iid"])


@app.route(route="start-and-wait/{name}", methods=["POST"])
@app.durable_client_input(client_name="client")
async def start_and_wait(
    req: func.HttpRequest, client: df.DurableOrchestrationClient
) -> func.HttpResponse:
    instance_id = await client.start_new(req.route_params["name"], None, req.get_json())
    return await client.wait_for_completion_or_create_check_status_response(
        req, instance_id, 8000, 200
    )


@app.route(route="raise/{iid}/{name}", methods=["POST"])
@app.durable_client_input(client_name="client")
async def raise_by_client(
    req: func.HttpRequest, client: df.DurableOrchestrationClient
) -> func.HttpResponse:
    await client.raise_event(req.route_params["iid"], req.route_params["name"], req.get_json())
    return func.HttpResponse(status_code=202)


@app.route(route="sdk-status/{iid}", methods=["GET"])
@app.durable_client_input(client_name="client")
async def sdk_status(
    req: func.HttpRequest, client: df.DurableOrchestrationClient
) -> func.HttpResponse:
    import json

    status = await client.get_status(req.route_params["iid"], show_history=True)
    everything = await client.get_status_all()
    failed = await client.get_status_by(runtime_status=[df.OrchestrationRuntimeStatus.Failed])
    return func.HttpResponse(
        json.dumps(
            {
                "status": status.runtime_status.name,
                "input": status.input_,
                "all": len(everything),
                "failed": len(failed),
                "nobody": bool(await client.get_status("nobody")),
            }
        ),
        mimetype="application/json",
    )


@app.route(route="sdk-look/{iid?}", methods=["GET"])
@app.durable_client_input(client_name="client")
async def sdk_look(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> str:
    status = await client.get_status(req.route_params.get("iid", ""))
    return status.runtime_status.name if status else "unknown"


@app.route(route="sdk-manage/{iid}/{operation}", methods=["POST"])
@app.durable_client_input(client_name="client")
async def sdk_manage(
    req: func.HttpRequest, client: df.DurableOrchestrationClient
) -> func.HttpResponse:
    iid, operation = req.route_params["iid"], req.route_params["operation"]
    if operation == "purge":
        return func.HttpResponse(str((await client.purge_instance_history(iid)).instances_deleted))
    await getattr(client, operation)(iid, "a reason")
    return func.HttpResponse(status_code=202)


@app.route(
    route="reflect/{n:int}/{*rest}", methods=["GET", "PUT"], auth_level=func.AuthLevel.ANONYMOUS
)
def reflect(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    import json

    answer = func.HttpResponse(
        json.dumps(
            {
                "method": req.method,
                "url": req.url,
                "params": dict(req.params),
                "route": dict(req.route_params),
                "header": req.headers.get("X-Test"),
                "body": req.get_body().decode(),
                "name": context.function_name,
                "setting": os.environ.get("SAMPLE_VALUE"),
            }
        ),
        mimetype="application/json",
        status_code=201,
    )
    answer.headers.add("Set-Cookie", "a=1; Path=/")
    answer.headers.add("Set-Cookie", "b=2")
    return answer


@app.route(route="reflect/fixed/text")
def fixed(req: func.HttpRequest) -> str:
    return "fixed wins"


@app.route()
def nothing(req: func.HttpRequest):
    return None


@app.route(route="broken")
def broken(req: func.HttpRequest) -> func.HttpResponse:
    raise RuntimeError("as asked")


@app.route(route="broken-result")
def broken_result(req: func.HttpRequest) -> func.HttpResponse:
    return 5


# -- timer triggers -----------------------------------------------------------

ticks: list[dict] = []


@app.timer_trigger(arg_name="tick", schedule="%SAMPLE_SCHEDULE%", use_monitor=False)
def tick(tick: func.TimerRequest) -> None:
    ticks.append({"past_due": tick.past_due, "next": tick.schedule_status["Next"]})


@app.timer_trigger(arg_name="tick", schedule="0 0 5 * * *")
@app.durable_client_input(client_name="client")
async def daily(tick: func.TimerRequest, client: df.DurableOrchestrationClient) -> None:
    await client.start_new("chain", None, 2)


@app.route(route="ticks")
def tick_count(req: func.HttpRequest) -> str:
    return str(len(ticks))
