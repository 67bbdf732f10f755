"""Removal of secrets from exceptions, logs and messages.

Exceptions of azure-core, httpx, aiohttp and kiota contain signed URLs, and orchestration histories,
logs and API responses would keep them for months. Activities and triggers therefore raise only
InfrastructureError, which contains the type and the numbers of an exception but not its text.
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

# Events are lines of JSON. Their values are redacted one by one, because a replacement in the whole
# line could produce invalid JSON.
EVENT_LOGGER = "partner_billing.events"
LIBRARIES = (
    "azure",
    "httpx",
    "httpcore",
    "aiohttp",
    "msal",
    "urllib3",
    "kiota_http",
    "kiota_abstractions",
)
# The form of an error code or a request ID; values of any other form are dropped.
SAFE_TOKEN = re.compile(r"[A-Za-z0-9_.\-]{1,80}")
SECRETS = re.compile(
    r"(?i)((?:sig|token|password|key|code)=)[^&\s\"']+|(bearer )[A-Za-z0-9._~+/=%-]+"
)
SECRET_PARAMETERS = ("key=", "?code=", "&code=", "sig=", "token=", "password=")
TRACE_PARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")  # W3C format
TRACE_ID: ContextVar[str] = ContextVar("TRACE_ID", default="")  # of the current invocation
MAX_FRAMES = 6

logger = logging.getLogger("partner_billing.exceptions")


def configure_library_logging() -> None:
    """Suppress INFO logs of libraries, which contain signed URLs, and redact all other logs."""
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)
    install_log_redaction()


def install_log_redaction() -> None:
    """Redact the records of every logger in this process. Idempotent."""
    create_record = logging.getLogRecordFactory()
    if getattr(create_record, "redacts", False):
        return

    def create_redacted_record(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = create_record(*args, **kwargs)
        if record.name == EVENT_LOGGER:
            return record
        try:
            text = record.getMessage()
        except Exception:  # the arguments do not match the message; logging itself reports that
            return record
        if (redacted := redact(text)) != text:
            record.msg, record.args = redacted, ()
        if record.exc_info:
            text = "".join(traceback.format_exception(*record.exc_info))
            if (redacted := redact(text)) != text:
                record.exc_info, record.exc_text = None, redacted
        return record

    create_redacted_record.redacts = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(create_redacted_record)


def redact(text: str) -> str:
    """Return `text` without the values of signatures, keys and tokens.

    >>> redact("GET https://a.example/b?sv=1&sig=abc%3D&x=1")
    'GET https://a.example/b?sv=1&sig=***&x=1'
    """
    return SECRETS.sub(lambda match: f"{match[1] or match[2]}***", text)


def _safe_token(value: object) -> str | None:
    text = getattr(value, "value", value)  # storage error codes are enum members
    return text if isinstance(text, str) and SAFE_TOKEN.fullmatch(text) else None


def to_infrastructure_error(error: BaseException) -> InfrastructureError:
    """Return the type, HTTP status, error code and request ID of `error`, without its text."""
    if isinstance(error, InfrastructureError):
        return error
    if isinstance(error, BillingExportError):
        return InfrastructureError(
            error.code,
            type(error).__name__,
            error.http_status,
            _safe_token(error.error_code),
            _safe_token(error.request_id),
        )
    status = getattr(error, "status_code", None) or getattr(error, "response_status_code", None)
    headers = (
        getattr(getattr(error, "response", None), "headers", None)
        or getattr(error, "response_headers", None)
        or {}
    )
    request_ids = (headers.get(name) for name in ("x-ms-request-id", "request-id"))
    return InfrastructureError(
        "infrastructure_fault",
        type(error).__name__,
        status if isinstance(status, int) else None,
        _safe_token(getattr(error, "error_code", None)),
        _safe_token(next(filter(None, request_ids), None)),
    )


def format_traceback(error: BaseException) -> str:
    """Return file, line and function of the innermost frames, without source text or message."""
    frames = reversed(traceback.extract_tb(error.__traceback__)[-MAX_FRAMES:])
    return " < ".join(
        f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}:{frame.name}" for frame in frames
    )


def sanitize_exceptions(function: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    """Decorate an activity or a trigger so that it raises only InfrastructureError.

    During the call, TRACE_ID is the trace ID of the invocation.
    """

    @functools.wraps(function)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with trace_context(kwargs):
                return await function(*args, **kwargs)
        except Exception as error:
            sanitized = to_infrastructure_error(error)
            name = getattr(function, "__name__", "function")
            logger.warning("%s failed: %s at %s", name, sanitized, format_traceback(error))
        # Raised outside the except block, so that the original is not the __context__.
        raise sanitized

    return accept_context(wrapper)


def accept_context(function: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    """Add the parameter `context`, to which the Functions worker passes its invocation."""
    current = signature(function)
    context = Parameter("context", Parameter.KEYWORD_ONLY, default=None)
    function.__signature__ = current.replace(  # type: ignore[attr-defined]
        parameters=[*current.parameters.values(), context]
    )
    return function


@contextmanager
def trace_context(arguments: dict[str, Any]) -> Iterator[None]:
    """Remove `context` from the arguments of a call, and set TRACE_ID to its trace ID."""
    trace = getattr(arguments.pop("context", None), "trace_context", None)
    # The name of the attribute differs between worker versions.
    parent = getattr(trace, "trace_parent", None) or getattr(trace, "Traceparent", None)
    match = TRACE_PARENT.fullmatch(parent) if isinstance(parent, str) else None
    token = TRACE_ID.set(match[1] if match else "")
    try:
        yield
    finally:
        TRACE_ID.reset(token)


def is_secret_free(value: Any) -> bool:
    """Return whether a JSON value contains no text that looks like a secret.

    The Functions host replaces failure texts that contain such a text.

    >>> is_secret_free({"a": ["x", "https://b?sig=1"]})
    False
    >>> is_secret_free({"run_id": "billed-usage-g1"})
    True
    """
    if isinstance(value, dict):
        return all(is_secret_free(key) and is_secret_free(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(is_secret_free(item) for item in value)
    if isinstance(value, str):
        lowercase = value.lower()
        return not any(parameter in lowercase for parameter in SECRET_PARAMETERS)
    return True
