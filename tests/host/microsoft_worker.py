"""Runs functions through Microsoft's worker code and through the local host.

    python -m tests.host.microsoft_worker APP_ROOT < calls

`test_microsoft_worker.py` runs this module in a separate process with the packages of the worker on
PYTHONPATH, because the worker code keeps its registry in modules. A call is a line of JSON:
`{"function": name, "input": string}` or `{"function": name, "http": {...}}`. Each result is a line
of JSON with both results.
"""

import asyncio
import json
import logging
import os
import sys
import uuid
from enum import IntEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from azure.functions.meta import Datum

from local.host import sdk_patches
from local.host.functions import AppFunction, index_app, load_app
from local.host.http_calls import request_datum, response_from_datum
from local.host.http_messages import HostRequest, HostResponse
from local.host.invocation import Invoker
from local.host.user_loop import UserLoop


class Direction(IntEnum):
    IN, OUT, INOUT = 0, 1, 2


PROTOS = SimpleNamespace(
    BindingInfo=SimpleNamespace(
        **{name: Direction[name.upper()] for name in ("in", "out", "inout")}, undefined=None
    )
)


class MicrosoftWorker:
    """The loader, the registry and the invocation of `azure_functions_runtime`."""

    def __init__(self) -> None:
        from azure_functions_runtime import handle_event, loader, native_invocation
        from azure_functions_runtime.bindings.meta import load_binding_registry
        from azure_functions_runtime.utils.threadpool import start_threadpool_executor

        load_binding_registry()
        start_threadpool_executor()
        self._invoke = native_invocation.invocation_request_native
        self.ids = {}
        for function in loader.index_function_app("function_app.py"):
            info = handle_event._functions.add_indexed_function(function=function, protos=PROTOS)
            self.ids[info.name] = info.function_id

    async def call(self, function: AppFunction, inputs: list[tuple[str, Datum]]) -> dict[str, Any]:
        ok, datum, _, error, _ = await self._invoke(
            str(uuid.uuid4()), self.ids[function.name], inputs, {}
        )
        if not ok:
            return {"error": error}
        if function.trigger == "httpTrigger":
            return describe_response(response_from_datum(datum))
        return {"result": None if datum is None or datum.value is None else json.loads(datum.value)}


def describe_response(response: HostResponse) -> dict[str, Any]:
    return {
        "status": response.status,
        "headers": sorted(map(list, response.headers)),
        "body": response.body.decode(),
    }


def create_inputs(function: AppFunction, call: dict[str, Any]) -> list[tuple[str, Datum]]:
    if "http" in call:
        http_call = call["http"]
        datum = request_datum(create_request(http_call), http_call["parameters"])
    else:
        datum = Datum(type="string", value=call["input"])
    return [(function.trigger_parameter, datum), *create_client_inputs(function)]


def create_client_inputs(function: AppFunction) -> list[tuple[str, Datum]]:
    return [(name, Datum(type="string", value=BINDING)) for name in function.client_parameters]


BINDING = json.dumps(
    {
        "taskHubName": "Hub",
        "creationUrls": {},
        "managementUrls": {},
        "baseUrl": "",
        "rpcBaseUrl": "",
        "requiredQueryStringParameters": "",
    }
)


def create_request(http_call: dict[str, Any]) -> HostRequest:
    headers = [(name, value) for name, value in http_call["headers"]]
    return HostRequest.from_target(
        http_call["method"], http_call["path"], headers, http_call["body"].encode(), "http://host"
    )


def call_local_host(
    invoker: Invoker, function: AppFunction, call: dict[str, Any]
) -> dict[str, Any]:
    try:
        if function.trigger == "httpTrigger":
            http_call = call["http"]
            future = invoker.call_http(function, create_request(http_call), http_call["parameters"])
            return describe_response(future.result(30))
        if function.trigger == "orchestrationTrigger":
            return {"result": json.loads(invoker.call_orchestrator(function, call["input"]))}
        text = invoker.call_activity(function, json.dumps([call["input"]])).result(30)
        return {"result": None if text is None else json.loads(text)}
    except Exception as error:
        return {"error": repr(error)}


def main() -> None:
    root = Path(sys.argv[1])
    logging.disable(logging.CRITICAL)
    sys.path.insert(0, str(root))
    sdk_patches.install()
    index = index_app(load_app(root), os.environ, "api")
    sys.modules["function_app"].app.functions_bindings = {}
    loop = UserLoop.shared()
    invoker = Invoker(loop, root, lambda: BINDING)
    microsoft_worker = MicrosoftWorker()
    print(
        json.dumps(
            {
                "local_host": sorted(function.name for function in index.all),
                "microsoft": sorted(microsoft_worker.ids),
            }
        )
    )
    for line in sys.stdin:
        call = json.loads(line)
        function = index.find(call["function"])
        assert function is not None
        microsoft_result = asyncio.run_coroutine_threadsafe(
            microsoft_worker.call(function, create_inputs(function, call)), loop.loop
        ).result(30)
        print(
            json.dumps(
                {
                    "function": function.name,
                    "local_host": call_local_host(invoker, function, call),
                    "microsoft": microsoft_result,
                }
            )
        )
    invoker.stop(abandon=False)


if __name__ == "__main__":
    main()
