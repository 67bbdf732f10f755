"""The data of each export key at the current time, and its versions.

A key has the same format as in the app: `billed_usage/G016907411/full` or
`unbilled_usage/2026-11/USD/full`. `restate` creates a new version.
"""

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache, partial
from typing import Any, Protocol, Self

from local.simulator.behaviour import CONTENT_SWITCHES, Behaviour
from local.simulator.billing_months import Month
from local.simulator.data_attributes import attribute_names
from local.simulator.data_files import BlobFile, file_of_lines, json_line
from local.simulator.data_padding import padding_files
from local.simulator.data_reconciliation import (
    ReconciliationLine,
    reconciliation_lines,
    reconciliation_row,
)
from local.simulator.data_usage import (
    NO_CHANGES,
    Changes,
    Period,
    UsageLine,
    usage_lines,
    usage_row,
)
from local.simulator.invoices import Invoice, InvoiceBook
from local.simulator.partner import Customer, Partner

DATASETS = ("billed_usage", "unbilled_usage", "billed_reconciliation", "unbilled_reconciliation")
ETAG_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

Lines = Sequence[UsageLine | ReconciliationLine]


class Clock(Protocol):
    """A source of the current time in UTC."""

    def now(self) -> datetime: ...


@dataclass(frozen=True)
class ExportKey:
    """A dataset, its scope and an attribute set.

    The scope of billed datasets is `invoice_id`, that of unbilled datasets `month` and `currency`.
    """

    dataset: str
    attribute_set: str = "full"
    invoice_id: str | None = None
    month: Month | None = None
    currency: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a key. Raises ValueError if it is invalid."""
        dataset, *scope, attribute_set = text.split("/")
        parts = 1 if dataset.startswith("billed") else 2
        if dataset not in DATASETS or attribute_set not in ("full", "basic") or len(scope) != parts:
            raise ValueError(f"{text!r} is not an export key")
        if len(scope) == 1:
            return cls(dataset, attribute_set, invoice_id=scope[0])
        return cls(dataset, attribute_set, month=Month.parse(scope[0]), currency=scope[1])

    def __str__(self) -> str:
        return f"{self.subject}/{self.attribute_set}"

    @property
    def subject(self) -> str:
        """The key without its attribute set. Both attribute sets are restated together."""
        return f"{self.dataset}/{self.invoice_id or f'{self.month}/{self.currency}'}"

    @property
    def family(self) -> str:
        """`usage` or `reconciliation`."""
        return self.dataset.partition("_")[2]

    @property
    def billed(self) -> bool:
        """Whether the dataset is billed."""
        return self.dataset.startswith("billed")


@dataclass(frozen=True)
class DataVersion:
    """One version of a key's data, which one manifest describes."""

    key: ExportKey
    month: Month
    etag: str
    created: datetime  # the time of the data
    blobs: tuple[BlobFile, ...]
    empty: bool  # no lines, regardless of the blobs
    behaviour: Behaviour = field(repr=False)  # when the version was created

    @property
    def rows(self) -> int:
        """The number of lines in all blobs."""
        return sum(blob.rows for blob in self.blobs)

    @property
    def manifest_id(self) -> str:
        """The ID of the manifest, derived from the ETag."""
        digest = hashlib.sha256(f"manifest {self.etag}".encode()).hexdigest()
        return f"{digest[:8]}-{digest[8:12]}-4{digest[13:16]}-8{digest[17:20]}-{digest[20:32]}"


@dataclass
class _Subject:
    """The changes that tests made to the data of a subject."""

    changes: Changes = NO_CHANGES
    revision: int = 0
    restated: datetime | None = None
    padding: tuple[int, int] | None = None


class Exports:
    """All data of the partner. Thread-safe: the server and tests use it concurrently."""

    def __init__(
        self,
        seed: int,
        partner: Partner,
        customers: tuple[Customer, ...],
        book: InvoiceBook,
        clock: Clock,
        behaviour: Callable[[], Behaviour],
    ) -> None:
        self._seed, self._partner, self._customers, self._book, self._clock = (
            seed,
            partner,
            customers,
            book,
            clock,
        )
        self._behaviour = behaviour
        self._lock = threading.RLock()
        self._subjects: dict[str, _Subject] = {}
        self._versions: dict[tuple[Any, ...], DataVersion] = {}
        self._lines = lru_cache(maxsize=16)(
            self._make_lines
        )  # limits the memory of tests that simulate a year

    def restate(
        self, key: ExportKey, *, amount: Decimal = Decimal(0), share: Decimal = Decimal(1)
    ) -> None:
        """Create new data for both attribute sets of a key.

        The new data has an additional pair of corrections that cancel each other out. `amount` is
        added to the total, in the pricing currency. If `share` is less than 1, only that fraction
        of the days is kept, counted from the start.
        """
        with self._lock:
            subject = self._subjects.setdefault(key.subject, _Subject())
            changes = subject.changes
            subject.changes = Changes(changes.corrections + 1, changes.amount + amount, share)
            subject.revision += 1
            subject.restated = self._clock.now()

    def fill(self, key: ExportKey, *, blobs: int, blob_bytes: int) -> None:
        """Replace a key's data with padding of the given size."""
        with self._lock:
            subject = self._subjects.setdefault(key.subject, _Subject())
            subject.padding = (blobs, blob_bytes)
            subject.revision += 1
            subject.restated = self._clock.now()

    def current_month(self) -> Month:
        """Return the month to which `current` refers now."""
        return Month.of(
            self._clock.now() - timedelta(hours=self._behaviour().month_opens_after_hours)
        )

    def version(self, key: ExportKey) -> DataVersion:
        """Return the newest version. Raises KeyError for an unknown invoice."""
        with self._lock:
            behaviour = self._behaviour()
            subject = self._subjects.get(key.subject, _Subject())
            invoice = self._book.invoice(key.invoice_id) if key.invoice_id else None
            if invoice:
                period, created, changes = self._billed(key, invoice, subject, behaviour)
            else:
                period, created, changes = self._unbilled(key, subject, behaviour)
            identity = (
                str(key),
                period,
                subject.revision,
                changes,
                subject.padding,
                *(getattr(behaviour, name) for name in CONTENT_SWITCHES),
            )
            if identity not in self._versions:
                self._versions[identity] = self._make(
                    key, period, created, changes, subject, behaviour, identity
                )
            return self._versions[identity]

    def _billed(
        self,
        key: ExportKey,
        invoice: Invoice,
        subject: _Subject,
        behaviour: Behaviour,
    ) -> tuple[Period, datetime, Changes]:
        period = Period(
            invoice.month,
            invoice.currency,
            None if invoice.legacy else invoice.month.last,
            invoice.invoice_id,
        )
        created, changes = invoice.issued + timedelta(hours=2, minutes=24), subject.changes
        if key.family == "usage" and behaviour.billed_usage == "partial_at_first":
            complete_at = invoice.issued + timedelta(hours=behaviour.first_hours)
            if self._clock.now() < complete_at:
                changes = replace(changes, share=min(changes.share, Decimal("0.6")))
            else:
                created = complete_at
        return period, _later(created, subject), changes

    def _unbilled(
        self, key: ExportKey, subject: _Subject, behaviour: Behaviour
    ) -> tuple[Period, datetime, Changes]:
        assert key.month is not None and key.currency is not None
        now = self._clock.now()
        until: date = min(
            (now - timedelta(hours=24)).date(), key.month.last
        )  # usage appears after a day
        if behaviour.unbilled_data == "stalled" and now < key.month.plus(-1).invoiced_at:
            until = min(until, key.month.first)
        created = datetime(until.year, until.month, until.day, 0, 35, tzinfo=UTC) + timedelta(
            days=1
        )
        is_billed_currency = key.currency in self._partner.currencies
        period = Period(
            key.month,
            key.currency,
            until if until >= key.month.first and is_billed_currency else None,
        )
        return period, _later(created, subject), subject.changes

    def _make(
        self,
        key: ExportKey,
        period: Period,
        created: datetime,
        changes: Changes,
        subject: _Subject,
        behaviour: Behaviour,
        identity: tuple[Any, ...],
    ) -> DataVersion:
        digest = hashlib.sha256(f"{self._seed} {self._partner} {identity}".encode()).digest()
        guid = (
            f"{digest[:4].hex()}-{digest[4:6].hex()}-4{digest[6:8].hex()[1:]}"
            f"-9{digest[8:10].hex()[1:]}-{digest[10:16].hex()}"
        )
        etag = "".join(ETAG_LETTERS[byte % len(ETAG_LETTERS)] for byte in digest[15:32])
        if subject.padding:
            blobs, blob_bytes = subject.padding
            files, empty = (
                padding_files(blobs=blobs, blob_bytes=blob_bytes, seed=self._seed, guid=guid),
                False,
            )
        else:
            files, empty = (
                self._files(key, period, changes, behaviour, guid),
                not self._lines(key.family, period, changes),
            )
        return DataVersion(key, period.month, etag, created, files, empty, behaviour)

    def _make_lines(self, family: str, period: Period, changes: Changes) -> Lines:
        make: Callable[..., Lines] = usage_lines if family == "usage" else reconciliation_lines
        return make(self._seed, self._customers, period, changes)

    def _files(
        self, key: ExportKey, period: Period, changes: Changes, behaviour: Behaviour, guid: str
    ) -> tuple[BlobFile, ...]:
        """Return the files with names and row counts. Their bytes are generated on access."""
        count, size = len(self._lines(key.family, period, changes)), self._partner.rows_per_blob
        starts = range(0, count, size)
        if not count and behaviour.empty_export in ("empty_file", "no_bytes"):
            starts = range(1)
        files = []
        for number, start in enumerate(starts):
            folder = f"batch={number // 4}/" if behaviour.blob_names == "nested" else ""
            files.append(
                BlobFile(
                    f"{folder}part-{number:05d}-{guid}.c000.json.gz",
                    min(size, count - start),
                    partial(self._content, key, period, changes, behaviour, number),
                )
            )
        return tuple(files)

    def _content(
        self, key: ExportKey, period: Period, changes: Changes, behaviour: Behaviour, number: int
    ) -> bytes:
        start = number * self._partner.rows_per_blob
        lines = self._lines(key.family, period, changes)[
            start : start + self._partner.rows_per_blob
        ]
        if not lines and behaviour.empty_export == "no_bytes":
            return b""
        observed = key.dataset == "unbilled_usage" and behaviour.unbilled_fields == "observed"
        names = attribute_names(key.family, key.attribute_set, as_observed=observed)
        texts = [json_line(_row(line, self._partner, period), names, behaviour) for line in lines]
        return file_of_lines(texts, behaviour, number=number)


def _row(line: UsageLine | ReconciliationLine, partner: Partner, period: Period) -> dict[str, Any]:
    return (
        usage_row(line, partner, period)
        if isinstance(line, UsageLine)
        else reconciliation_row(line, partner, period)
    )


def _later(created: datetime, subject: _Subject) -> datetime:
    """Return the time of the data, which a restatement changes.

    Every revision adds at least one minute to `created`, because root directories contain the time
    with a precision of one minute.
    """
    if subject.restated is None:
        return created
    return max(subject.restated, created + timedelta(minutes=subject.revision))
