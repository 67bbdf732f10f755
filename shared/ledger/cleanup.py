"""The orphaned-run cleanup: it closes open items whose orchestration is gone, or starts them again.

It examines every open run, cycle and backfill, and every held lock. It decides by the state of the
orchestration instance or, for an item of another task hub, by the lease, and never by age.

* An instance that failed without a recorded outcome was interrupted, for example because the worker
  process ended during an orchestrator call. It is started again with a new instance, at most
  `MAX_RESTARTS` times: for runs per export key and day, for cycles and backfills in total.
* Every other instance that is gone is closed with a code.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from shared.clock import iso, parse_iso
from shared.errors import InfrastructureError
from shared.instances import GetInstanceState, InstanceState
from shared.ledger.backfills import Backfill
from shared.ledger.cycles import Cycle
from shared.ledger.ledger import Ledger
from shared.ledger.locks import LEASE, Lock
from shared.ledger.open_items import OpenItem
from shared.ledger.outcomes import close_run
from shared.ledger.runs import Run
from shared.messages import RunResult, attempt_id
from shared.redaction import to_infrastructure_error
from shared.telemetry import emit_event

MAX_RESTARTS = 3
MAX_CONCURRENCY = 8
MIN_GONE_TIME = timedelta(minutes=5)
TIMER_TOLERANCE = timedelta(seconds=30)  # the cleanup timer does not fire exactly every 5 minutes

Plan = Cycle | Backfill
GoneState = Literal["terminated", "failed", "completed", "lost"]
"""The state of an instance that does not continue. "lost" means that it does not exist, or that the
lease of an item of another task hub has ended."""

CODES: dict[GoneState, str] = {
    "terminated": "terminated",
    "failed": "platform_fault",
    "completed": "platform_fault",
    "lost": "run_lost",
}


@dataclass(frozen=True)
class Engine:
    """Access to the orchestration instances of this task hub.

    Attributes:
        get_state: Returns the state of an instance.
        start: Starts an instance with this ID for a run, a cycle or a backfill.
    """

    get_state: GetInstanceState
    start: Callable[[Run | Plan, str], Awaitable[None]]


@dataclass
class CleanupReport:
    """What a pass of the cleanup did.

    Attributes:
        closed: The IDs of the closed items.
        restarted: The IDs of the items that were started again.
        errors: The errors by item ID. These items are examined again in the next pass.
    """

    closed: list[str] = field(default_factory=list)
    restarted: list[str] = field(default_factory=list)
    errors: dict[str, InfrastructureError] = field(default_factory=dict)


async def clean_up_orphaned_runs(ledger: Ledger, engine: Engine) -> CleanupReport:
    """Examine all open items. An error for one item does not affect the others. Idempotent."""
    cleanup = _Cleanup(ledger, engine)
    items = [item async for item in ledger.open_items.list()]
    known_ids = {item.item_id for item in items}
    async for lock in ledger.locks.list_held():
        cleanup.locks[lock.run_id] = lock
        if lock.run_id not in known_ids:  # an interruption between the lock and the item
            items.append(
                await ledger.open_items.add(lock.run_id, "run", lock.hub, ledger.clock.now())
            )
    # Runs first: a cycle that is started again leaves its live runs alone.
    for group in ([i for i in items if i.kind == "run"], [i for i in items if i.kind != "run"]):
        await asyncio.gather(*(cleanup.settle(item) for item in group))
    return cleanup.report


class _Cleanup:
    """One pass of the cleanup."""

    def __init__(self, ledger: Ledger, engine: Engine) -> None:
        self._ledger, self._engine, self._now = ledger, engine, ledger.clock.now()
        self._slots = asyncio.Semaphore(MAX_CONCURRENCY)
        self.locks: dict[str, Lock] = {}  # the held locks by run ID
        self.report = CleanupReport()

    async def settle(self, item: OpenItem) -> None:
        """Close an item or start it again, if necessary, and record an error in the report."""
        async with self._slots:
            try:
                await (self._settle_run(item) if item.kind == "run" else self._settle_plan(item))
            except Exception as error:
                self.report.errors[item.item_id] = to_infrastructure_error(error)

    async def _settle_run(self, item: OpenItem) -> None:
        run = await self._ledger.runs.get(item.item_id)
        if run is None:
            await self._release_claim_without_row(item)
            return
        lock = await self._ledger.locks.get(run.key)
        if lock is not None and lock.run_id != run.run_id:
            lock = None
        lease_until = lock.lease_until if lock else ""
        state = await self._get_gone_state(item, run.hub, run.instance_id, lease_until)
        if state is None or (state == "failed" and await self._can_be_called_again(item, run)):
            return
        result: RunResult = {"outcome": "failed", "code": CODES[state]}
        if run.cancelled:
            result = {"outcome": "cancelled", "code": "cancelled"}
        elif lock and _is_restartable(run, state) and not await self._has_landed(run):
            if lock.get_restarts(self._day) < MAX_RESTARTS:
                await self._restart_run(item, run, lock)
                return
            result["code"] = "restart_limit_reached"
        await close_run(self._ledger, run.run_id, result)
        self.report.closed.append(run.run_id)

    async def _release_claim_without_row(self, item: OpenItem) -> None:
        """Release the lock of a run if its process ended before it inserted the run row."""
        lock = self.locks.get(item.item_id)
        lease_until = lock.lease_until if lock else item.lease_until
        instance_id = (lock.instance_id if lock else "") or item.item_id
        if await self._get_gone_state(item, item.hub, instance_id, lease_until) is None:
            return
        if lock is not None:
            await self._ledger.locks.release(lock.key, lock.run_id)
        await self._ledger.open_items.remove(item.item_id)
        self.report.closed.append(item.item_id)

    async def _restart_run(self, item: OpenItem, run: Run, lock: Lock) -> None:
        """Start a run again; after a conflict with another writer, the next pass decides."""
        restarts = run.restarts + 1
        instance_id = attempt_id(run.run_id, f"restart-{restarts}")
        if not await self._ledger.locks.count_restart(lock, self._day):
            return
        if not await self._ledger.runs.merge_if_unchanged(
            run, instance_id=instance_id, restarts=restarts, next_check_at=""
        ):
            return
        await self._start(item, run, instance_id)
        emit_event(
            "run_restarted",
            f"{run.run_id}/restarted/{restarts}",
            run_id=run.run_id,
            key=run.key,
            restarts=restarts,
        )

    async def _start(self, item: OpenItem, target: Run | Plan, instance_id: str) -> None:
        if item.gone_since:
            await self._ledger.open_items.set_gone_since(item, "")
        await self._engine.start(target, instance_id)
        self.report.restarted.append(item.item_id)

    async def _settle_plan(self, item: OpenItem) -> None:
        plan = await self._get_plan(item.item_id)
        if plan is not None and plan.is_over:
            await self._ledger.open_items.remove(item.item_id)
            return
        hub, instance_id = (plan.hub, plan.instance_id) if plan else (item.hub, item.item_id)
        lease_until = item.lease_until
        if plan is not None and hub != self._ledger.hub:
            lease_until = await self._get_plan_lease(item, plan)
        state = await self._get_gone_state(item, hub, instance_id, lease_until)
        if state is None:
            return
        if plan is None:  # the process of the trigger ended before it inserted the row
            await self._ledger.open_items.remove(item.item_id)
        elif isinstance(plan, Backfill) and plan.cancelled:
            await self._close_plan(item, plan, "cancelled")
        elif not _is_restartable(plan, state):
            await self._close_plan(item, plan, CODES[state])
        elif plan.restarts >= MAX_RESTARTS:
            await self._close_plan(item, plan, "restart_limit_reached")
        else:
            await self._restart_plan(item, plan)

    async def _restart_plan(self, item: OpenItem, plan: Plan) -> None:
        """Start a cycle or backfill again; after a conflict, the next pass decides."""
        restarts = plan.restarts + 1
        instance_id = attempt_id(item.item_id, f"restart-{restarts}")
        if not await self._merge_plan(
            plan, instance_id=instance_id, restarts=restarts, next_check_at=""
        ):
            return
        await self._start(item, plan, instance_id)
        event_id = f"{item.item_id}/restarted/{restarts}"
        if isinstance(plan, Backfill):
            emit_event("backfill_restarted", event_id, backfill_id=item.item_id, restarts=restarts)
        else:
            emit_event("cycle_restarted", event_id, cycle_id=item.item_id, restarts=restarts)

    async def _close_plan(self, item: OpenItem, plan: Plan, code: str) -> None:
        """Store the final state of a cycle or backfill, unless another writer was first."""
        absent = "cancelled" if code == "cancelled" else "lost"
        outcomes = await self._ledger.count_outcomes(plan.runs, absent=absent)
        if not await self._merge_plan(
            plan,
            state="failed",
            code=code,
            outcomes=json.dumps(outcomes),
            next_check_at="",
            ended_at=iso(self._now),
        ):
            return
        await self._ledger.open_items.remove(item.item_id)
        event_id = f"{item.item_id}/ended/1"
        facts: dict[str, str | int] = {
            "outcome": "incomplete",
            "codes": code,
            "runs": len(plan.runs),
            **outcomes,
        }
        if isinstance(plan, Backfill):
            emit_event("backfill_ended", event_id, backfill_id=item.item_id, **facts)
        else:
            emit_event("cycle_ended", event_id, cycle_id=item.item_id, **facts)
        self.report.closed.append(item.item_id)

    async def _get_gone_state(
        self, item: OpenItem, hub: str, instance_id: str, lease_until: str
    ) -> GoneState | None:
        """Return why an item does not continue, or None if its orchestration can be live."""
        if hub != self._ledger.hub:
            return "lost" if not lease_until or parse_iso(lease_until) < self._now else None
        state: InstanceState = await self._engine.get_state(instance_id or item.item_id)
        if state == "live":
            if item.gone_since:
                await self._ledger.open_items.set_gone_since(item, "")
            return None
        if state == "unknown":
            return "lost" if await self._is_gone_long_enough(item) else None
        return state

    async def _is_gone_long_enough(self, item: OpenItem) -> bool:
        """Return whether an earlier pass, at least five minutes ago, also found the instance gone.

        The task hub can return the previous state for a short time.
        """
        if item.gone_since:
            return self._now - parse_iso(item.gone_since) >= MIN_GONE_TIME - TIMER_TOLERANCE
        await self._ledger.open_items.set_gone_since(item, iso(self._now))
        return False

    async def _can_be_called_again(self, item: OpenItem, run: Run) -> bool:
        """Return whether the live cycle or backfill of a failed run can call the run again.

        It does so within seconds. If the run is still failed in a later pass, its lane is gone.
        """
        plan = await self._get_plan(run.plan_id) if run.plan_id else None
        if plan is None or plan.is_over or plan.hub != self._ledger.hub:
            return False
        if await self._engine.get_state(plan.instance_id) != "live":
            return False
        return not await self._is_gone_long_enough(item)

    async def _has_landed(self, run: Run) -> bool:
        """Return whether only the outcome of the run is missing."""
        if run.result is not None:
            return True
        if not run.version:
            return False
        version = await self._ledger.versions.get(run.export_key, run.manifest_etag, run.version_n)
        return version is not None and version.state == "complete" and version.run_id == run.run_id

    async def _get_plan_lease(self, item: OpenItem, plan: Plan) -> str:
        """Return the end of the lease of a cycle or backfill: an open run extends it."""
        runs = (await self._ledger.runs.get_many(plan.runs)).values()
        if any(not run.outcome for run in runs):
            return iso(self._now + LEASE)
        last_ends = [iso(parse_iso(run.ended_at) + LEASE) for run in runs if run.ended_at]
        return max([item.lease_until, *last_ends], key=parse_iso)

    async def _get_plan(self, plan_id: str) -> Plan | None:
        if plan_id.startswith("backfill-"):
            return await self._ledger.backfills.get(plan_id)
        return await self._ledger.cycles.get(plan_id)

    async def _merge_plan(self, plan: Plan, **columns: str | int) -> bool:
        if isinstance(plan, Backfill):
            return await self._ledger.backfills.merge_if_unchanged(plan, **columns)
        return await self._ledger.cycles.merge_if_unchanged(plan, **columns)

    @property
    def _day(self) -> str:
        return f"{self._now:%Y-%m-%d}"


def _is_restartable(target: Run | Plan, state: GoneState) -> bool:
    """Return whether an instance was interrupted, or is a restart that did not begin."""
    return state == "failed" or (state == "lost" and target.restarts > 0)
