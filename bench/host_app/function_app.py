"""The app of `bench.host`. Its functions are trivial so that the benchmark measures the host."""

from collections.abc import Generator
from datetime import timedelta
from typing import Any

import azure.durable_functions as df
import azure.functions as func

app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)


@app.activity_trigger(input_name="n")
async def inc(n: int) -> int:
    return n + 1


@app.orchestration_trigger(context_name="context")
def fan_out(context: df.DurableOrchestrationContext) -> Generator[Any, Any, int]:
    results = yield context.task_all(
        [context.call_activity("inc", n) for n in range(context.get_input())]
    )
    return sum(results)


@app.orchestration_trigger(context_name="context")
def timers(context: df.DurableOrchestrationContext) -> Generator[Any, Any, None]:
    moment = context.current_utc_datetime + timedelta(hours=1)
    yield context.task_all([context.create_timer(moment) for _ in range(context.get_input())])


@app.route(route="ping")
async def ping(req: func.HttpRequest) -> str:
    return "pong"
