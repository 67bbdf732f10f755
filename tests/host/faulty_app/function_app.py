"""An app whose functions exit, block or use up the memory of their worker process."""

import os
import signal
import sys
import time

import azure.durable_functions as df
import azure.functions as func

app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)


@app.activity_trigger(input_name="behavior")
def act(behavior: str) -> object:
    match behavior:
        case "exit":
            os._exit(7)
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "memory":
            # Zeroed memory counts towards the limit at once, and its allocation is fast.
            return len([bytes(64 * 2**20) for _ in range(1000)])
        case "block":
            while True:
                time.sleep(60)
        case "raise":
            raise ValueError("planned")
        case "sys.exit":
            sys.exit(3)
        case "slow":
            time.sleep(1.0)
        case _:
            return os.getpid()
    return behavior


@app.activity_trigger(input_name="value")
async def act_async(value: object) -> int:
    return os.getpid()


@app.orchestration_trigger(context_name="context")
def call_act(context):
    try:
        return (yield context.call_activity("act", context.get_input()))
    except Exception as error:
        process_id = yield context.call_activity("act_async")
        return [str(error).partition(" \n ")[0], process_id > 0]


@app.orchestration_trigger(context_name="context")
def exit_process(context):
    yield context.call_activity("act", "pid")
    os._exit(9)


@app.orchestration_trigger(context_name="context")
def wait_for_event(context):
    return (yield context.wait_for_external_event("go"))


@app.route(route="do/{behavior}")
def act_over_http(req: func.HttpRequest) -> str:
    behavior = req.route_params["behavior"]
    if behavior == "exit":
        os._exit(7)
    if behavior == "block":
        time.sleep(3600)
    return str(os.getpid())


@app.route(route="start/{name}", methods=["POST"])
@app.durable_client_input(client_name="client")
async def start(req: func.HttpRequest, client) -> func.HttpResponse:
    instance_id = await client.start_new(req.route_params["name"], None, req.get_json())
    return client.create_check_status_response(req, instance_id)


@app.timer_trigger(arg_name="tick", schedule="%FAULTY_SCHEDULE%", use_monitor=False)
def tick(tick: func.TimerRequest) -> None:
    os._exit(5)
