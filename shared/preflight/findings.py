"""What a check found, in the form that the API answers with. Pure.

    ok        the very thing that a run does was done, or the fact is as it should be
    warn      runs go on, but somebody should know
    fail      runs cannot work, or cannot be trusted
    unknown   it could not be told; the code says why
    skipped   it does not apply to this deployment

A finding that is not ok has a code of shared.errors. Facts are numbers, names and words of ours: never a secret, an
address with a signature or the words of a library.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from shared.errors import BillingExportError, get_cause, get_remedy

Status = Literal["ok", "warn", "fail", "unknown", "skipped"]


@dataclass(frozen=True)
class Finding:
    status: Status
    code: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


def ok(**facts: Any) -> Finding:
    return Finding("ok", "", facts)


def warn(code: str, **facts: Any) -> Finding:
    return Finding("warn", code, facts)


def fail(code: str, **facts: Any) -> Finding:
    return Finding("fail", code, facts)


def unknown(code: str, **facts: Any) -> Finding:
    return Finding("unknown", code, facts)


def skipped(code: str, **facts: Any) -> Finding:
    return Finding("skipped", code, facts)


def from_error(error: BillingExportError, **facts: Any) -> Finding:
    """Its code, and of the answer only numbers and words that look like codes."""
    said = {
        "http_status": error.http_status,
        "error_code": error.error_code,
        "request_id": error.request_id,
    }
    return fail(
        error.code, **{name: value for name, value in said.items() if value is not None}, **facts
    )


@dataclass(frozen=True)
class CompletedCheck:
    """A check that was made. `seconds` is how long it took."""

    name: str
    finding: Finding
    seconds: float


def build_report(checks: Sequence[CompletedCheck]) -> dict[str, Any]:
    """The JSON of GET /preflight. `unknown` and `skipped` make nothing red."""
    found = {check.finding.status for check in checks}
    return {
        "status": "fail" if "fail" in found else "warn" if "warn" in found else "ok",
        "checks": [_shown(check) for check in checks],
    }


def _shown(check: CompletedCheck) -> dict[str, Any]:
    code = check.finding.code
    return {
        "name": check.name,
        "status": check.finding.status,
        "code": code or None,
        "cause": get_cause(code) if code else None,
        "remedy": get_remedy(code) if code else None,
        "seconds": round(check.seconds, 3),
        "facts": dict(check.finding.facts),
    }
