"""Runs functions through Microsoft's own worker code and through ours, and prints both as JSON lines.

    python -m tests.host.microsoft_worker APP_ROOT < calls

Run by `test_microsoft_worker.py` with the package folder on PYTHONPATH, in a process of its own: the worker code keeps its
registry in modules. A call is `{"function": name, "input": text}` or `{"function": name, "http": {...}}`.
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


class Theirs:
    """`azure_functions_runtime`: its loader, its registry, its invocation."""

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
            return shown(response_from_datum(datum))
        return {"result": None if datum is None or datum.value is None else json.loads(datum.value)}


def shown(answer: HostResponse) -> dict[str, Any]:
    return {
        "status": answer.status,
        "headers": sorted(map(list, answer.headers)),
        "body": answer.body.decode(),
    }


def inputs_of(function: AppFunction, call: dict[str, Any]) -> list[tuple[str, Datum]]:
    if "http" in call:
        given = call["http"]
        request = request_of(given)
        return [
            (function.trigger_parameter, request_datum(request, given["parameters"])),
            *clients(function),
        ]
    return [
        (function.trigger_parameter, Datum(type="string", value=call["input"])),
        *clients(function),
    ]


def clients(function: AppFunction) -> list[tuple[str, Datum]]:
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


def request_of(given: dict[str, Any]) -> HostRequest:
    headers = [(name, value) for name, value in given["headers"]]
    return HostRequest.from_target(
        given["method"], given["path"], headers, given["body"].encode(), "http://host"
    )


def ours(invoker: Invoker, function: AppFunction, call: dict[str, Any]) -> dict[str, Any]:
    try:
        if function.trigger == "httpTrigger":
            return shown(
                invoker.http(function, request_of(call["http"]), call["http"]["parameters"]).result(
                    30
                )
            )
        if function.trigger == "orchestrationTrigger":
            return {"result": json.loads(invoker.orchestrator(function, call["input"]))}
        text = invoker.activity(function, json.dumps([call["input"]])).result(30)
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
    theirs = Theirs()
    print(
        json.dumps(
            {"ours": sorted(function.name for function in index.all), "theirs": sorted(theirs.ids)}
        )
    )
    for line in sys.stdin:
        call = json.loads(line)
        function = index.find(call["function"])
        assert function is not None
        answers = asyncio.run_coroutine_threadsafe(
            theirs.call(function, inputs_of(function, call)), loop.loop
        ).result(30)
        print(
            json.dumps(
                {
                    "function": function.name,
                    "ours": ours(invoker, function, call),
                    "theirs": answers,
                }
            )
        )
    invoker.stop(abandon=False)


if __name__ == "__main__":
    main()
