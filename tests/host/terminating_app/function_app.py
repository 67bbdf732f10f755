"""The orchestrators whose interruption was recorded: see `golden/traces-3.19.jsonl`.

The functions do not end the worker process. The tests plan its termination.
"""

import asyncio
from datetime import timedelta

import azure.durable_functions as df
import azure.functions as func

app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)
THREE_ATTEMPTS = df.RetryOptions(first_retry_interval_in_milliseconds=100, max_number_of_attempts=3)
TWO_ATTEMPTS = df.RetryOptions(first_retry_interval_in_milliseconds=100, max_number_of_attempts=2)
released = asyncio.Event()


@app.activity_trigger(input_name="value")
def echo(value: object) -> object:
    return value


@app.activity_trigger(input_name="value")
def inc(value: int) -> int:
    return value + 1


@app.activity_trigger(input_name="value")
async def die(value: dict) -> str:
    """Wait for a request to `release` if `s` is 1."""
    if value.get("s") == 1:
        await released.wait()
    return "survived"


@app.activity_trigger(input_name="value")
async def slow(value: dict) -> None:
    """Run until the worker process ends."""
    await asyncio.Event().wait()


@app.route(route="release", methods=["POST"])
async def release(req: func.HttpRequest) -> func.HttpResponse:
    """Let `die` continue, and run until the worker process ends."""
    released.set()
    await asyncio.Event().wait()
    return func.HttpResponse()


def key_of(context):
    return (context.get_input() or {}).get("k", context.instance_id)


@app.orchestration_trigger(context_name="context")
def wd_first(context):
    return (yield context.call_activity("echo", "done"))


@app.orchestration_trigger(context_name="context")
def wd_last(context):
    return (yield context.call_activity("echo", "done"))


@app.orchestration_trigger(context_name="context")
def wd_later(context):
    yield context.call_activity("inc", 1)
    return (yield context.call_activity("echo", "done"))


@app.orchestration_trigger(context_name="context")
def wd_after_timer(context):
    yield context.create_timer(context.current_utc_datetime + timedelta(seconds=1))
    return (yield context.call_activity("echo", "done"))


@app.orchestration_trigger(context_name="context")
def wd_after_event(context):
    yield context.wait_for_external_event("go")
    return (yield context.call_activity("echo", "done"))


@app.orchestration_trigger(context_name="context")
def wd_act(context):
    return (yield context.call_activity("die", {"k": key_of(context), "s": 0.3}))


@app.orchestration_trigger(context_name="context")
def wd_act_caught(context):
    results = []
    for _ in range(2):
        try:
            results.append((yield context.call_activity("die", {"k": key_of(context)})))
        except Exception as error:
            results.append(f"{type(error).__name__}|{error}")
    return results


@app.orchestration_trigger(context_name="context")
def wd_act_retry(context):
    return (yield context.call_activity_with_retry("die", THREE_ATTEMPTS, {"k": key_of(context)}))


@app.orchestration_trigger(context_name="context")
def wd_act_retry_exhausted(context):
    try:
        yield context.call_activity_with_retry("die", TWO_ATTEMPTS, {"k": key_of(context)})
    except Exception as error:
        return f"{type(error).__name__}|{error}"


@app.orchestration_trigger(context_name="context")
def wd_all_caught(context):
    tasks = [
        context.call_activity("die", {"k": key_of(context), "s": 1}),
        context.call_activity("slow", {"s": 3}),
        context.call_activity("echo", 1),
    ]
    try:
        result = yield context.task_all(tasks)
    except Exception as error:
        result = f"{type(error).__name__}|{error}"
    return [result, (yield context.call_activity("echo", "after"))]


@app.orchestration_trigger(context_name="context")
def wd_slow(context):
    return (yield context.call_activity("slow", {"s": 5}))


@app.orchestration_trigger(context_name="context")
def race(context):
    timer = context.create_timer(context.current_utc_datetime + timedelta(seconds=30))
    event = context.wait_for_external_event("go")
    yield context.task_any([timer, event])
    timer.cancel()
    return {"won": "event", "data": event.result, "type": type(event.result).__name__}


@app.orchestration_trigger(context_name="context")
def wd_parent(context):
    child, how = context.get_input()["child"], context.get_input()["how"]
    content = {"k": context.instance_id}
    if how == "retry":
        result = yield context.call_sub_orchestrator_with_retry(child, THREE_ATTEMPTS, content)
    elif how == "plain":
        result = yield context.call_sub_orchestrator(child, content)
    else:
        try:
            result = yield context.call_sub_orchestrator(child, content)
        except Exception as error:
            result = f"{type(error).__name__}|{error}"
    return [result, (yield context.call_activity("echo", "after"))]
