"""How checks are made: side by side, bounded, each by itself; and what is told of one whose cause is another."""

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
from tests.unit.preflight.contexts import examined, patient, red


async def fine(parts: PreflightContext) -> Finding:
    return findings.ok(number=1)


async def refused(parts: PreflightContext) -> Finding:
    raise RequestRefusedError("graph_forbidden", http_status=403, request_id="r1")


async def broken(parts: PreflightContext) -> Finding:
    raise KeyError("SENTINEL")


async def test_side_by_side_and_no_longer_than_allowed() -> None:
    everybody = asyncio.Barrier(3)

    async def meets(parts: PreflightContext) -> Finding:
        await everybody.wait()  # passes only if all three are under way
        return findings.ok()

    async def hangs(parts: PreflightContext) -> Finding:
        await everybody.wait()
        await asyncio.Event().wait()
        raise AssertionError

    checks = await examined(
        patient(),
        (Check("one", meets), Check("two", meets), Check("slow", hangs, "graph_unavailable")),
        seconds=0.2,
    )
    assert red(checks) == {"slow": "graph_unavailable"}
    assert checks["slow"]["facts"] == {"waited_seconds": 0.2}


async def test_a_check_that_breaks_breaks_no_other() -> None:
    checks = await examined(
        patient(), (Check("broken", broken), Check("refused", refused), Check("fine", fine))
    )
    assert red(checks) == {"broken": "check_failed", "refused": "graph_forbidden"}
    assert checks["broken"]["facts"] == {"error": "KeyError"}
    assert checks["refused"]["facts"] == {"http_status": 403, "request_id": "r1"}
    assert list(checks) == ["broken", "refused", "fine"]


@pytest.mark.parametrize(
    ("cause", "codes", "expected"),
    [
        (refused, {"graph_forbidden"}, "unknown"),
        (refused, {"another"}, "fail"),
        (fine, {"graph_forbidden"}, "fail"),
    ],
)
async def test_only_what_another_failure_explains_is_passed_on(
    cause: Any, codes: set[str], expected: str
) -> None:
    checks = await examined(
        patient(),
        (Check("cause", cause), Check("effect", refused, behind={"cause": frozenset(codes)})),
    )
    assert checks["effect"]["status"] == expected


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([], "ok"),
        ([findings.ok(), findings.unknown("region_unknown"), findings.skipped("not_in_use")], "ok"),
        ([findings.ok(), findings.warn("versions_differ")], "warn"),
        ([findings.warn("versions_differ"), findings.fail("role_missing")], "fail"),
    ],
)
def test_the_worst_is_the_status(found: list[Finding], expected: str) -> None:
    assert (
        build_report([CompletedCheck(str(n), each, 0.0) for n, each in enumerate(found)])["status"]
        == expected
    )


def test_every_check_has_a_name_of_its_own_and_codes_that_are_explained() -> None:
    assert len({check.name for check in CHECKS}) == len(CHECKS)
    named = {check.too_slow for check in CHECKS} | {
        code for check in CHECKS for codes in check.behind.values() for code in codes
    }
    assert named <= set(CATALOGUE)
    assert {name for check in CHECKS for name in check.behind} <= {check.name for check in CHECKS}


def test_the_document_has_every_check_and_no_other() -> None:
    text = (
        (ROOT / "docs" / "doctor.md")
        .read_text(encoding="utf-8")
        .split("## The checks")[1]
        .split("\n**")[0]
    )
    assert re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE) == [
        check.name for check in CHECKS
    ]
