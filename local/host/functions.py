"""Load an app, index its functions, and reject features that the host does not support."""

import importlib
import inspect
import sys
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, tzinfo
from pathlib import Path
from types import ModuleType
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from azure.functions import FunctionRegister, get_binding_registry

import ncrontab

from .action_replay import FunctionKind
from .errors import UnsupportedAppError
from .routes import Route
from .settings import resolve

HTTP_METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS")
TRIGGERS = frozenset({"httpTrigger", "timerTrigger", "orchestrationTrigger", "activityTrigger"})
_TRUE = frozenset({"1", "true", "yes"})
_REFUSED = {
    "entityTrigger": "durable entities",
    "blobTrigger": "blob triggers",
    "queueTrigger": "queue triggers",
    "serviceBusTrigger": "Service Bus triggers",
    "eventHubTrigger": "Event Hub triggers",
    "eventGridTrigger": "Event Grid triggers",
    "cosmosDBTrigger": "Cosmos DB triggers",
    "warmupTrigger": "warm-up triggers",
}


@dataclass(frozen=True)
class TimerOptions:
    """The options of a timer trigger; `text` is the NCRONTAB expression."""

    text: str
    schedule: ncrontab.Schedule
    run_on_startup: bool
    use_monitor: bool


@dataclass(frozen=True)
class AppFunction:
    """A function of the app and its bindings."""

    name: str
    trigger: str  # "httpTrigger", ...
    call: Callable[..., Any]
    trigger_parameter: str
    client_parameters: tuple[str, ...]  # parameters that receive the durable client
    wants_context: bool
    returns_http: bool
    disabled: bool = False
    route: Route | None = None
    methods: tuple[str, ...] = ()
    timer: TimerOptions | None = None

    @property
    def is_async(self) -> bool:
        """Whether the function is a coroutine function."""
        return inspect.iscoroutinefunction(self.call)


class FunctionIndex:
    """The functions of an app; names are case-insensitive, as in .NET."""

    def __init__(self, functions: Iterable[AppFunction]) -> None:
        self.all = tuple(functions)
        self._by_name: dict[str, AppFunction] = {}
        for function in self.all:
            if function.name.lower() in self._by_name:
                raise UnsupportedAppError(
                    f"Two functions are named '{function.name}'. Function names must be unique and "
                    "are case-insensitive."
                )
            self._by_name[function.name.lower()] = function
        self._refuse_equal_routes()

    def find(self, name: str) -> AppFunction | None:
        """Return the function with this name, or None."""
        return self._by_name.get(name.lower())

    @contextmanager
    def override(self, name: str, **changes: Any) -> Iterator[None]:
        """Replace attributes of a function, such as `call`, within the context."""
        function = self._by_name[name.lower()]
        self._by_name[name.lower()] = replace(function, **changes)
        try:
            yield
        finally:
            self._by_name[name.lower()] = function

    def list_by_trigger(self, trigger: str) -> list[AppFunction]:
        """Return the enabled functions with this trigger type."""
        return [
            function
            for function in self.all
            if function.trigger == trigger and not function.disabled
        ]

    def exists(self, kind: FunctionKind, name: str) -> bool:
        """Return whether an enabled activity or orchestrator has this name."""
        function = self.find(name)
        return (
            function is not None
            and not function.disabled
            and function.trigger
            == ("activityTrigger" if kind == "activity" else "orchestrationTrigger")
        )

    @property
    def uses_durable_client(self) -> bool:
        """Whether a function has a durable client binding."""
        return any(function.client_parameters for function in self.all)

    def _refuse_equal_routes(self) -> None:
        seen: dict[tuple[str, str], str] = {}
        for function in self.list_by_trigger("httpTrigger"):
            assert function.route is not None
            for method in function.methods:
                other = seen.setdefault((function.route.shape, method), function.name)
                if other != function.name:
                    raise UnsupportedAppError(
                        f"The functions '{other}' and '{function.name}' both handle "
                        f"{method} /{function.route.template}."
                    )


# The imported modules, keyed by script. All have the same name, but each is imported only once.
_loaded: dict[Path, ModuleType] = {}


@contextmanager
def temporary_module_name() -> Iterator[None]:
    """Restore the previous `function_app` module in `sys.modules` at the end of the context."""
    previous = sys.modules.get("function_app")
    try:
        yield
    finally:
        sys.modules.pop("function_app", None)
        if previous is not None:
            sys.modules["function_app"] = previous


# -- loading ------------------------------------------------------------------


def load_app(root: Path) -> FunctionRegister:
    """Import `function_app` from a folder on `sys.path` and return its app object.

    Raises:
        UnsupportedAppError: The module is missing, cannot be imported, or does not define exactly
            one app.
    """
    script = root / "function_app.py"
    if not script.exists():
        raise UnsupportedAppError(f"There is no function_app.py in {root}.")
    module = _loaded.get(script.resolve())
    if module is not None:
        sys.modules["function_app"] = module
        return _only_app(module)
    loaded = sys.modules.get("function_app")
    if loaded is not None and Path(str(loaded.__file__)).resolve() != script.resolve():
        del sys.modules["function_app"]
        importlib.invalidate_caches()
    try:
        module = _loaded[script.resolve()] = importlib.import_module("function_app")
    except Exception as error:
        raise UnsupportedAppError(
            f"function_app.py cannot be imported: {_format_location(error, root)}"
            f"{type(error).__name__}: {error}"
        ) from error
    return _only_app(module)


def _format_location(error: Exception, root: Path) -> str:
    """Return the file and line of the innermost frame under `root`, or an empty string."""
    trace, location = error.__traceback__, ""
    while trace is not None:
        with suppress(ValueError):
            script = Path(trace.tb_frame.f_code.co_filename).relative_to(root)
            location = f"{script}:{trace.tb_lineno}: "
        trace = trace.tb_next
    return location


def _only_app(module: ModuleType) -> FunctionRegister:
    apps = {
        id(value): value for value in vars(module).values() if isinstance(value, FunctionRegister)
    }
    if len(apps) != 1:
        raise UnsupportedAppError(
            "function_app.py must define exactly one FunctionApp or DFApp at module level; "
            f"it defines {len(apps)}."
        )
    return next(iter(apps.values()))


# -- indexing -----------------------------------------------------------------


def index_app(
    app: FunctionRegister, environ: Mapping[str, str], route_prefix: str
) -> FunctionIndex:
    """Index the functions of an app.

    Args:
        app: The app object of `function_app`.
        environ: The app settings.
        route_prefix: The HTTP route prefix from host.json.

    Raises:
        UnsupportedAppError: A function uses a feature that the host does not support.
    """
    app.functions_bindings = {}  # the SDK stores names here and rejects a second indexing
    try:
        functions = app.get_functions()
    except Exception as error:
        raise UnsupportedAppError(f"The app cannot be indexed: {error}") from error
    zone = time_zone(environ)
    return FunctionIndex(
        _read_function(function, environ, route_prefix, zone) for function in functions
    )


def time_zone(environ: Mapping[str, str]) -> tzinfo:
    """Return the time zone for schedules: WEBSITE_TIME_ZONE, TZ, or UTC."""
    name = environ.get("WEBSITE_TIME_ZONE") or environ.get("TZ") or ""
    if name.lstrip(":") in ("", "UTC", "Etc/UTC"):
        return UTC
    try:
        return ZoneInfo(name.lstrip(":"))
    except (ZoneInfoNotFoundError, ValueError):
        raise UnsupportedAppError(
            f"The time zone '{name}' (WEBSITE_TIME_ZONE or TZ) is unknown. "
            "Use an IANA name such as Europe/Berlin."
        ) from None


def _read_function(
    function: Any, environ: Mapping[str, str], route_prefix: str, zone: tzinfo
) -> AppFunction:
    name: str = function.get_function_name()
    bindings: list[dict[str, Any]] = function.get_bindings_dict()["bindings"]
    if function.get_setting("retry_policy") is not None:
        raise UnsupportedAppError(
            f"Function '{name}' has a retry policy. The local host does not support retry "
            f"policies for triggers."
        )
    trigger = next(
        (binding for binding in bindings if str(binding["type"]).lower().endswith("trigger")), None
    )
    if trigger is None or trigger["type"] not in TRIGGERS:
        kind = str(trigger["type"]) if trigger else "none"
        feature = _REFUSED.get(kind, f"the trigger {kind}")
        raise UnsupportedAppError(
            f"Function '{name}' uses {feature}, which the local host does not support."
        )
    alias = trigger.get("activity") or trigger.get("orchestration")
    if alias is not None and alias.lower() != name.lower():
        raise UnsupportedAppError(
            f"Function '{name}' has the name '{alias}' in its trigger. The local host requires "
            "both names to be equal."
        )
    clients = []
    for binding in bindings:
        if binding["type"] == "durableClient":
            clients.append(str(binding["name"]))
        elif binding is not trigger and binding["type"] != "http":
            raise UnsupportedAppError(
                f"Function '{name}' uses the binding {binding['type']}, which the local host does "
                "not support."
            )
    call: Callable[..., Any] = function.get_user_function()
    bound = {str(trigger["name"]), *clients}
    wants_context = _check_parameters(
        name, call, bound, checked=trigger["type"] != "orchestrationTrigger"
    )
    if any(binding["type"] == "http" for binding in bindings):
        _check_return(name, call)
    flag = (
        environ.get(f"AzureWebJobs.{name}.Disabled")
        or environ.get(f"AzureWebJobs_{name}_Disabled")
        or ""
    )
    is_http = trigger["type"] == "httpTrigger"
    return AppFunction(
        name=name,
        trigger=trigger["type"],
        call=call,
        trigger_parameter=str(trigger["name"]),
        client_parameters=tuple(clients),
        wants_context=wants_context,
        disabled=flag.lower() in _TRUE,
        returns_http=any(binding["type"] == "http" for binding in bindings),
        route=Route.parse(str(trigger.get("route") or name), route_prefix, name)
        if is_http
        else None,
        methods=_methods(trigger) if is_http else (),
        timer=_timer_options(name, trigger, environ, zone)
        if trigger["type"] == "timerTrigger"
        else None,
    )


def _check_parameters(
    name: str, call: Callable[..., Any], bound: set[str], *, checked: bool
) -> bool:
    """Check the parameters against the bindings, and return whether to inject `context`.

    Every parameter must have a binding, except `context`, which the worker injects.
    """
    if not checked:
        return False  # the SDK wraps orchestrators in a function with the parameter `context`
    parameters = set(inspect.signature(call).parameters)
    if unbound := sorted(parameters - bound - {"context"}):
        raise UnsupportedAppError(
            f"Function '{name}' has parameters without a binding: {', '.join(unbound)}."
        )
    if missing := sorted(bound - parameters):
        raise UnsupportedAppError(
            f"Function '{name}' has bindings without a parameter: {', '.join(missing)}."
        )
    return "context" in parameters and "context" not in bound


def _check_return(name: str, call: Callable[..., Any]) -> None:
    """Check the return annotation of an HTTP function, as the worker on Azure does."""
    try:
        hints = typing.get_type_hints(call)
    except Exception as error:
        raise UnsupportedAppError(
            f"Function '{name}' has an annotation that cannot be read: {error}"
        ) from error
    if "return" not in hints:
        return
    returned, http = hints["return"], get_binding_registry().get("http")
    if not isinstance(returned, type) or not http.check_output_type_annotation(returned):
        shown = getattr(returned, "__name__", returned)
        raise UnsupportedAppError(
            f"Function '{name}' has the return annotation {shown}, which the http binding does not "
            "support. Azure would not load the function. Remove the annotation, or return "
            "func.HttpResponse or str."
        )


def _methods(trigger: dict[str, Any]) -> tuple[str, ...]:
    return tuple(
        str(getattr(method, "value", method)).upper()
        for method in trigger.get("methods") or HTTP_METHODS
    )


def _timer_options(
    name: str, trigger: dict[str, Any], environ: Mapping[str, str], zone: tzinfo
) -> TimerOptions:
    text = resolve(str(trigger["schedule"]), environ, f"The schedule of function '{name}'")
    try:
        schedule = ncrontab.parse(text, zone)
    except ncrontab.InvalidScheduleError as error:
        raise UnsupportedAppError(
            f"Function '{name}' has the invalid schedule '{text}': {error}."
        ) from None
    return TimerOptions(
        text, schedule, bool(trigger.get("runOnStartup")), trigger.get("useMonitor") is not False
    )
