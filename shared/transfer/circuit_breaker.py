"""Stops asking accounts that refuse everything: a policy, a missing right or an outage is not cured by a thousand requests.

After `REFUSALS` blobs in a row that ended in a refusal of a whole account, further blobs are answered in its place with
the same code. When the time is over one blob is let through: lands it, all may go on; else the next pause is longer.
What is wrong with one blob only (missing, changed, foreign, damaged) counts neither way.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass

from shared.clock import Clock

REFUSALS = 8
OPEN_SECONDS, LONGEST_OPEN_SECONDS = 30.0, 480.0  # doubled each time
KEPT = 16  # pairs of accounts
OF_AN_ACCOUNT = frozenset(
    {
        "destination_missing",
        "destination_forbidden",
        "destination_full",
        "destination_unreachable",
        "storage_busy",
        "source_forbidden",
        "source_sas_expired",
        "source_redirected",
        "source_unreachable",
    }
)


class CircuitOpenError(Exception):
    """The circuit is open: `code` is what the account said last, ask again after `retry_after_seconds`."""

    def __init__(self, code: str, retry_after_seconds: int) -> None:
        super().__init__(code)
        self.code, self.retry_after_seconds = code, retry_after_seconds


@dataclass
class _State:
    refusals: int = 0
    code: str = ""
    seconds: float = 0.0  # of the pause; 0 = closed
    open_until: float = 0.0


class CircuitBreakers:
    """One circuit for each account that is read from; the account written to is the same for all."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._states: OrderedDict[str, _State] = OrderedDict()

    def enter(self, account: str) -> bool:
        """Whether this blob is the one let through after a pause: it keeps all others out until it has reported.

        Raises NotAsked.
        """
        state = self._states.get(account)
        if state is None or not state.seconds:
            return False
        now = self._clock.monotonic()
        if now < state.open_until:
            raise CircuitOpenError(state.code, math.ceil(state.open_until - now))
        state.open_until = now + state.seconds
        return True

    def landed(self, account: str) -> None:
        self._states.pop(account, None)

    def failed(self, account: str, code: str, *, let_through: bool) -> None:
        """`let_through` is what enter() said. The others that were under way when it opened change nothing."""
        state = self._states.setdefault(account, _State())
        if code not in OF_AN_ACCOUNT:
            if let_through:
                state.open_until = (
                    self._clock.monotonic()
                )  # it says nothing of the account: the next one is let through
            return
        state.refusals, state.code = state.refusals + 1, code
        if let_through or (not state.seconds and state.refusals >= REFUSALS):
            state.seconds = min(LONGEST_OPEN_SECONDS, 2 * state.seconds or OPEN_SECONDS)
            state.open_until = self._clock.monotonic() + state.seconds
        self._states.move_to_end(account)
        while len(self._states) > KEPT:
            self._states.popitem(last=False)
