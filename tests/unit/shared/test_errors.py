"""The catalogue of codes: each has a cause and a remedy, each that is used is in it, and no error says more."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared import errors
from shared.errors import (
    CATALOGUE,
    BillingExportError,
    InfrastructureError,
    InvalidDataError,
    OperationGoneError,
    PermanentError,
    RequestRefusedError,
    ThrottledError,
    TransientError,
    UnavailableError,
    cause,
    remedy,
)
from shared.redaction import is_secret_free

ROOT = Path(__file__).resolve().parents[3]
SOURCES = [
    path
    for folder in ("shared", "activities", "orchestrations", "triggers")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
KINDS = {
    kind.__name__
    for kind in (
        BillingExportError,
        TransientError,
        ThrottledError,
        UnavailableError,
        PermanentError,
        OperationGoneError,
        RequestRefusedError,
        InvalidDataError,
    )
}


def literals(node: ast.AST) -> Iterator[str]:
    """The texts that an expression may be: itself, or the branches of a choice."""
    match node:
        case ast.Constant(value=str() as text):
            yield text
        case ast.IfExp(body=body, orelse=orelse):
            yield from literals(body)
            yield from literals(orelse)
        case ast.BoolOp(values=values):
            for value in values:
                yield from literals(value)


def codes_of(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name), args=[first, *_]) if name in KINDS:
                yield from literals(first)
            case ast.Dict(keys=keys, values=values):
                for key, value in zip(keys, values, strict=True):
                    if isinstance(key, ast.Constant) and key.value == "code":
                        yield from literals(value)
            case ast.keyword(arg="code" | "last_code", value=value):
                yield from literals(value)
            case ast.FunctionDef(name="_terminal_code") | ast.AsyncFunctionDef(name="_death"):
                for inner in ast.walk(node):
                    if isinstance(inner, ast.Return) and inner.value is not None:
                        yield from literals(inner.value)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_code_in_the_app_is_in_the_catalogue(path: Path) -> None:
    assert {code for code in codes_of(ast.parse(path.read_text(encoding="utf-8"))) if code} <= set(
        CATALOGUE
    )


def test_the_scan_finds_codes() -> None:
    found = {
        code
        for path in SOURCES
        for code in codes_of(ast.parse(path.read_text(encoding="utf-8")))
        if code
    }
    assert (
        len(found) > 20
        and {"manifest_rejected", "foreign_blob", "run_lost", "destination_full", "platform_fault"}
        <= found
    )


def test_every_code_of_the_catalogue_is_used() -> None:
    used = {
        node.value
        for path in SOURCES
        if path.name != "errors.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant)
    }
    assert set(CATALOGUE) - used == set()


@pytest.mark.parametrize("code", CATALOGUE)
def test_cause_is_a_sentence_and_remedy_says_what_to_do(code: str) -> None:
    entry = CATALOGUE[code]
    assert re.fullmatch(r"[a-z][a-z0-9_]{3,40}", code)
    for text in entry:
        assert (
            re.fullmatch(r"([A-Z]|host\.json)[^\n]{10,250}\.", text)
            and text.isascii()
            and "  " not in text
        )
        assert is_secret_free(text)
    assert len(re.findall(r"[.!?] [A-Z]", entry.cause)) == 0  # one sentence
    assert len(re.findall(r"[.!?] [A-Z]", entry.remedy)) <= 1
    assert (cause(code), remedy(code)) == (entry.cause, entry.remedy)


def test_an_unknown_code_says_where_to_look() -> None:
    assert (
        remedy("nonsense") == "Look at the run's row and the app's log."
        and cause("nonsense") == "Unknown."
    )


@pytest.mark.parametrize(
    "kind",
    [
        PermanentError,
        OperationGoneError,
        RequestRefusedError,
        TransientError,
        ThrottledError,
        UnavailableError,
    ],
)
def test_an_error_says_its_entry_and_nothing_else(kind: type[BillingExportError]) -> None:
    error = kind(
        "graph_forbidden", http_status=403, error_code="x&sig=secret", request_id="y&sig=secret"
    )
    entry = CATALOGUE["graph_forbidden"]
    assert (
        str(error) == f"graph_forbidden: {entry.cause} {entry.remedy}"
        and is_secret_free(str(error))
        and is_secret_free(repr(error))
    )
    assert (error.code, error.http_status) == ("graph_forbidden", 403)


def test_an_error_without_an_entry_cannot_be_made() -> None:
    with pytest.raises(AssertionError):
        PermanentError("nonsense")


def test_a_rejection_keeps_its_detail_out_of_its_text() -> None:
    error = InvalidDataError("manifest_rejected", "two blobs have the same name", request_id="r-1")
    assert (
        error.detail == "two blobs have the same name"
        and error.detail not in str(error)
        and error.request_id == "r-1"
    )


def test_waits_and_their_absence() -> None:
    assert ThrottledError("graph_throttled", retry_after_seconds=0).retry_after_seconds == 0
    assert UnavailableError("graph_unavailable").retry_after_seconds is None


def test_a_fault_says_what_is_known() -> None:
    assert str(InfrastructureError("run_unknown", "Run")) == "run_unknown Run"
    fault = InfrastructureError(
        "infrastructure_fault", "HttpResponseError", 500, "InternalError", "r-1"
    )
    assert (
        str(fault)
        == "infrastructure_fault HttpResponseError status 500 error_code InternalError request_id r-1"
    )


def test_the_tree_is_the_one_that_is_drawn() -> None:
    drawn = re.findall(
        r"(?:├──|└──) (\w+)|^    (\w+Error) ", errors.__doc__ or "", flags=re.MULTILINE
    )
    classes = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert {name for pair in drawn for name in pair if name} == classes
    assert (
        issubclass(ThrottledError, TransientError)
        and issubclass(UnavailableError, TransientError)
        and not issubclass(TransientError, PermanentError)
    )
    assert not issubclass(InfrastructureError, BillingExportError)
