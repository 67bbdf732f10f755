"""A clock that stands still until it is told otherwise."""

from datetime import UTC, datetime, timedelta


class StandingClock:
    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    @classmethod
    def at(cls, text: str) -> "StandingClock":
        return cls(datetime.fromisoformat(text).replace(tzinfo=UTC))

    def now(self) -> datetime:
        return self.moment

    def forward(self, **delta: float) -> None:
        self.moment += timedelta(**delta)
