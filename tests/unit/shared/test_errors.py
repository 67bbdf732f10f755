"""The error catalogue is complete and well formed, and errors contain no secrets."""

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
    get_cause,
    get_remedy,
)
from shared.redaction import is_secret_free

ROOT = Path(__file__).resolve().parents[3]
SOURCES = [
    path
    for folder in ("shared", "activities", "orchestrations", "triggers")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
ERROR_CLASSES = {
    error_class.__name__
    for error_class in (
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


def string_values(node: ast.AST) -> Iterator[str]:
    """Yield the string constants that the expression `node` can evaluate to."""
    match node:
        case ast.Constant(value=str() as text):
            yield text
        case ast.IfExp(body=body, orelse=orelse):
            yield from string_values(body)
            yield from string_values(orelse)
        case ast.BoolOp(values=values):
            for value in values:
                yield from string_values(value)


def find_codes(tree: ast.AST) -> Iterator[str]:
    """Yield the error codes that a module raises, returns or writes."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name), args=[first, *_]) if name in ERROR_CLASSES:
                yield from string_values(first)
            case ast.Dict(keys=keys, values=values):
                for key, value in zip(keys, values, strict=True):
                    if isinstance(key, ast.Constant) and key.value == "code":
                        yield from string_values(value)
            case ast.keyword(arg="code" | "last_code", value=value):
                yield from string_values(value)
            case ast.AnnAssign(target=ast.Name(id="CODES"), value=ast.Dict(values=values)):
                for value in values:
                    yield from string_values(value)
            case ast.FunctionDef(name="_permanent_code"):
                for inner in ast.walk(node):
                    if isinstance(inner, ast.Return) and inner.value is not None:
                        yield from string_values(inner.value)


def codes_in_file(path: Path) -> set[str]:
    return {code for code in find_codes(ast.parse(path.read_text(encoding="utf-8"))) if code}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_catalogue_contains_every_code_of_the_app(path: Path) -> None:
    assert codes_in_file(path) <= set(CATALOGUE)


def test_find_codes_finds_codes_of_all_kinds() -> None:
    codes = set[str]().union(*map(codes_in_file, SOURCES))
    assert len(codes) > 20
    assert codes >= {
        "manifest_rejected",
        "foreign_blob",
        "run_lost",
        "destination_full",
        "platform_fault",
    }


def test_catalogue_contains_no_unused_code() -> None:
    constants = {
        node.value
        for path in SOURCES
        if path.name != "errors.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant)
    }
    assert set(CATALOGUE) - constants == set()


def test_catalogue_code_in_two_sections_is_impossible() -> None:
    assert sum(len(section.entries) for section in errors.SECTIONS) == len(CATALOGUE)


@pytest.mark.parametrize("code", CATALOGUE)
def test_catalogue_entry_has_complete_sentences_without_secrets(code: str) -> None:
    entry = CATALOGUE[code]
    assert re.fullmatch(r"[a-z][a-z0-9_]{3,40}", code)
    for text in entry:
        assert re.fullmatch(r"([A-Z]|host\.json)[^\n]{10,250}\.", text)
        assert text.isascii() and "  " not in text
        assert is_secret_free(text)
    assert len(re.findall(r"[.!?] [A-Z]", entry.cause)) == 0  # one sentence
    assert len(re.findall(r"[.!?] [A-Z]", entry.remedy)) <= 1
    assert (get_cause(code), get_remedy(code)) == (entry.cause, entry.remedy)


def test_get_cause_and_get_remedy_with_unknown_code_return_placeholders() -> None:
    assert get_remedy("nonsense") == "See the run's row and the application log."
    assert get_cause("nonsense") == "Unknown error code."


@pytest.mark.parametrize(
    "error_class",
    [
        PermanentError,
        OperationGoneError,
        RequestRefusedError,
        TransientError,
        ThrottledError,
        UnavailableError,
    ],
)
def test_error_text_contains_only_the_catalogue_entry(
    error_class: type[BillingExportError],
) -> None:
    error = error_class(
        "graph_forbidden", http_status=403, error_code="x&sig=secret", request_id="y&sig=secret"
    )
    entry = CATALOGUE["graph_forbidden"]
    assert str(error) == f"graph_forbidden: {entry.cause} {entry.remedy}"
    assert is_secret_free(str(error)) and is_secret_free(repr(error))
    assert (error.code, error.http_status) == ("graph_forbidden", 403)


def test_error_with_unknown_code_fails() -> None:
    with pytest.raises(AssertionError):
        PermanentError("nonsense")


def test_invalid_data_error_text_does_not_contain_the_detail() -> None:
    error = InvalidDataError("manifest_rejected", "two blobs have the same name", request_id="r-1")
    assert error.detail == "two blobs have the same name"
    assert error.detail not in str(error)
    assert error.request_id == "r-1"


def test_transient_error_distinguishes_zero_wait_from_no_wait() -> None:
    assert ThrottledError("graph_throttled", retry_after_seconds=0).retry_after_seconds == 0
    assert UnavailableError("graph_unavailable").retry_after_seconds is None


def test_infrastructure_error_text_contains_the_known_facts() -> None:
    assert str(InfrastructureError("run_unknown", "Run")) == "run_unknown Run"
    error = InfrastructureError(
        "infrastructure_fault", "HttpResponseError", 500, "InternalError", "r-1"
    )
    assert str(error) == (
        "infrastructure_fault HttpResponseError status 500 error_code InternalError request_id r-1"
    )


def test_module_docstring_shows_the_class_hierarchy() -> None:
    matches = re.findall(
        r"(?:├──|└──) (\w+)|^    (\w+Error) ", errors.__doc__ or "", flags=re.MULTILINE
    )
    classes = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert {name for pair in matches for name in pair if name} == classes
    assert issubclass(ThrottledError, TransientError)
    assert issubclass(UnavailableError, TransientError)
    assert not issubclass(TransientError, PermanentError)
    assert not issubclass(InfrastructureError, BillingExportError)
