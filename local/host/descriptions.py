"""Describes the functions of an app as JSON for the worker protocol and as text for the console."""

import os
from collections.abc import Iterable
from typing import Any, NoReturn

import ncrontab

from .functions import HTTP_METHODS, AppFunction, FunctionIndex, TimerOptions, time_zone
from .routes import Route


def describe_function(function: AppFunction) -> dict[str, Any]:
    """Return the JSON-compatible description that a worker process sends to the host."""
    timer = function.timer
    return {
        "name": function.name,
        "trigger": function.trigger,
        "trigger_parameter": function.trigger_parameter,
        "client_parameters": list(function.client_parameters),
        "wants_context": function.wants_context,
        "returns_http": function.returns_http,
        "disabled": function.disabled,
        "methods": list(function.methods),
        "route": function.route.template if function.route else None,
        "timer": [timer.text, timer.run_on_startup, timer.use_monitor] if timer else None,
    }


def index_from_descriptions(descriptions: Iterable[dict[str, Any]]) -> FunctionIndex:
    """Return the function index of the worker; its functions cannot be called in this process."""
    return FunctionIndex(_function(description) for description in descriptions)


def _function(description: dict[str, Any]) -> AppFunction:
    values = dict(description)
    route, timer = values.pop("route"), values.pop("timer")
    return AppFunction(
        **values
        | {
            "client_parameters": tuple(values["client_parameters"]),
            "methods": tuple(values["methods"]),
        },
        call=_call_not_available,
        route=Route.parse(route, "", str(values["name"])) if route is not None else None,
        timer=TimerOptions(
            timer[0], ncrontab.parse(timer[0], time_zone(os.environ)), timer[1], timer[2]
        )
        if timer
        else None,
    )


def _call_not_available(*_: object, **__: object) -> NoReturn:
    raise RuntimeError("this function can be called only in the worker process")


def format_functions(functions: FunctionIndex, origin: str) -> list[str]:
    """Return a line for each HTTP and timer trigger, and a line for each other kind of trigger."""
    lines = []
    for function in functions.list_by_trigger("httpTrigger"):
        methods = "any method" if function.methods == HTTP_METHODS else ",".join(function.methods)
        path = function.route.template if function.route else ""
        lines.append(f"  {function.name}: {methods} {origin}/{path}")
    lines += [
        f"  {function.name}: timer {function.timer.text if function.timer else ''}"
        for function in functions.list_by_trigger("timerTrigger")
    ]
    for kind, trigger in (
        ("orchestrators", "orchestrationTrigger"),
        ("activities", "activityTrigger"),
    ):
        if names := [function.name for function in functions.list_by_trigger(trigger)]:
            lines.append(f"  {kind}: {', '.join(names)}")
    if disabled := [function.name for function in functions.all if function.disabled]:
        lines.append(f"  disabled: {', '.join(disabled)}")
    return lines
