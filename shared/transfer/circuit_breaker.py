"""Circuit breaker for storage accounts that reject every request.

A policy, a missing permission or an outage affects all blobs of an account. After `MAX_FAILURES`
consecutive account errors, the circuit opens: further blobs fail immediately with the same code.
After the pause, one blob is admitted as a probe. If it is transferred, the circuit closes;
otherwise the next pause is twice as long. Errors that concern a single blob (missing, changed,
foreign, corrupt) do not count.
"""

import math
from dataclasses import dataclass

from cachetools import LRUCache

from shared.clock import Clock

MAX_FAILURES = 8
MIN_OPEN_SECONDS, MAX_OPEN_SECONDS = 30.0, 480.0
MAX_ACCOUNTS = 16  # accounts whose state is kept
ACCOUNT_ERRORS = frozenset(
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
    """The circuit is open. `code` is the last account error."""

    def __init__(self, code: str, retry_after_seconds: int) -> None:
        super().__init__(code)
        self.code, self.retry_after_seconds = code, retry_after_seconds


@dataclass
class _Circuit:
    failures: int = 0
    code: str = ""
    pause_seconds: float = 0.0  # 0 while the circuit is closed
    open_until: float = 0.0


class CircuitBreakers:
    """One circuit for each source account; all of them share the destination account."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._circuits: LRUCache[str, _Circuit] = LRUCache(MAX_ACCOUNTS)

    def enter(self, account: str) -> bool:
        """Admit a blob.

        Returns:
            True if the blob is the probe after a pause. No other blob is admitted until the probe
            has reported its result.

        Raises:
            CircuitOpenError: The circuit is open.
        """
        circuit = self._circuits.get(account)
        if circuit is None or not circuit.pause_seconds:
            return False
        now = self._clock.monotonic()
        if now < circuit.open_until:
            raise CircuitOpenError(circuit.code, math.ceil(circuit.open_until - now))
        circuit.open_until = now + circuit.pause_seconds
        return True

    def record_success(self, account: str) -> None:
        """Close the circuit after a transferred blob."""
        self._circuits.pop(account, None)

    def record_failure(self, account: str, code: str, *, is_probe: bool) -> None:
        """Count a failed blob.

        `is_probe` is the return value of `enter`. Failures of other blobs that were in progress
        when the circuit opened do not extend the pause.
        """
        circuit = self._circuits.setdefault(account, _Circuit())
        if code not in ACCOUNT_ERRORS:
            if is_probe:  # inconclusive, so the next blob becomes the probe
                circuit.open_until = self._clock.monotonic()
            return
        circuit.failures, circuit.code = circuit.failures + 1, code
        if is_probe or (not circuit.pause_seconds and circuit.failures >= MAX_FAILURES):
            circuit.pause_seconds = min(
                MAX_OPEN_SECONDS, 2 * circuit.pause_seconds or MIN_OPEN_SECONDS
            )
            circuit.open_until = self._clock.monotonic() + circuit.pause_seconds
