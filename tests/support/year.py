"""A scenario that lasts several months, and the expected versions, derived only from the calendar.

Each month has one invoice per currency, on the 8th, and unbilled data every day. One invoice is
partial at first, and one is restated twice. Microsoft is unavailable for two days and throttles
requests for one day, and the invoices for one month are late.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from local.simulator.behaviour import Behaviour
from local.simulator.faults import FaultResponse, Faults, Match
from local.simulator.partner import Partner
from shared.clock import parse_iso
from tests.support.app_environment import AppEnvironment

TICK = time(5, tzinfo=UTC)  # of the schedule
UNBILLED_DELAY = timedelta(minutes=35)  # from midnight until the data of the day before exists
INVOICE_LISTED = time(7, 13, tzinfo=UTC)
BILLED_DELAY = timedelta(hours=2, minutes=24)  # from the invoice until its data exists
IMMEDIATE = Behaviour(ready_after_polls=0)
REQUESTS_PER_RUN = 3  # one POST, one poll, one manifest
FAMILIES = ("usage", "reconciliation")


def create_partner(*currencies: str) -> Partner:
    return Partner(
        currencies=currencies,
        customers=len(currencies),
        resources=1,
        licences=1,
        rows_per_blob=1_000,
    )


def first_day_of_month(day: date, months: int = 0) -> date:
    index = day.year * 12 + day.month - 1 + months
    return date(index // 12, index % 12 + 1, 1)


@dataclass(frozen=True)
class Scenario:
    """A simulated period of scheduled cycles.

    Attributes:
        start: The start, after the tick of that day.
        days: The length of the period.
        currencies: The currencies of the partner; each has its own invoices.
    """

    start: datetime
    days: int
    currencies: tuple[str, ...]

    @property
    def end(self) -> datetime:
        return self.start + timedelta(days=self.days)

    @property
    def first_invoice_at(self) -> datetime:
        """The time at which the first invoice is listed."""
        month = first_day_of_month(self.start.date(), 0 if self.start.day < 8 else 1)
        return datetime.combine(month.replace(day=8), INVOICE_LISTED)

    def at(self, days: int, hour: int) -> datetime:
        """Return a time relative to the day of the first invoice."""
        return datetime.combine(
            self.first_invoice_at.date() + timedelta(days=days), time(hour, tzinfo=UTC)
        )

    @property
    def ticks(self) -> list[datetime]:
        ticks = (
            datetime.combine(self.start.date() + timedelta(days=day), TICK)
            for day in range(self.days + 2)
        )
        return [tick for tick in ticks if self.start < tick <= self.end]

    @property
    def available_ticks(self) -> list[datetime]:
        """The ticks at which the Microsoft services are available."""
        return [tick for tick in self.ticks if not self.at(6, 4) <= tick < self.at(8, 4)]

    def events(self, env: AppEnvironment) -> list[tuple[datetime, Callable[[], None]]]:
        """Return the changes to the simulator by time: restatements, outages and late invoices."""
        simulator = env.simulator

        def key(family: str, currency: str) -> str:
            month = first_day_of_month(self.first_invoice_at.date(), -1)
            invoice = next(
                invoice
                for invoice in simulator.invoices()
                if not invoice.legacy
                and invoice.currency == currency
                and invoice.month.first == month
            )
            return f"billed_{family}/{invoice.invoice_id}/full"

        def set_behaviour(behaviour: Behaviour) -> None:
            simulator.behaviour = behaviour

        def set_faults(faults: Faults) -> None:
            simulator.faults = faults

        first, last = self.currencies[0], self.currencies[-1]
        unavailable = FaultResponse(status=503, headers={"Retry-After": "3600"})
        throttled = FaultResponse(status=429, headers={"Retry-After": "20"})
        events = [
            (
                self.at(0, 8),
                lambda: discard(simulator.restate(key("usage", first), share=Decimal("0.6"))),
            ),
            (self.at(3, 6), lambda: discard(simulator.restate(key("usage", first)))),
            (self.at(5, 6), lambda: discard(simulator.restate(key("reconciliation", last)))),
            (self.at(14, 6), lambda: discard(simulator.restate(key("reconciliation", last)))),
            (self.at(6, 4), lambda: set_faults(Faults().add(Match(), unavailable))),
            (self.at(8, 4), lambda: set_faults(Faults())),
            (
                self.at(12, 4),
                lambda: set_faults(
                    Faults()
                    .add(Match(operation="start", every=2), throttled)
                    .add(Match(operation="poll", every=7), throttled)
                ),
            ),
            (self.at(13, 4), lambda: set_faults(Faults())),
            (
                self.at(25, 0),
                lambda: set_behaviour(
                    replace(IMMEDIATE, invoice_exportable="failed_5000_at_first", first_hours=72)
                ),
            ),
            (self.at(40, 0), lambda: set_behaviour(IMMEDIATE)),
        ]
        return sorted(
            (event for event in events if event[0] < self.end), key=lambda event: event[0]
        )

    def run(
        self,
        env: AppEnvironment,
        *,
        progress: Callable[[datetime], None] = lambda _: None,
        seconds: float = 600,
    ) -> None:
        """Advance the time to the end, and apply each event at its time."""
        for moment, apply in [*self.events(env), (self.end, lambda: None)]:
            while env.clock.now() < moment:
                env.host.advance_to(min(moment, env.clock.now() + timedelta(days=7)), seconds)
                progress(env.clock.now())
            apply()

    def expected(self, env: AppEnvironment) -> dict[str, list[datetime]]:
        """Return when the data of each version was created, by key, oldest first.

        Only the invoice IDs come from the simulator.
        """
        versions: dict[str, list[datetime]] = {}
        for key, created in [*self._unbilled(), *self._billed(env)]:
            versions.setdefault(key, []).append(created)
        return {key: sorted(set(ages)) for key, ages in versions.items()}

    def _unbilled(self) -> Iterator[tuple[str, datetime]]:
        """Yield the unbilled versions: data up to the previous day, and the complete last month."""
        for tick in self.available_ticks:
            yesterday, month_start = (
                tick.date() - timedelta(days=1),
                first_day_of_month(tick.date()),
            )
            for month, until in (
                (month_start, yesterday),
                (first_day_of_month(month_start, -1), month_start - timedelta(days=1)),
            ):
                if until >= month:
                    created = (
                        datetime.combine(until + timedelta(days=1), time(tzinfo=UTC))
                        + UNBILLED_DELAY
                    )
                    for currency in self.currencies:
                        for family in FAMILIES:
                            yield f"unbilled_{family}/{month:%Y-%m}/{currency}/full", created

    def _billed(self, env: AppEnvironment) -> Iterator[tuple[str, datetime]]:
        """Yield the billed versions.

        Each invoice that was listed at an available tick has one version, and one more for each
        restatement that a later tick found.
        """
        first_issued, first, last = self.first_invoice_at, self.currencies[0], self.currencies[-1]
        for invoice in env.simulator.invoices():
            delay = (
                timedelta(hours=72)
                if self.at(25, 0) < invoice.issued < self.at(40, 0)
                else timedelta()
            )
            later_ticks = [tick for tick in self.available_ticks if tick >= invoice.issued + delay]
            if invoice.legacy or not later_ticks:
                continue
            for family in FAMILIES:
                created_at = invoice.issued + BILLED_DELAY
                changes = [created_at]
                if invoice.issued == first_issued and (family, invoice.currency) == (
                    "usage",
                    first,
                ):
                    changes = [
                        created_at + timedelta(minutes=1),
                        self.at(3, 6),
                    ]  # partial at first, then complete
                if invoice.issued == first_issued and (family, invoice.currency) == (
                    "reconciliation",
                    last,
                ):
                    changes = [created_at, self.at(5, 6), self.at(14, 6)]
                until = [*changes[1:], self.end + timedelta(days=1)]
                for created, ended in zip(changes, until, strict=True):
                    if any(
                        created <= tick < ended or (created is changes[0] and tick < ended)
                        for tick in later_ticks
                    ):
                        yield f"billed_{family}/{invoice.invoice_id}/full", created


def discard(_: Any) -> None:
    return


def list_landed_versions(env: AppEnvironment) -> dict[str, list[datetime]]:
    """Return when the data of each complete version was created, by key, from the ledger."""

    async def read() -> dict[str, list[datetime]]:
        versions: dict[str, list[datetime]] = {}
        for state in ("billed", "unbilled"):
            for family in FAMILIES:
                async for row in env.app.ledger.tables.list("versions", f"{state}_{family}"):
                    assert row.values["state"] in ("complete", "pruned"), row
                    versions.setdefault(row.values["key"], []).append(
                        parse_iso(row.values["created_at"])
                    )
        return {key: sorted(ages) for key, ages in versions.items()}

    return env.on_loop(read())


def list_runs(env: AppEnvironment) -> list[Any]:
    """Return the runs in the last 15 months."""

    async def read() -> list[Any]:
        month, runs = first_day_of_month(env.clock.now().date(), -14), list[Any]()
        while month <= env.clock.now().date():
            runs += [run async for run in env.app.ledger.runs.list(f"{month:%Y%m}")]
            month = first_day_of_month(month, 1)
        return runs

    return env.on_loop(read())


@dataclass(frozen=True)
class RequestReport:
    """Outcomes of runs, and requests to Graph; `refused` are those with status 429 or 503."""

    outcomes: Counter[str]
    requests: int
    refused: int
    budget: int


def count_requests(env: AppEnvironment) -> RequestReport:
    """Return the requests to Graph and their budget.

    A run may send three requests; each refused request increases the budget by two: the request
    itself and one more poll.
    """
    all_runs = list_runs(env)
    runs = [run for run in all_runs if run.posts]
    requests = [
        request
        for request in env.simulator.requests
        if request.step in ("start", "poll", "manifest")
    ]
    refused = sum(request.status in (429, 503) for request in requests)
    return RequestReport(
        Counter(run.outcome for run in all_runs),
        len(requests),
        refused,
        REQUESTS_PER_RUN * len(runs) + 2 * refused,
    )
