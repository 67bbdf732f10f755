"""Sanitized exceptions and redacted logs contain no secret."""

import asyncio
import inspect
import json
import logging
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InfrastructureError, RequestRefusedError, ThrottledError
from shared.redaction import (
    LIBRARIES,
    TRACE_ID,
    configure_library_logging,
    format_traceback,
    install_log_redaction,
    is_secret_free,
    redact,
    sanitize_exceptions,
    to_infrastructure_error,
)

SECRET = "https://a.blob.core.windows.net/b?sv=1&sig=TOPSECRET%3D"


class StorageCode(Enum):
    BUSY = "ServerBusy"


class LibraryError(Exception):
    def __init__(self, text: str, **facts: Any) -> None:
        super().__init__(text)
        for name, value in facts.items():
            setattr(self, name, value)


class Response:
    def __init__(self, headers: dict[str, str]) -> None:
        self.headers = headers


@sanitize_exceptions
async def raise_error(error: BaseException) -> int:
    raise error


async def sanitize(error: BaseException) -> InfrastructureError:
    with pytest.raises(InfrastructureError) as raised:
        await raise_error(error)
    return raised.value


async def test_sanitize_exceptions_keeps_only_type_and_numbers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    error = await sanitize(
        LibraryError(
            SECRET,
            status_code=403,
            error_code="AuthenticationFailed",
            response=Response({"x-ms-request-id": "0a1b-2c"}),
        )
    )
    assert str(error) == (
        "infrastructure_fault LibraryError status 403 error_code AuthenticationFailed "
        "request_id 0a1b-2c"
    )
    assert error.__context__ is None and error.__cause__ is None
    assert "TOPSECRET" not in caplog.text and "test_redaction.py" in caplog.text
    assert caplog.records[0].exc_info is None


async def test_sanitize_exceptions_drops_cause_and_context() -> None:
    original = LibraryError(SECRET)
    original.__cause__, original.__context__ = ValueError(SECRET), ValueError(SECRET)
    error = await sanitize(original)
    assert error.__context__ is None and error.__cause__ is None
    assert "TOPSECRET" not in repr(error)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, "infrastructure_fault LibraryError"),
        ({"status_code": "403"}, "infrastructure_fault LibraryError"),
        ({"response_status_code": 429}, "infrastructure_fault LibraryError status 429"),
        (
            {"error_code": StorageCode.BUSY},
            "infrastructure_fault LibraryError error_code ServerBusy",
        ),
        ({"error_code": SECRET}, "infrastructure_fault LibraryError"),
        ({"error_code": 5}, "infrastructure_fault LibraryError"),
        ({"error_code": "x" * 81}, "infrastructure_fault LibraryError"),
        (
            {"response": Response({"request-id": "r-1"})},
            "infrastructure_fault LibraryError request_id r-1",
        ),
        ({"response": Response({"x-ms-request-id": "a b"})}, "infrastructure_fault LibraryError"),
        (
            {"response": None, "response_headers": {"request-id": "r-2"}},
            "infrastructure_fault LibraryError request_id r-2",
        ),
    ],
)
def test_to_infrastructure_error_drops_unsafe_values(facts: dict[str, Any], expected: str) -> None:
    assert str(to_infrastructure_error(LibraryError(SECRET, **facts))) == expected


def test_to_infrastructure_error_keeps_code_and_numbers_of_app_errors() -> None:
    throttled = ThrottledError(
        "graph_throttled", retry_after_seconds=5, http_status=429, request_id="r"
    )
    refused = RequestRefusedError("graph_forbidden", error_code="two words")
    error = InfrastructureError("plan_missing", "Plan")
    assert str(to_infrastructure_error(throttled)) == (
        "graph_throttled ThrottledError status 429 request_id r"
    )
    assert str(to_infrastructure_error(refused)) == "graph_forbidden RequestRefusedError"
    assert to_infrastructure_error(error) is error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit()], ids=repr)
async def test_sanitize_exceptions_does_not_catch_exit_exceptions(error: BaseException) -> None:
    with pytest.raises(type(error)):
        await raise_error(error)


async def test_sanitize_exceptions_keeps_result_and_signature() -> None:
    @sanitize_exceptions
    async def add(first: int, *, second: int = 2) -> int:
        """Add two numbers."""
        return first + second

    assert await add(1, second=4) == 5
    assert list(inspect.signature(add).parameters) == ["first", "second", "context"]
    assert (add.__name__, add.__doc__) == ("add", "Add two numbers.")
    assert inspect.iscoroutinefunction(add)


class Invocation:
    """The part of the worker's invocation context that the app reads."""

    def __init__(self, **trace: Any) -> None:
        self.trace_context = type("TraceContext", (), trace)


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    ("context", "trace_id"),
    [
        (Invocation(trace_parent=f"00-{TRACE}-00f067aa0ba902b7-01"), TRACE),
        (Invocation(Traceparent=f"00-{TRACE}-00f067aa0ba902b7-00"), TRACE),
        (Invocation(trace_parent=""), ""),
        (Invocation(trace_parent="sig=abc"), ""),
        (Invocation(trace_parent=None), ""),
        (None, ""),
    ],
)
async def test_sanitize_exceptions_sets_trace_id_during_the_call(
    context: Any, trace_id: str
) -> None:
    @sanitize_exceptions
    async def get_trace_id_in_task(request: str) -> str:
        return await asyncio.create_task(get_trace_id())

    async def get_trace_id() -> str:
        return TRACE_ID.get()

    assert await get_trace_id_in_task(request="r", context=context) == trace_id  # type: ignore[call-arg]
    assert TRACE_ID.get() == ""
    assert await get_trace_id_in_task(request="r") == ""


def test_format_traceback_contains_lines_but_no_source() -> None:
    try:
        raise ValueError(SECRET)
    except ValueError as error:
        text = format_traceback(error)
    assert text.startswith("test_redaction.py:")
    assert text.endswith(":test_format_traceback_contains_lines_but_no_source")
    assert "TOPSECRET" not in text and "/" not in text


def test_configure_library_logging_disables_info_logs() -> None:
    levels = {name: logging.getLogger(name).level for name in LIBRARIES}
    try:
        configure_library_logging()
        assert not any(
            logging.getLogger(f"{name}.inner").isEnabledFor(logging.INFO) for name in LIBRARIES
        )
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


signatures = st.text("abcdefgXYZ0123456789+/=%._-", min_size=8, max_size=60)
words = st.sampled_from(
    [
        "sig=",
        "SIG=",
        "Sig=",
        "?sig=",
        "&sig=",
        "token=",
        "access_token=",
        "code=",
        "?code=",
        "key=",
        "AccountKey=",
        "accountkey=",
        "SharedAccessKey=",
        "password=",
        "Bearer ",
        "bearer ",
        "Authorization: Bearer ",
        "SharedAccessSignature sr=x&sig=",
    ]
)


@given(
    st.text(" abc?=&;\"'/", max_size=20),
    words,
    signatures,
    st.sampled_from(["", "&x=1", " x", '"', "'", "\n", ";x=1"]),
)
def test_redact_removes_every_secret(prefix: str, word: str, secret: str, suffix: str) -> None:
    text = redact(prefix + word + secret + suffix)
    assert secret not in text.removeprefix(prefix) and "***" in text


@given(st.text("abc xyz/-:,.{}[]0123456789", max_size=80))
def test_redact_without_secret_returns_text_unchanged(text: str) -> None:
    assert redact(text) == text


@given(
    st.recursive(
        st.text(max_size=10) | st.integers() | st.none(),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
        ),
        max_leaves=8,
    ),
    st.sampled_from(
        ["sig=x", "?code=1", "a&code=1", "AccountKey=abc", "SIG=", "token=t", "Password=p"]
    ),
)
def test_is_secret_free_finds_secrets_at_any_depth(value: Any, secret: str) -> None:
    assert not is_secret_free([value, {"a": (secret,)}]) and not is_secret_free({secret: value})
    lowercase = json.dumps(value, ensure_ascii=False).lower()
    if "=" not in lowercase:
        assert is_secret_free(value)


MESSAGE = "GET https://a.blob.core.windows.net/c?sv=1&sig=TOPSECRET failed"


def test_install_log_redaction_redacts_messages_arguments_and_tracebacks() -> None:
    create_record, records = logging.getLogRecordFactory(), list[logging.LogRecord]()
    logger = logging.getLogger("some.library")
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logger.addHandler(handler)
    try:
        install_log_redaction()
        install_log_redaction()
        logger.warning(MESSAGE)
        logger.warning("request %s after %d", MESSAGE, 5)
        try:
            raise ValueError(MESSAGE)
        except ValueError:
            logger.exception("request failed")
        logger.warning("%s is %d", "plain", 5)
        # A record with invalid arguments is created; the handler reports the error.
        logging.getLogRecordFactory()("n", logging.INFO, "f", 1, "%d", ("wrong",), None)
    finally:
        logger.removeHandler(handler)
        logging.setLogRecordFactory(create_record)
    texts = [logging.Formatter().format(record) for record in records]
    assert len(records) == 4 and not [text for text in texts if "TOPSECRET" in text]
    assert all("sig=***" in text for text in texts[:3]) and "Traceback" in texts[2]
    assert texts[3] == "plain is 5" and records[3].args == ("plain", 5)
