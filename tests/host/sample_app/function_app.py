"""The app that the tests of the local host run. Each orchestrator covers one scenario."""

import asyncio
import json
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


@app.activity_trigger(input_name="parameters")
def flaky(parameters: dict) -> int:
    """Fail `fail` times for the key, then return the attempt number."""
    time.sleep(parameters.get("seconds", 0))
    calls[parameters["key"]] += 1
    if calls[parameters["key"]] <= parameters["fail"]:
        raise ValueError(f"boom {calls[parameters['key']]}")
    return calls[parameters["key"]]


@app.activity_trigger(input_name="seconds")
def slow(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@app.activity_trigger(input_name="parameters")
def slow_step(parameters: dict) -> int:
    """Append one line to the log file for each execution."""
    with Path(parameters["log"]).open("a") as log:
        log.write(f"{parameters['n']}\n")
    time.sleep(parameters["seconds"])
    return parameters["n"] + 1


@app.activity_trigger(input_name="size")
def create_text(size: int) -> str:
    return "x" * size


@app.activity_trigger(input_name="key")
def call_count(key: str) -> int:
    return calls[key]


@app.activity_trigger(input_name="value")
def bad_result(value: object) -> object:
    return {1, 2}


@app.activity_trigger(input_name="n")
@app.durable_client_input(client_name="client")
async def client_status(
    n: int, client: df.DurableOrchestrationClient, context: func.Context
) -> list:
    status = await client.get_status("unknown")
    return [n, bool(status), context.function_name]


# -- orchestrators ------------------------------------------------------------


@app.orchestration_trigger(context_name="context")
def chain(context: df.DurableOrchestrationContext):
    value = 0
    for _ in range(int(context.get_input() or 5)):
        value = yield context.call_activity("inc", value)
    return value


@app.orchestration_trigger(context_name="context")
def fan_out_async(context):
    results = yield context.task_all(
        [context.call_activity("inc_async", n) for n in range(context.get_input())]
    )
    return sum(results)


@app.orchestration_trigger(context_name="context")
def fan_out_sync(context):
    results = yield context.task_all(
        [context.call_activity("inc", n) for n in range(context.get_input())]
    )
    return sum(results)


@app.orchestration_trigger(context_name="context")
def retry(context):
    parameters = context.get_input()
    options = df.RetryOptions(200, parameters["attempts"])
    attempt = yield context.call_activity_with_retry("flaky", options, parameters)
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
    started_at = context.current_utc_datetime
    yield context.create_timer(started_at + timedelta(seconds=context.get_input()))
    return (context.current_utc_datetime - started_at).total_seconds()


@app.orchestration_trigger(context_name="context")
def race(context):
    parameters = context.get_input()
    deadline = context.create_timer(
        context.current_utc_datetime + timedelta(seconds=parameters["s"])
    )
    event = context.wait_for_external_event("go")
    winner = yield context.task_any([deadline, event])
    if winner == event:
        if parameters.get("cancel", True):
            deadline.cancel()
        return {"won": "event", "data": event.result, "type": type(event.result).__name__}
    return {"won": "timer"}


@app.orchestration_trigger(context_name="context")
def events(context):
    results = []
    for _ in range(3):
        results.append((yield context.wait_for_external_event("e")))
    return results


@app.orchestration_trigger(context_name="context")
def nested_fan_out(context):
    """Catch a failure in the inner fan-out while a sibling is still pending.

    Then return, or schedule another activity, depending on the input.
    """
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
    results = []
    for _ in range(3):
        results.append((yield context.wait_for_external_event("e")))
    return results


@app.orchestration_trigger(context_name="context")
def early_events_any(context):
    yield context.create_timer(context.current_utc_datetime + timedelta(seconds=2))
    results = []
    for _ in range(3):
        event = context.wait_for_external_event("e")
        deadline = context.create_timer(context.current_utc_datetime + timedelta(seconds=5))
        yield context.task_any([event, deadline])
        deadline.cancel()
        results.append(event.result)
    return results


@app.orchestration_trigger(context_name="context")
def parent(context):
    fan_out_results = yield context.task_all(
        [context.call_sub_orchestrator("chain", n) for n in (1, 2, 3)]
    )
    named_result = yield context.call_sub_orchestrator("chain", 2, f"{context.instance_id}:child")
    return [fan_out_results, named_result]


@app.orchestration_trigger(context_name="context")
def failing_child(context):
    try:
        yield context.call_sub_orchestrator("failing", context.get_input())
    except Exception as error:
        return f"caught: {str(error)[:120]}"


@app.orchestration_trigger(context_name="context")
def child_with_own_id(context):
    return (yield context.call_sub_orchestrator("chain", 1, context.instance_id))


@app.orchestration_trigger(context_name="context")
def children_with_same_id(context):
    child_id = f"{context.instance_id}:same"
    try:
        return (
            yield context.task_all(
                [context.call_sub_orchestrator("timer", 3, child_id) for _ in range(2)]
            )
        )
    except Exception as error:
        return str(error)


@app.orchestration_trigger(context_name="context")
def eternal(context):
    generation = context.get_input() or 0
    context.set_custom_status({"gen": generation})
    next_generation = yield context.call_activity("inc", generation)
    if generation < 5:
        context.continue_as_new(next_generation)
        return None
    return generation


@app.orchestration_trigger(context_name="context")
def monitor(context):
    generation = context.get_input() or 0
    deadline = context.create_timer(context.current_utc_datetime + timedelta(seconds=1))
    activity = context.call_activity("inc", generation)
    winner = yield context.task_any([activity, deadline])
    if winner == activity:
        deadline.cancel()
    text = yield context.call_activity("echo", f"second{generation}")
    if generation < 15:
        context.continue_as_new(generation + 1)
        return None
    return text


@app.orchestration_trigger(context_name="context")
def stale_timer(context):
    if not context.get_input():
        deadline = context.create_timer(context.current_utc_datetime + timedelta(seconds=1))
        activity = context.call_activity("echo", "x")
        winner = yield context.task_any([deadline, activity])
        if winner == activity:
            deadline.cancel()
        context.continue_as_new(1)
        return None
    started_at = context.current_utc_datetime
    yield context.create_timer(started_at + timedelta(seconds=3))
    return (context.current_utc_datetime - started_at).total_seconds()


@app.orchestration_trigger(context_name="context")
def event_once(context):
    results = context.get_input() or []
    event = context.wait_for_external_event("e")
    deadline = context.create_timer(context.current_utc_datetime + timedelta(seconds=6))
    winner = yield context.task_any([event, deadline])
    if winner != event:
        return [*results, "timeout"]
    deadline.cancel()
    if len(results) < 2:
        context.continue_as_new([*results, event.result])
        return None
    return [*results, event.result]


@app.orchestration_trigger(context_name="context")
def custom_statuses(context):
    for stage in ("one", "two", "three"):
        context.set_custom_status({"stage": stage})
        yield context.call_activity("slow", 0.3)
    return "ok"


@app.orchestration_trigger(context_name="context")
def cleared_custom_status(context):
    context.set_custom_status({"stage": "one"})
    yield context.call_activity("echo", 1)
    context.set_custom_status(None)
    yield context.create_timer(context.current_utc_datetime + timedelta(seconds=60))
    return "ok"


@app.orchestration_trigger(context_name="context")
def large_custom_status(context):
    context.set_custom_status("x" * context.get_input())
    yield context.call_activity("inc", 1)
    return "never"


@app.orchestration_trigger(context_name="context")
def failing(context):
    yield context.call_activity("flaky", {"key": f"{context.instance_id}", "fail": 10**9})


@app.orchestration_trigger(context_name="context")
def fails_once(context):
    first = yield context.call_activity("inc", 1)
    second = yield context.call_activity("flaky", {"key": f"once-{context.instance_id}", "fail": 1})
    return [first, second]


@app.orchestration_trigger(context_name="context")
def catches_failure(context):
    try:
        yield context.call_activity("flaky", {"key": context.instance_id, "fail": 10**9})
    except Exception as error:
        result = yield context.call_activity("echo", "handled")
        return [result, str(error)[:80]]


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
def sequence_mismatch(context):
    """Catch a failure while a sibling is still being retried."""
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
        return (yield context.call_activity("echo", "expected result"))


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
    started_at = context.current_utc_datetime
    first_id, second_id = context.new_uuid(), context.new_uuid()
    yield context.create_timer(started_at + timedelta(seconds=1))
    time_passed = context.current_utc_datetime > started_at
    return [time_passed, first_id != second_id, context.is_replaying]


@app.orchestration_trigger(context_name="context")
def parent_of_timer(context):
    return (yield context.call_sub_orchestrator("timer", context.get_input()))


@app.orchestration_trigger(context_name="context")
def large_results(context):
    results = yield context.task_all(
        [context.call_activity("create_text", 10_000) for _ in range(600)]
    )
    return sum(len(result) for result in results)


@app.orchestration_trigger(context_name="context")
def many_timers(context):
    started_at = context.current_utc_datetime
    yield context.task_all(
        [
            context.create_timer(started_at + timedelta(seconds=60 + n))
            for n in range(context.get_input())
        ]
    )


@app.orchestration_trigger(context_name="context")
def hourly_timers(context):
    for _ in range(24):
        yield context.create_timer(context.current_utc_datetime + timedelta(hours=1))
    return context.current_utc_datetime.isoformat()


@app.orchestration_trigger(context_name="context")
def slow_chain(context):
    parameters = context.get_input()
    value = 0
    for _ in range(parameters["steps"]):
        value = yield context.call_activity(
            "slow_step", {"n": value, "seconds": parameters["seconds"], "log": parameters["log"]}
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
def catches_bad_result(context):
    try:
        yield context.call_activity("bad_result", 1)
    except Exception as error:
        return str(error)[:120]


@app.orchestration_trigger(context_name="context")
def activity_with_client(context):
    return (yield context.call_activity("client_status", 7))


@app.orchestration_trigger(context_name="context")
def dates_in_output(context):
    yield context.call_activity("inc", 1)
    return {"when": "2026-01-02T03:04:05.1230000+02:00", "s": "2026-01-02T03:04:05Z"}


# -- HTTP triggers ------------------------------------------------------------


@app.route(route="start/{name}/{instance_id?}", methods=["POST"])
@app.durable_client_input(client_name="client")
async def start(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    body = req.get_body()
    content = req.get_json() if body else None
    instance_id = await client.start_new(
        req.route_params["name"], req.route_params.get("instance_id"), content
    )
    return client.create_check_status_response(req, instance_id)


@app.route(route="start-once/{name}/{instance_id}", methods=["POST"])
@app.durable_client_input(client_name="client")
async def start_once(
    req: func.HttpRequest, client: df.DurableOrchestrationClient
) -> func.HttpResponse:
    status = await client.get_status(req.route_params["instance_id"])
    if status and status.runtime_status.name in ("Running", "Pending", "Suspended"):
        return func.HttpResponse("already running", status_code=409)
    await client.start_new(
        req.route_params["name"], req.route_params["instance_id"], req.get_json()
    )
    return client.create_check_status_response(req, req.route_params["instance_id"])


@app.route(route="start-and-wait/{name}", methods=["POST"])
@app.durable_client_input(client_name="client")
async def start_and_wait(
    req: func.HttpRequest, client: df.DurableOrchestrationClient
) -> func.HttpResponse:
    instance_id = await client.start_new(req.route_params["name"], None, req.get_json())
    return await client.wait_for_completion_or_create_check_status_response(
        req, instance_id, 8000, 200
    )


@app.route(route="raise/{instance_id}/{name}", methods=["POST"])
@app.durable_client_input(client_name="client")
async def raise_by_client(
    req: func.HttpRequest, client: df.DurableOrchestrationClient
) -> func.HttpResponse:
    await client.raise_event(
        req.route_params["instance_id"], req.route_params["name"], req.get_json()
    )
    return func.HttpResponse(status_code=202)


@app.route(route="sdk-status/{instance_id}", methods=["GET"])
@app.durable_client_input(client_name="client")
async def sdk_status(
    req: func.HttpRequest, client: df.DurableOrchestrationClient
) -> func.HttpResponse:
    status = await client.get_status(req.route_params["instance_id"], show_history=True)
    instances = await client.get_status_all()
    failed = await client.get_status_by(runtime_status=[df.OrchestrationRuntimeStatus.Failed])
    return func.HttpResponse(
        json.dumps(
            {
                "status": status.runtime_status.name,
                "input": status.input_,
                "all": len(instances),
                "failed": len(failed),
                "unknown": bool(await client.get_status("unknown")),
            }
        ),
        mimetype="application/json",
    )


@app.route(route="sdk-runtime-status/{instance_id?}", methods=["GET"])
@app.durable_client_input(client_name="client")
async def sdk_runtime_status(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> str:
    status = await client.get_status(req.route_params.get("instance_id", ""))
    return status.runtime_status.name if status else "unknown"


@app.route(route="sdk-manage/{instance_id}/{operation}", methods=["POST"])
@app.durable_client_input(client_name="client")
async def sdk_manage(
    req: func.HttpRequest, client: df.DurableOrchestrationClient
) -> func.HttpResponse:
    instance_id, operation = req.route_params["instance_id"], req.route_params["operation"]
    if operation == "purge":
        return func.HttpResponse(
            str((await client.purge_instance_history(instance_id)).instances_deleted)
        )
    await getattr(client, operation)(instance_id, "a reason")
    return func.HttpResponse(status_code=202)


@app.route(
    route="reflect/{n:int}/{*rest}", methods=["GET", "PUT"], auth_level=func.AuthLevel.ANONYMOUS
)
def reflect(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    response = func.HttpResponse(
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
    response.headers.add("Set-Cookie", "a=1; Path=/")
    response.headers.add("Set-Cookie", "b=2")
    return response


@app.route(route="reflect/fixed/text")
def fixed(req: func.HttpRequest) -> str:
    return "fixed route"


@app.route()
def nothing(req: func.HttpRequest):
    return None


@app.route(route="broken")
def broken(req: func.HttpRequest) -> func.HttpResponse:
    raise RuntimeError("planned")


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
