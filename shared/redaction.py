"""The wall: no word of a library leaves an activity or a trigger (design, section 4).

Exceptions of azure-core, httpx, aiohttp and kiota carry URLs with signatures; histories, logs and answers would keep
them for months. What comes through is the exception's type and numbers, nothing it says.
"""

import functools
import logging
import re
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from inspect import Parameter, signature
from typing import Any, ParamSpec, TypeVar

from shared.errors import BillingExportError, InfrastructureError

P = ParamSpec("P")
R = TypeVar("R")

EVENT_LOGGER = "partner_billing.events"  # lines of JSON, each value of which is redacted by itself: as a whole they could break
NOISY = (
    "azure",
    "httpx",
    "httpcore",
    "aiohttp",
    "msal",
    "urllib3",
    "kiota_http",
    "kiota_abstractions",
)
SAFE_TOKEN = re.compile(
    r"[A-Za-z0-9_.\-]{1,80}"
)  # what an error code or a request id may look like; anything else is dropped
SECRETS = re.compile(
    r"(?i)((?:sig|token|password|key|code)=)[^&\s\"']+|(bearer )[A-Za-z0-9._~+/=%-]+"
)  # also access_token=

TRACE_PARENT = re.compile(
    r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}"
)  # W3C Trace Context, traceparent
TRACE_ID: ContextVar[str] = ContextVar(
    "TRACE_ID", default=""
)  # of the call under way: what the platform files it under

logger = logging.getLogger("partner_billing.wall")


def configure_library_logging() -> None:
    """Their INFO lines are request URLs, signature included. What is said nevertheless goes through guard_logs()."""
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
    install_log_redaction()


def install_log_redaction() -> None:
    """The second line of defence: no record of any logger keeps a signature, a key or a token, whoever wrote it."""
    before = logging.getLogRecordFactory()
    if getattr(before, "guards", False):
        return

    def guarded(*args: Any, **more: Any) -> logging.LogRecord:
        record = before(*args, **more)
        if record.name == EVENT_LOGGER:
            return record
        try:
            text = record.getMessage()
        except (
            Exception
        ):  # wrong arguments: logging itself says so, with the message as it was written
            return record
        if (shown := redact(text)) != text:
            record.msg, record.args = shown, ()
        if record.exc_info:
            told = "".join(traceback.format_exception(*record.exc_info))
            if (shown := redact(told)) != told:
                record.exc_info, record.exc_text = None, shown
        return record

    guarded.guards = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(guarded)


def redact(text: str) -> str:
    """`text` without the values of signatures, keys and tokens: the second line of defence, for log lines.

    >>> redact("GET https://a.example/b?sv=1&sig=abc%3D&x=1")
    'GET https://a.example/b?sv=1&sig=***&x=1'
    """
    return SECRETS.sub(lambda found: f"{found[1] or found[2]}***", text)


def _token(value: object) -> str | None:
    text = getattr(value, "value", value)  # storage error codes are enums
    return text if isinstance(text, str) and SAFE_TOKEN.fullmatch(text) else None


def to_infrastructure_error(error: BaseException) -> InfrastructureError:
    """What may be said of an unexpected exception: its type, HTTP status, error code and request id."""
    if isinstance(error, InfrastructureError):
        return error
    if isinstance(error, BillingExportError):
        return InfrastructureError(
            error.code,
            type(error).__name__,
            error.http_status,
            _token(error.error_code),
            _token(error.request_id),
        )
    status = getattr(error, "status_code", None) or getattr(error, "response_status_code", None)
    headers = (
        getattr(getattr(error, "response", None), "headers", None)
        or getattr(error, "response_headers", None)
        or {}
    )
    request_id = next(
        (headers.get(name) for name in ("x-ms-request-id", "request-id") if headers.get(name)), None
    )
    return InfrastructureError(
        "infrastructure_fault",
        type(error).__name__,
        status if isinstance(status, int) else None,
        _token(getattr(error, "error_code", None)),
        _token(request_id),
    )


def format_traceback(error: BaseException) -> str:
    """File, line and function of the frames, without the source text or the message: safe to log."""
    frames = reversed(traceback.extract_tb(error.__traceback__)[-6:])
    return " < ".join(
        f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}:{frame.name}" for frame in frames
    )


def sanitize_exceptions(function: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    """Around every activity and trigger: an exception leaves it as an InfrastructureFault, or not at all."""

    @functools.wraps(function)
    async def wall(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with trace_context(kwargs):
                return await function(*args, **kwargs)
        except (
            Exception
        ) as error:  # all of them: this is the one place that must not let anything through
            said = to_infrastructure_error(error)
            logger.warning(
                "%s failed: %s at %s",
                getattr(function, "__name__", "function"),
                said,
                format_traceback(error),
            )
        raise said  # out here, so that the original is not even its __context__

    return accept_context(wall)


def accept_context(wall: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    """So that the worker hands over its invocation: to whatever has a parameter `context` (Python developer guide, Context)."""
    known = signature(wall)
    context = Parameter("context", Parameter.KEYWORD_ONLY, default=None)
    wall.__signature__ = known.replace(parameters=[*known.parameters.values(), context])  # type: ignore[attr-defined]
    return wall


@contextmanager
def trace_context(arguments: dict[str, Any]) -> Iterator[None]:
    """Takes the invocation out of a call's arguments; while it lasts, TRACE_ID is the trace that the platform files it under."""
    trace = getattr(arguments.pop("context", None), "trace_context", None)
    parent = getattr(trace, "trace_parent", None) or getattr(
        trace, "Traceparent", None
    )  # workers have spelled it both ways
    found = TRACE_PARENT.fullmatch(parent) if isinstance(parent, str) else None
    before = TRACE_ID.set(found[1] if found else "")
    try:
        yield
    finally:
        TRACE_ID.reset(before)


def is_secret_free(value: Any) -> bool:
    """Whether a JSON value may cross a boundary: none of the texts that garble failures in the host (golden traces, 4.2).

    >>> is_secret_free({"a": ["x", "https://b?sig=1"]}), is_secret_free({"run_id": "billed-usage-g1"})
    (False, True)
    """
    if isinstance(value, dict):
        return all(is_secret_free(key) and is_secret_free(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(is_secret_free(item) for item in value)
    if isinstance(value, str):
        lowered = value.lower()
        return not any(
            word in lowered for word in ("key=", "?code=", "&code=", "sig=", "token=", "password=")
        )
    return True
