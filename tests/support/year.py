"""A scenario of several months, and the expected versions, derived from the calendar alone.

Each month has one invoice per currency, on the 8th, and unbilled data every day. One invoice is
partial at first, one is restated twice, Microsoft is unavailable for two days and throttles for one
day, and the invoices of one month are late.
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

TICK, DATA_AT, LISTED, MADE = (
    time(5, tzinfo=UTC),
    timedelta(minutes=35),
    time(7, 13, tzinfo=UTC),
    timedelta(hours=2, minutes=24),
)
CALM = Behaviour(ready_after_polls=0)
REQUESTS_A_RUN = 3  # one POST, one look, one manifest
FAMILIES = ("usage", "reconciliation")


def partner(*currencies: str) -> Partner:
    return Partner(
        currencies=currencies,
        customers=len(currencies),
        resources=1,
        licences=1,
        rows_per_blob=1_000,
    )


def first_of(day: date, months: int = 0) -> date:
    index = day.year * 12 + day.month - 1 + months
    return date(index // 12, index % 12 + 1, 1)


@dataclass(frozen=True)
class Story:
    """`days` from `start` (after that day's tick) on. The troubles count from the first 8th after the start."""

    start: datetime
    days: int
    currencies: tuple[str, ...]

    @property
    def end(self) -> datetime:
        return self.start + timedelta(days=self.days)

    @property
    def eighth(self) -> datetime:
        """The time at which the first invoice is listed."""
        month = first_of(self.start.date(), 0 if self.start.day < 8 else 1)
        return datetime.combine(month.replace(day=8), LISTED)

    def at(self, days: int, hour: int) -> datetime:
        return datetime.combine(self.eighth.date() + timedelta(days=days), time(hour, tzinfo=UTC))

    @property
    def ticks(self) -> list[datetime]:
        found = (
            datetime.combine(self.start.date() + timedelta(days=day), TICK)
            for day in range(self.days + 2)
        )
        return [tick for tick in found if self.start < tick <= self.end]

    @property
    def answered(self) -> list[datetime]:
        """The ticks at which Microsoft is available."""
        return [tick for tick in self.ticks if not self.at(6, 4) <= tick < self.at(8, 4)]

    def events(self, env: AppEnvironment) -> list[tuple[datetime, Callable[[], None]]]:
        simulator = env.simulator

        def key(family: str, currency: str) -> str:
            month = first_of(self.eighth.date(), -1)
            found = next(
                one
                for one in simulator.invoices()
                if not one.legacy and one.currency == currency and one.month.first == month
            )
            return f"billed_{family}/{found.invoice_id}/full"

        def behave(behaviour: Behaviour) -> None:
            simulator.behaviour = behaviour

        def fail(faults: Faults) -> None:
            simulator.faults = faults

        first, last = self.currencies[0], self.currencies[-1]
        gone = FaultResponse(status=503, headers={"Retry-After": "3600"})
        slow = FaultResponse(status=429, headers={"Retry-After": "20"})
        told = [
            (
                self.at(0, 8),
                lambda: void(simulator.restate(key("usage", first), share=Decimal("0.6"))),
            ),
            (self.at(3, 6), lambda: void(simulator.restate(key("usage", first)))),
            (self.at(5, 6), lambda: void(simulator.restate(key("reconciliation", last)))),
            (self.at(14, 6), lambda: void(simulator.restate(key("reconciliation", last)))),
            (self.at(6, 4), lambda: fail(Faults().add(Match(), gone))),
            (self.at(8, 4), lambda: fail(Faults())),
            (
                self.at(12, 4),
                lambda: fail(
                    Faults()
                    .add(Match(operation="start", every=2), slow)
                    .add(Match(operation="poll", every=7), slow)
                ),
            ),
            (self.at(13, 4), lambda: fail(Faults())),
            (
                self.at(25, 0),
                lambda: behave(
                    replace(CALM, invoice_exportable="failed_5000_at_first", first_hours=72)
                ),
            ),
            (self.at(40, 0), lambda: behave(CALM)),
        ]
        return sorted(
            ((moment, do) for moment, do in told if moment < self.end), key=lambda event: event[0]
        )

    def play(
        self,
        env: AppEnvironment,
        *,
        progress: Callable[[datetime], None] = lambda _: None,
        seconds: float = 600,
    ) -> None:
        for moment, do in [*self.events(env), (self.end, lambda: None)]:
            while env.clock.now() < moment:
                env.host.advance_to(min(moment, env.clock.now() + timedelta(days=7)), seconds)
                progress(env.clock.now())
            do()

    # -- what must have come of it

    def expected(self, env: AppEnvironment) -> dict[str, list[datetime]]:
        """Return when the data of each version was created, by key and oldest first.

        Only the invoice IDs come from the simulator.
        """
        found: dict[str, list[datetime]] = {}
        for key, created in [*self._unbilled(), *self._billed(env)]:
            found.setdefault(key, []).append(created)
        return {key: sorted(set(ages)) for key, ages in found.items()}

    def _unbilled(self) -> Iterator[tuple[str, datetime]]:
        """Yield the unbilled versions: data up to the previous day, and the complete last month."""
        for tick in self.answered:
            yesterday, this = tick.date() - timedelta(days=1), first_of(tick.date())
            for month, until in ((this, yesterday), (first_of(this, -1), this - timedelta(days=1))):
                if until >= month:
                    created = (
                        datetime.combine(until + timedelta(days=1), time(tzinfo=UTC)) + DATA_AT
                    )
                    for currency in self.currencies:
                        for family in FAMILIES:
                            yield f"unbilled_{family}/{month:%Y-%m}/{currency}/full", created

    def _billed(self, env: AppEnvironment) -> Iterator[tuple[str, datetime]]:
        """One version of each invoice that was listed at an answered tick, and the restated ones as often as that was seen."""
        hit, first, last = self.eighth, self.currencies[0], self.currencies[-1]
        for invoice in env.simulator.invoices():
            late = (
                timedelta(hours=72)
                if self.at(25, 0) < invoice.issued < self.at(40, 0)
                else timedelta()
            )
            seen = [tick for tick in self.answered if tick >= invoice.issued + late]
            if invoice.legacy or not seen:
                continue
            for family in FAMILIES:
                made = invoice.issued + MADE
                changes = [made]
                if invoice.issued == hit and (family, invoice.currency) == ("usage", first):
                    changes = [
                        made + timedelta(minutes=1),
                        self.at(3, 6),
                    ]  # partial from the beginning, then whole
                if invoice.issued == hit and (family, invoice.currency) == ("reconciliation", last):
                    changes = [made, self.at(5, 6), self.at(14, 6)]
                until = [*changes[1:], self.end + timedelta(days=1)]
                for created, ended in zip(changes, until, strict=True):
                    if any(
                        created <= tick < ended or (created is changes[0] and tick < ended)
                        for tick in seen
                    ):
                        yield f"billed_{family}/{invoice.invoice_id}/full", created


def void(_: Any) -> None:
    return


def landed(env: AppEnvironment) -> dict[str, list[datetime]]:
    """Return when the data of each complete version was created, by key, from the ledger."""

    async def read() -> dict[str, list[datetime]]:
        found: dict[str, list[datetime]] = {}
        for state in ("billed", "unbilled"):
            for family in FAMILIES:
                async for row in env.app.ledger.tables.list("versions", f"{state}_{family}"):
                    assert row.values["state"] in ("complete", "pruned"), row
                    found.setdefault(row.values["key"], []).append(
                        parse_iso(row.values["created_at"])
                    )
        return {key: sorted(ages) for key, ages in found.items()}

    return env.on_loop(read())


def runs_of(env: AppEnvironment) -> list[Any]:
    async def read() -> list[Any]:
        month, found = first_of(env.clock.now().date(), -14), list[Any]()
        while month <= env.clock.now().date():
            found += [run async for run in env.app.ledger.runs.list(f"{month:%Y%m}")]
            month = first_of(month, 1)
        return found

    return env.on_loop(read())


@dataclass(frozen=True)
class Told:
    outcomes: Counter[str]
    requests: int
    refused: int  # of them answered 429 or 503
    budget: int


def told(env: AppEnvironment) -> Told:
    """Return the requests to Graph and their budget.

    A run may send three requests; each refused request adds itself and one more poll.
    """
    asked = [run for run in runs_of(env) if run.posts]
    requests = [one for one in env.simulator.requests if one.step in ("start", "poll", "manifest")]
    refused = sum(one.status in (429, 503) for one in requests)
    return Told(
        Counter(run.outcome for run in runs_of(env)),
        len(requests),
        refused,
        REQUESTS_A_RUN * len(asked) + 2 * refused,
    )
