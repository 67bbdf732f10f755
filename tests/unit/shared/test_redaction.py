"""The wall: what of an exception may leave, and what may cross a boundary."""

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
    NOISY,
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
async def failing(error: BaseException, *, also: int = 1) -> int:
    """Its own words."""
    raise error


async def caught(error: BaseException) -> InfrastructureError:
    with pytest.raises(InfrastructureError) as raised:
        await failing(error)
    return raised.value


async def test_only_type_and_numbers_get_through(caplog: pytest.LogCaptureFixture) -> None:
    said = await caught(
        LibraryError(
            SECRET,
            status_code=403,
            error_code="AuthenticationFailed",
            response=Response({"x-ms-request-id": "0a1b-2c"}),
        )
    )
    assert (
        str(said)
        == "infrastructure_fault LibraryError status 403 error_code AuthenticationFailed request_id 0a1b-2c"
    )
    assert said.__context__ is None and said.__cause__ is None
    assert (
        "TOPSECRET" not in caplog.text
        and "test_redaction.py" in caplog.text
        and caplog.records[0].exc_info is None
    )


async def test_a_chain_of_errors_is_cut_off() -> None:
    error = LibraryError(SECRET)
    error.__cause__, error.__context__ = ValueError(SECRET), ValueError(SECRET)
    said = await caught(error)
    assert said.__context__ is None and said.__cause__ is None and "TOPSECRET" not in repr(said)


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
def test_what_is_no_token_is_dropped(facts: dict[str, Any], expected: str) -> None:
    assert str(to_infrastructure_error(LibraryError(SECRET, **facts))) == expected


def test_errors_of_our_own_keep_code_and_numbers() -> None:
    assert str(
        to_infrastructure_error(
            ThrottledError(
                "graph_throttled", retry_after_seconds=5, http_status=429, request_id="r"
            )
        )
    ) == ("graph_throttled ThrottledError status 429 request_id r")
    assert (
        str(to_infrastructure_error(RequestRefusedError("graph_forbidden", error_code="two words")))
        == "graph_forbidden RequestRefusedError"
    )
    once = InfrastructureError("plan_missing", "Plan")
    assert to_infrastructure_error(once) is once


async def test_ends_of_tasks_pass_the_wall() -> None:
    for passing in (KeyboardInterrupt(), SystemExit()):
        with pytest.raises(type(passing)):
            await failing(passing)


async def test_what_is_returned_passes_and_the_signature_stays() -> None:
    @sanitize_exceptions
    async def adding(one: int, *, other: int = 2) -> int:
        """Adds."""
        return one + other

    assert await adding(1, other=4) == 5
    assert (
        list(inspect.signature(adding).parameters) == ["one", "other", "context"]
        and adding.__doc__ == "Adds."
    )
    assert adding.__name__ == "adding" and inspect.iscoroutinefunction(adding)


class Invocation:
    """What the worker hands over as `context`, as far as it is looked at."""

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
async def test_a_call_knows_the_trace_that_the_platform_files_it_under(
    context: Any, trace_id: str
) -> None:
    """And the next one does not; what runs inside the call knows it too."""

    @sanitize_exceptions
    async def telling(request: str) -> str:
        return await asyncio.create_task(inner())

    async def inner() -> str:
        return TRACE_ID.get()

    assert await telling(request="r", context=context) == trace_id  # type: ignore[call-arg]
    assert TRACE_ID.get() == "" and await telling(request="r") == ""


def test_where_names_lines_and_no_source() -> None:
    try:
        raise ValueError(SECRET)
    except ValueError as error:
        place = format_traceback(error)
    assert place.startswith("test_redaction.py:") and place.endswith(
        ":test_where_names_lines_and_no_source"
    )
    assert "TOPSECRET" not in place and "/" not in place


def test_libraries_are_quiet() -> None:
    before = {name: logging.getLogger(name).level for name in NOISY}
    try:
        configure_library_logging()
        assert not any(
            logging.getLogger(f"{name}.inner").isEnabledFor(logging.INFO) for name in NOISY
        )
    finally:
        for name, level in before.items():
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
def test_no_signature_survives(before: str, word: str, signature: str, behind: str) -> None:
    shown = redact(before + word + signature + behind)
    assert signature not in shown.removeprefix(before) and "***" in shown


@given(st.text("abc xyz/-:,.{}[]0123456789", max_size=80))
def test_other_texts_stay_as_they_are(text: str) -> None:
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
def test_a_secret_anywhere_is_found(value: Any, secret: str) -> None:
    assert not is_secret_free([value, {"a": (secret,)}]) and not is_secret_free({secret: value})
    lowered = json.dumps(value, ensure_ascii=False).lower()
    if "=" not in lowered:
        assert is_secret_free(value)


SAID = "GET https://a.blob.core.windows.net/c?sv=1&sig=TOPSECRET failed"


def test_no_record_of_any_logger_keeps_a_secret() -> None:
    """Also where a library writes it, in arguments or in a traceback; what holds none is left as it was."""
    before, seen = logging.getLogRecordFactory(), []
    logger = logging.getLogger("some.library")
    handler = logging.Handler()
    handler.emit = seen.append  # type: ignore[method-assign]
    logger.addHandler(handler)
    try:
        install_log_redaction()
        install_log_redaction()
        logger.warning(SAID)
        logger.warning("asked %s with %d", SAID, 5)
        try:
            raise ValueError(SAID)
        except ValueError:
            logger.exception("it failed")
        logger.warning("%s is %d", "plain", 5)
        logging.getLogRecordFactory()(
            "n", logging.INFO, "f", 1, "%d", ("wrong",), None
        )  # logging itself says what is wrong
    finally:
        logger.removeHandler(handler)
        logging.setLogRecordFactory(before)
    texts = [logging.Formatter().format(record) for record in seen]
    assert len(seen) == 4 and not [text for text in texts if "TOPSECRET" in text]
    assert all("sig=***" in text for text in texts[:3]) and "Traceback" in texts[2]
    assert texts[3] == "plain is 5" and seen[3].args == ("plain", 5)
