"""Execution of checks: concurrency, time limits and the effects of other failures."""

import asyncio
import re
from typing import Any

import pytest

from shared.errors import CATALOGUE, RequestRefusedError
from shared.preflight import findings
from shared.preflight.context import PreflightContext
from shared.preflight.deployment import ROOT
from shared.preflight.findings import CompletedCheck, Finding, build_report
from shared.preflight.preflight import CHECKS, Check
from tests.unit.preflight.contexts import create_context, get_problems, run_checks


async def succeed(context: PreflightContext) -> Finding:
    return findings.ok(number=1)


async def raise_refused(context: PreflightContext) -> Finding:
    raise RequestRefusedError("graph_forbidden", http_status=403, request_id="r1")


async def raise_key_error(context: PreflightContext) -> Finding:
    raise KeyError("SENTINEL")


async def test_run_starts_checks_concurrently_and_limits_their_time() -> None:
    barrier = asyncio.Barrier(3)

    async def wait_for_others(context: PreflightContext) -> Finding:
        await barrier.wait()  # returns only if all three checks are running
        return findings.ok()

    async def hang(context: PreflightContext) -> Finding:
        await barrier.wait()
        await asyncio.Event().wait()
        raise AssertionError

    checks = await run_checks(
        create_context(),
        (
            Check("one", wait_for_others),
            Check("two", wait_for_others),
            Check("slow", hang, "graph_unavailable"),
        ),
        timeout_seconds=0.2,
    )
    assert get_problems(checks) == {"slow": "graph_unavailable"}
    assert checks["slow"]["facts"] == {"timeout_seconds": 0.2}


async def test_run_with_failing_check_completes_the_others() -> None:
    checks = await run_checks(
        create_context(),
        (Check("broken", raise_key_error), Check("refused", raise_refused), Check("fine", succeed)),
    )
    assert get_problems(checks) == {"broken": "check_failed", "refused": "graph_forbidden"}
    assert checks["broken"]["facts"] == {"error": "KeyError"}
    assert checks["refused"]["facts"] == {"http_status": 403, "request_id": "r1"}
    assert list(checks) == ["broken", "refused", "fine"]


@pytest.mark.parametrize(
    ("cause", "codes", "expected"),
    [
        (raise_refused, {"graph_forbidden"}, "unknown"),
        (raise_refused, {"another"}, "fail"),
        (succeed, {"graph_forbidden"}, "fail"),
    ],
)
async def test_run_reports_consequence_as_unknown_only_if_its_cause_failed(
    cause: Any, codes: set[str], expected: str
) -> None:
    checks = await run_checks(
        create_context(),
        (
            Check("cause", cause),
            Check("effect", raise_refused, explained_by={"cause": frozenset(codes)}),
        ),
    )
    assert checks["effect"]["status"] == expected


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([], "ok"),
        ([findings.ok(), findings.unknown("region_unknown"), findings.skipped("not_in_use")], "ok"),
        ([findings.ok(), findings.warn("versions_differ")], "warn"),
        ([findings.warn("versions_differ"), findings.fail("role_missing")], "fail"),
    ],
)
def test_build_report_status_is_the_worst_finding(results: list[Finding], expected: str) -> None:
    checks = [CompletedCheck(str(index), result, 0.0) for index, result in enumerate(results)]
    assert build_report(checks)["status"] == expected


def test_checks_have_unique_names_and_existing_codes() -> None:
    assert len({check.name for check in CHECKS}) == len(CHECKS)
    codes = {check.timeout_code for check in CHECKS}.union(
        *(group for check in CHECKS for group in check.explained_by.values())
    )
    assert codes <= set(CATALOGUE)
    assert {name for check in CHECKS for name in check.explained_by} <= {
        check.name for check in CHECKS
    }


def test_document_describes_exactly_the_existing_checks() -> None:
    text = (
        (ROOT / "docs" / "doctor.md")
        .read_text(encoding="utf-8")
        .split("## Checks")[1]
        .split("\n**")[0]
    )
    assert re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE) == [
        check.name for check in CHECKS
    ]
