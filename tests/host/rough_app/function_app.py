"""An app that treats its process badly, for the tests of the worker process."""

import os
import signal
import sys
import time

import azure.durable_functions as df
import azure.functions as func

app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)


@app.activity_trigger(input_name="how")
def act(how: str) -> object:
    match how:
        case "exit":
            os._exit(7)
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "memory":
            return len(
                [bytes(64 * 2**20) for _ in range(1000)]
            )  # counts at once, touches nothing: fast on any machine
        case "block":
            while True:
                time.sleep(60)
        case "raise":
            raise ValueError("as asked")
        case "sys.exit":
            sys.exit(3)
        case "slow":
            time.sleep(1.0)
        case _:
            return os.getpid()
    return how


@app.activity_trigger(input_name="nothing")
async def act_async(nothing: object) -> int:
    return os.getpid()


@app.orchestration_trigger(context_name="context")
def one(context):
    try:
        return (yield context.call_activity("act", context.get_input()))
    except Exception as error:
        after = yield context.call_activity("act_async")
        return [str(error).partition(" \n ")[0], after > 0]


@app.orchestration_trigger(context_name="context")
def side_by_side(context):
    """The one that misbehaves, beside others that do not; each keeps its own outcome."""
    tasks = [context.call_sub_orchestrator("one", how) for how in context.get_input()]
    return (yield context.task_all(tasks))


@app.orchestration_trigger(context_name="context")
def dies(context):
    yield context.call_activity("act", "pid")
    os._exit(9)


@app.orchestration_trigger(context_name="context")
def waits(context):
    return (yield context.wait_for_external_event("go"))


@app.route(route="do/{how}")
def do(req: func.HttpRequest) -> str:
    return str(act_body(req.route_params["how"]))


def act_body(how: str) -> object:
    if how == "exit":
        os._exit(7)
    if how == "block":
        time.sleep(3600)
    return os.getpid()


@app.route(route="start/{name}", methods=["POST"])
@app.durable_client_input(client_name="client")
async def start(req: func.HttpRequest, client) -> func.HttpResponse:
    iid = await client.start_new(req.route_params["name"], None, req.get_json())
    return client.create_check_status_response(req, iid)


@app.timer_trigger(arg_name="tick", schedule="%ROUGH_SCHEDULE%", use_monitor=False)
def tick(tick: func.TimerRequest) -> None:
    os._exit(5)
