"""Failures as the engine words them: activity reasons and details, orchestrator outputs, and the host's credential sanitizer.

Recorded in the golden README, 4.2 and 4.4. Apps must not parse these texts; they are copied so that an app which
would break on Azure breaks here too.
"""

import json
import re
import traceback

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
    """What the Functions host does to every exception text: from a credential word to the next quote or `<` it is blanked.

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
    if isinstance(error, RemoteFunctionError):
        return f"{error.kind}: {error}"
    if isinstance(error, FunctionTerminatedError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def format_stack(error: BaseException) -> str:
    """The Python frames of the app: those of this host and of the thread pool are left out."""
    if isinstance(error, RemoteFunctionError):
        return error.stack
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not _is_plumbing(frame.filename)
    ]
    return "".join(traceback.format_list(frames))


def _is_plumbing(filename: str) -> bool:
    return "/local/host/" in filename.replace(
        "\\", "/"
    ) or "concurrent/futures" in filename.replace("\\", "/")


def activity_failure(name: str, error: BaseException) -> tuple[str, str]:
    """(Reason, Details) of TaskFailed. The two blanks are the engine's."""
    message, stack = sanitize(format_error(error)), format_stack(error)
    if isinstance(
        error, FunctionTerminatedError
    ):  # the host's own exception, not one that the worker reports
        return f"Activity function '{name}' failed: {message}", _net_exception(message, "")
    return f"Activity function '{name}' failed:  {message}", _net_exception(message, stack)


def missing_activity(name: str) -> tuple[str, str]:
    """An activity was scheduled, then removed from the app before it ran."""
    message = f"The function '{name}' doesn't exist, is disabled, or is not an activity function."
    return f"Activity function '{name}' failed:  {message}", _net_exception(message, "")


def _net_exception(message: str, stack: str) -> str:
    rpc_message = f"Result: Failure\nException: {message}\nStack: {stack}"
    inner = {
        "$type": "Microsoft.Azure.WebJobs.Script.Workers.Rpc.RpcException, LocalHost",
        "IsUserException": False,
        "RemoteStackTrace": stack,
        "RemoteMessage": message,
        "RemoteTypeName": None,
        "Message": rpc_message,
        "Data": {"$type": "System.Collections.ListDictionaryInternal, System.Private.CoreLib"},
        "InnerException": None,
        "HelpLink": None,
        "Source": "LocalHost",
        "HResult": -2146233088,
        "StackTrace": "   at LocalHost",
    }
    outer = {
        "$type": "System.Exception, System.Private.CoreLib",
        "ClassName": "System.Exception",
        "Message": f" {message}",
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
    return json.dumps(outer, ensure_ascii=False, separators=(",", ":"))


def orchestrator_failure(name: str, error: str) -> str:
    return f"Orchestrator function '{name}' failed: {error}"


def unreadable_orchestrator_failure(error: BaseException) -> str:
    """The error of an orchestrator whose exception carried no state: the SDK itself broke, or the sanitizer cut it away."""
    return sanitize(
        f"One or more errors occurred. (Result: Failure\nException: {format_error(error)}\nStack: {format_stack(error)})"
    )


def child_failure_details(error: str) -> str:
    return f"Message: {error}, StackTrace:    at LocalHost"


def non_deterministic(detail: str) -> str:
    return f"Non-Deterministic workflow detected: {detail}"
