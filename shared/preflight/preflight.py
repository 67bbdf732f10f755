"""Runs all checks concurrently and reports each failure only at its cause."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from shared.errors import BillingExportError
from shared.preflight import (
    copy_from_url,
    deployment,
    host_storage,
    landing,
    microsoft_services,
    tokens,
)
from shared.preflight.context import PreflightContext
from shared.preflight.findings import (
    CompletedCheck,
    Finding,
    build_report,
    fail,
    from_error,
    unknown,
)
from shared.redaction import format_traceback, to_infrastructure_error

CHECK_TIMEOUT_SECONDS = 15.0
logger = logging.getLogger("partner_billing.preflight")


@dataclass(frozen=True)
class Check:
    """A check; `timeout_code` is the error code if it does not complete in time.

    `explained_by` maps the names of other checks to codes of this check. If such a check failed, a
    finding with one of its codes is only a consequence and is reported as unknown. For example,
    Graph rejects requests without a token, so only the check of the token fails.
    """

    name: str
    run: Callable[[PreflightContext], Awaitable[Finding]]
    timeout_code: str = "check_failed"
    explained_by: Mapping[str, frozenset[str]] = field(default_factory=dict)


NO_TOKEN = frozenset({"identity_unavailable"})
NO_GRAPH_ACCESS = NO_TOKEN | {"graph_unauthorized", "graph_forbidden"}
# Storage rejects signatures from the future.
NO_STORAGE_ACCESS = frozenset(
    {"destination_forbidden", "tables_forbidden", "host_storage_forbidden"}
)
NO_LANDING_ACCESS = frozenset(
    {
        "destination_missing",
        "destination_forbidden",
        "destination_full",
        "destination_unreachable",
        "storage_busy",
        "copy_failed",
        "copy_refused",
    }
)
STORAGE_EXPLANATIONS = {"storage_token": NO_TOKEN, "clock": NO_STORAGE_ACCESS}

CHECKS = (
    Check("settings", deployment.check_settings),
    Check("versions", deployment.check_versions),
    Check("graph_token", tokens.check_graph_token, "identity_unavailable"),
    Check(
        "graph",
        microsoft_services.check_graph,
        "graph_unavailable",
        {"graph_token": NO_GRAPH_ACCESS},
    ),
    Check(
        "partner_center",
        microsoft_services.check_partner_center,
        "partner_center_unavailable",
        {"graph_token": NO_TOKEN},
    ),
    Check("storage_token", tokens.check_storage_token, "identity_unavailable"),
    Check("landing", landing.check_container, "destination_unreachable", STORAGE_EXPLANATIONS),
    Check(
        "copy_from_url",
        copy_from_url.check_copy_from_url,
        "destination_unreachable",
        {"storage_token": NO_TOKEN, "landing": NO_LANDING_ACCESS},
    ),
    Check("tables", landing.check_tables, "tables_unreachable", STORAGE_EXPLANATIONS),
    Check(
        "host_storage",
        host_storage.check_host_storage,
        "host_storage_unreachable",
        STORAGE_EXPLANATIONS,
    ),
    Check("clock", landing.check_clock, "clock_unknown", {"landing": frozenset({"clock_unknown"})}),
    Check("region", deployment.check_region),
)


class Preflight:
    """Runs checks concurrently; each is limited to `timeout_seconds`."""

    def __init__(
        self,
        context: PreflightContext,
        checks: Sequence[Check] = CHECKS,
        *,
        timeout_seconds: float = CHECK_TIMEOUT_SECONDS,
    ) -> None:
        self._context, self.checks, self._timeout_seconds = context, checks, timeout_seconds

    async def run(self) -> dict[str, Any]:
        """Return the report as JSON, in the order of the checks. Never raises."""
        completed = await asyncio.gather(*(self._run_check(check) for check in self.checks))
        return build_report(
            [
                _replace_consequence(check, result, completed)
                for check, result in zip(self.checks, completed, strict=True)
            ]
        )

    async def _run_check(self, check: Check) -> CompletedCheck:
        clock = self._context.clock
        started = clock.monotonic()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                finding = await check.run(self._context)
        except TimeoutError:
            finding = fail(check.timeout_code, timeout_seconds=self._timeout_seconds)
        except BillingExportError as error:
            finding = from_error(error)
        except Exception as error:  # a defect in one check must not affect the others
            logger.error(
                "The check %s failed: %s at %s",
                check.name,
                to_infrastructure_error(error),
                format_traceback(error),
            )
            finding = fail("check_failed", error=type(error).__name__)
        return CompletedCheck(check.name, finding, clock.monotonic() - started)


def _replace_consequence(
    check: Check, result: CompletedCheck, others: Sequence[CompletedCheck]
) -> CompletedCheck:
    failed = {other.name for other in others if other.finding.status == "fail"}
    for name, codes in check.explained_by.items():
        if name in failed and result.finding.code in codes:
            return replace(result, finding=unknown("explained_elsewhere", check=name))
    return result
