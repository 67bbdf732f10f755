"""Makes all checks side by side, each bounded in time, and names of what fails the one cause and not its consequences."""

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

CHECK_SECONDS = 15.0
logger = logging.getLogger("partner_billing.preflight")


@dataclass(frozen=True)
class Check:
    """One question. `too_slow` is the code where no answer comes.

    `behind`: other checks, with the codes of this one that they explain. Where one of them fails, this one could not be
    told: without a token Graph refuses, and only the token is at fault.
    """

    name: str
    look: Callable[[PreflightContext], Awaitable[Finding]]
    too_slow: str = "check_failed"
    behind: Mapping[str, frozenset[str]] = field(default_factory=dict)


NO_TOKEN = frozenset({"identity_unavailable"})
REFUSED_BY_GRAPH = NO_TOKEN | {"graph_unauthorized", "graph_forbidden"}
REFUSED_BY_CLOCK = frozenset(
    {"destination_forbidden", "tables_forbidden", "host_storage_forbidden"}
)  # a signature of tomorrow
NOT_LANDED = frozenset(
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

CHECKS = (
    Check("settings", deployment.settings),
    Check("versions", deployment.versions),
    Check("graph_token", tokens.graph_token, "identity_unavailable"),
    Check(
        "graph", microsoft_services.graph, "graph_unavailable", {"graph_token": REFUSED_BY_GRAPH}
    ),
    Check(
        "partner_center",
        microsoft_services.partner_center,
        "partner_center_unavailable",
        {"graph_token": NO_TOKEN},
    ),
    Check("storage_token", tokens.storage_token, "identity_unavailable"),
    Check(
        "landing",
        landing.container,
        "destination_unreachable",
        {"storage_token": NO_TOKEN, "clock": REFUSED_BY_CLOCK},
    ),
    Check(
        "copy_from_url",
        copy_from_url.copy_from_url,
        "destination_unreachable",
        {"storage_token": NO_TOKEN, "landing": NOT_LANDED},
    ),
    Check(
        "tables",
        landing.tables,
        "tables_unreachable",
        {"storage_token": NO_TOKEN, "clock": REFUSED_BY_CLOCK},
    ),
    Check(
        "host_storage",
        host_storage.host_storage,
        "host_storage_unreachable",
        {"storage_token": NO_TOKEN, "clock": REFUSED_BY_CLOCK},
    ),
    Check("clock", landing.clock_skew, "clock_unknown", {"landing": frozenset({"clock_unknown"})}),
    Check("region", deployment.region),
)


class Preflight:
    """`seconds` bounds each check, and so, as they go side by side, all of them."""

    def __init__(
        self,
        parts: PreflightContext,
        checks: Sequence[Check] = CHECKS,
        *,
        seconds: float = CHECK_SECONDS,
    ) -> None:
        self._parts, self._checks, self._seconds = parts, checks, seconds

    async def run(self) -> dict[str, Any]:
        """The report as JSON, in the order of the checks. Never raises."""
        made = await asyncio.gather(*(self._make(check) for check in self._checks))
        return build_report(
            [
                _unless_explained(check, found, made)
                for check, found in zip(self._checks, made, strict=True)
            ]
        )

    async def _make(self, check: Check) -> CompletedCheck:
        clock = self._parts.clock
        began = clock.monotonic()
        finding = fail(check.too_slow, waited_seconds=self._seconds)
        try:
            async with asyncio.timeout(self._seconds):
                finding = await check.look(self._parts)
        except TimeoutError:
            pass
        except BillingExportError as error:
            finding = from_error(error)
        except Exception as error:  # whatever it is, the other checks are told
            logger.error(
                "check %s: %s at %s",
                check.name,
                to_infrastructure_error(error),
                format_traceback(error),
            )
            finding = fail("check_failed", error=type(error).__name__)
        return CompletedCheck(check.name, finding, clock.monotonic() - began)


def _unless_explained(
    check: Check, made: CompletedCheck, others: Sequence[CompletedCheck]
) -> CompletedCheck:
    failed = {other.name for other in others if other.finding.status == "fail"}
    for name, codes in check.behind.items():
        if name in failed and made.finding.code in codes:
            return replace(made, finding=unknown("explained_elsewhere", check=name))
    return made
