"""Results of checks and the report that the API returns.

    ok        the operation of a run succeeded, or the fact is as required
    warn      runs work, but an operator should act
    fail      runs do not work, or their results are not reliable
    unknown   the check could not determine the state; the code states why
    skipped   the check does not apply to this deployment

Every finding except `ok` has a code of shared/errors.py. Facts are numbers and names: never a
secret, a signed URL or the text of a library error.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from shared.errors import BillingExportError, get_cause, get_remedy

Status = Literal["ok", "warn", "fail", "unknown", "skipped"]


@dataclass(frozen=True)
class Finding:
    """The result of a check."""

    status: Status
    code: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


def ok(**facts: Any) -> Finding:
    """Return a finding with status `ok`."""
    return Finding("ok", "", facts)


def warn(code: str, **facts: Any) -> Finding:
    """Return a finding with status `warn`."""
    return Finding("warn", code, facts)


def fail(code: str, **facts: Any) -> Finding:
    """Return a finding with status `fail`."""
    return Finding("fail", code, facts)


def unknown(code: str, **facts: Any) -> Finding:
    """Return a finding with status `unknown`."""
    return Finding("unknown", code, facts)


def skipped(code: str, **facts: Any) -> Finding:
    """Return a finding with status `skipped`."""
    return Finding("skipped", code, facts)


def from_error(error: BillingExportError, **facts: Any) -> Finding:
    """Return a failed finding with the code, status and request ID of `error`."""
    values = {
        "http_status": error.http_status,
        "error_code": error.error_code,
        "request_id": error.request_id,
    }
    present = {name: value for name, value in values.items() if value is not None}
    return fail(error.code, **present, **facts)


@dataclass(frozen=True)
class CompletedCheck:
    """A check that was run; `seconds` is its duration."""

    name: str
    finding: Finding
    seconds: float


def build_report(checks: Sequence[CompletedCheck]) -> dict[str, Any]:
    """Return the JSON of GET /preflight.

    The status of the report is the worst of `ok`, `warn` and `fail`; `unknown` and `skipped` do not
    affect it.
    """
    statuses = {check.finding.status for check in checks}
    return {
        "status": "fail" if "fail" in statuses else "warn" if "warn" in statuses else "ok",
        "checks": [_to_json(check) for check in checks],
    }


def _to_json(check: CompletedCheck) -> dict[str, Any]:
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
