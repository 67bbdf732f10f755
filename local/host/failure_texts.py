"""Failure messages of the Durable Functions extension, and the host's credential sanitizer.

The messages are recorded in sections 4.2 and 4.4 of the README of the golden traces. Apps must not
parse them. The local host reproduces them so that an app that fails on Azure also fails here.
"""

import json
import re
import traceback
from typing import Any

from .calls import FunctionTerminatedError, RemoteFunctionError

HIDDEN_CREDENTIAL = "[Hidden Credential]"
CREDENTIAL_TOKENS = (
    "Token=",
    "DefaultEndpointsProtocol=http",
    "AccountKey=",
    "Data Source=",
    "Server=",
    "Password=",
    "pwd=",
    "&amp;sig=",
    "&sig=",
    "?sig=",
    "SharedAccessKey=",
    "&amp;code=",
    "&code=",
    "?code=",
    "key=",
)
_ALLOWED = "publickeytoken="
_VALUE_END = re.compile(r"[<\"']")
_URL_WITH_PASSWORD = re.compile(r"\b([a-zA-Z]+)://([^:/\s]+):([^@/\s]+)@([^:/\s]+):([0-9]+)\b")


def sanitize(text: str) -> str:
    """Remove credentials from an exception message, as the Functions host does.

    The text from a credential token to the next quotation mark or `<` is replaced.

    >>> sanitize('no row with key=abc, sorry {"a": 1}')
    'no row with [Hidden Credential]"a": 1}'
    """
    for token in CREDENTIAL_TOKENS:
        position = 0
        while (start := text.lower().find(token.lower(), position)) >= 0:
            if text.lower().startswith(_ALLOWED, start - (len(_ALLOWED) - len(token))):
                position = start + len(token)
                continue
            end = _VALUE_END.search(text, start)
            text = text[:start] + HIDDEN_CREDENTIAL + (text[end.start() :] if end else "")
            position = start + len(HIDDEN_CREDENTIAL)
    return _URL_WITH_PASSWORD.sub(HIDDEN_CREDENTIAL, text)


def format_error(error: BaseException) -> str:
    """Return the type and message of an exception, as the Python worker does."""
    if isinstance(error, RemoteFunctionError):
        return f"{error.kind}: {error}"
    if isinstance(error, FunctionTerminatedError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def format_stack(error: BaseException) -> str:
    """Return the stack trace without the frames of this host and its thread pool."""
    if isinstance(error, RemoteFunctionError):
        return error.stack
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not _is_host_frame(frame.filename)
    ]
    return "".join(traceback.format_list(frames))


def _is_host_frame(filename: str) -> bool:
    path = filename.replace("\\", "/")
    return "/local/host/" in path or "concurrent/futures" in path


def activity_failure(name: str, error: BaseException) -> tuple[str, str]:
    """Return the Reason and Details of a TaskFailed event.

    The extension writes two spaces before the message of an exception that the worker reports.
    """
    message, stack = sanitize(format_error(error)), format_stack(error)
    if isinstance(error, FunctionTerminatedError):  # the host raises it, not the worker
        return f"Activity function '{name}' failed: {message}", _to_json(_process_exit(message))
    return f"Activity function '{name}' failed:  {message}", _to_json(_remote_error(message, stack))


def missing_activity(name: str) -> tuple[str, str]:
    """Return the Reason and Details for an activity that was removed after it was scheduled."""
    message = f"The function '{name}' doesn't exist, is disabled, or is not an activity function."
    return f"Activity function '{name}' failed:  {message}", _to_json(_remote_error(message, ""))


def _to_json(exception: dict[str, Any]) -> str:
    return json.dumps(exception, ensure_ascii=False, separators=(",", ":"))


def _remote_error(message: str, stack: str) -> dict[str, Any]:
    """Return the extension's exception for an error that the worker reports."""
    rpc_exception = _script_exception(
        "Rpc.RpcException",
        f"Result: Failure\nException: {message}\nStack: {stack}",
        None,
        IsUserException=False,
        RemoteStackTrace=stack,
        RemoteMessage=message,
        RemoteTypeName=None,
    )
    return _system_exception("Exception", f" {message}", rpc_exception)


def _process_exit(message: str) -> dict[str, Any]:
    """Return the exception that the Functions host raises when a worker process has ended.

    On Azure, the message of the inner exception is the last output of the process.
    """
    return _script_exception("WorkerProcessExitException", message, _system_exception())


def _script_exception(
    name: str, message: str, inner: dict[str, Any] | None, **members: Any
) -> dict[str, Any]:
    return {
        "$type": f"Microsoft.Azure.WebJobs.Script.Workers.{name}, LocalHost",
        **members,
        "Message": message,
        "Data": {"$type": "System.Collections.ListDictionaryInternal, System.Private.CoreLib"},
        "InnerException": inner,
        "HelpLink": None,
        "Source": "LocalHost",
        "HResult": -2146233088,
        "StackTrace": "   at LocalHost",
    }


def _system_exception(
    name: str = "Exception", message: str = "", inner: dict[str, Any] | None = None
) -> dict[str, Any]:
    return {
        "$type": f"System.{name}, System.Private.CoreLib",
        "ClassName": f"System.{name}",
        "Message": message,
        "Data": None,
        "InnerException": inner,
        "HelpURL": None,
        "StackTraceString": None,
        "RemoteStackTraceString": None,
        "RemoteStackIndex": 0,
        "ExceptionMethod": None,
        "HResult": -2146233088,
        "Source": None,
        "WatsonBuckets": None,
    }


def terminated_orchestrator(error: FunctionTerminatedError) -> str:
    """Return the error for an orchestrator whose worker process ended during the call."""
    return f"One or more errors occurred. ({error})"


def terminated_orchestrator_details(error: FunctionTerminatedError) -> str:
    """Return the Details of a SubOrchestrationInstanceFailed event for such an orchestrator."""
    inner = _process_exit(str(error))
    outer = _system_exception("AggregateException", "One or more errors occurred.", inner)
    return _to_json({**outer, "InnerExceptions": [inner]})


def orchestrator_failure(name: str, error: str) -> str:
    """Return the output of a failed orchestrator."""
    return f"Orchestrator function '{name}' failed: {error}"


def unreadable_orchestrator_failure(error: BaseException) -> str:
    """Return the error of an orchestrator whose exception contains no state.

    This happens if the SDK itself fails, or if the sanitizer removes the state.
    """
    return sanitize(
        f"One or more errors occurred. (Result: Failure\nException: {format_error(error)}\n"
        f"Stack: {format_stack(error)})"
    )


def child_failure_details(error: str) -> str:
    """Return the Details of a SubOrchestrationInstanceFailed event."""
    return f"Message: {error}, StackTrace:    at LocalHost"


def non_deterministic(detail: str) -> str:
    """Return the output of an orchestrator whose code contradicts its history."""
    return f"Non-Deterministic workflow detected: {detail}"


def non_deterministic_details(text: str) -> str:
    """Return the Details of a SubOrchestrationInstanceFailed event for such an orchestrator."""
    return (
        "Unhandled exception while executing orchestration: "
        f"DurableTask.Core.Exceptions.NonDeterministicOrchestrationException: {text}\n"
        "   at LocalHost"
    )
