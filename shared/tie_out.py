"""The one number: the sum over an invoice's landed lines against the total that its invoice lists. Pure; bounded memory.

    tied_out   the sum is the listed total, to the cent
    off_by     it is not; `difference` is sum less total
    no_total   there is nothing to compare: no total is known, or not every line says what it adds

Only `Total` and `Currency` of a line are decoded. Names are compared without case, numbers come as numbers or as texts
(graph-partner-billing, 8.3), and money is Decimal from the first byte to the last.
"""

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Context, Decimal, InvalidOperation
from typing import Any, Literal

Status = Literal["tied_out", "off_by", "no_total"]

# In an object without another one inside, a quote that no backslash precedes and that a letter follows begins a name or a text;
# a colon behind tells the name. So this finds the two members exactly, and all other lines go the long way.
MEMBER = re.compile(
    rb'(?<!\\)"(total|currency)"\s*:\s*("(?:[^"\\]|\\.)*"|[^\s,}\]"]+)', re.IGNORECASE
)
CURRENCY = re.compile(r"[A-Z]{3}")
EXACT = Context(prec=60)  # a billion lines of fifteen digits sum up without rounding
CENT = Decimal("0.005")  # less than half a cent is how a sum was written, not money
LONGEST_LINE = 16 * 1024 * 1024
PIECE = 1024 * 1024  # bytes unpacked at a time


@dataclass
class LineTotals:
    """`unread` lines hold no total or no currency that can be read."""

    rows: int = 0
    unread: int = 0
    by_currency: dict[str, Decimal] = field(default_factory=dict)

    def add(self, line: bytes) -> None:
        if not line.strip():
            return
        self.rows += 1
        found = parse_amount(line)
        if found is None:
            self.unread += 1
        else:
            currency, total = found
            self.by_currency[currency] = EXACT.add(
                self.by_currency.get(currency, Decimal(0)), total
            )


class BlobTotalReader:
    """Adds one blob to the sums: its stored bytes in pieces of any size, gzip to the end of every member or plain."""

    def __init__(self, sums: LineTotals) -> None:
        self._sums, self._start, self._line = sums, b"", bytearray()
        self._unpack: Any = None
        self._plain = False

    def feed(self, data: bytes) -> None:
        if self._unpack is None and not self._plain:
            self._start += data
            if len(self._start) < 3:
                return
            data, self._start = self._start, b""
            self._begin(data)
        if self._plain:
            self._text(data)
        else:
            self._packed(data)

    def finish(self) -> None:
        if self._start:
            self._text(self._start)
        if self._line:
            self._sums.add(bytes(self._line))

    def _begin(self, data: bytes) -> None:
        self._plain = data[:2] != b"\x1f\x8b"
        if not self._plain:
            self._unpack = zlib.decompressobj(wbits=31)

    def _packed(self, data: bytes) -> None:
        while data:
            self._text(self._unpack.decompress(data, PIECE))
            data = self._unpack.unconsumed_tail
            if self._unpack.eof:
                data = self._unpack.unused_data
                self._unpack = zlib.decompressobj(wbits=31)

    def _text(self, text: bytes) -> None:
        if not self._sums.rows and not self._line:
            text = text.removeprefix(b"\xef\xbb\xbf")
        *lines, rest = text.split(b"\n")
        for line in lines:
            self._sums.add(bytes(self._line) + line if self._line else line)
            self._line.clear()
        self._line += rest
        if len(self._line) > LONGEST_LINE:
            raise ValueError("a line is longer than any billing line")


def parse_amount(line: bytes) -> tuple[str, Decimal] | None:
    """Currency and total of a line; None where it does not say both.

    >>> parse_amount(b'{"Total": 12.30, "Currency": "USD"}'), parse_amount(b'{"TOTAL": "1e2", "currency": "eur"}')
    (('USD', Decimal('12.30')), ('EUR', Decimal('1E+2')))
    """
    members = (
        [(name.lower(), value) for name, value in MEMBER.findall(line)]
        if line.count(b"{") == 1
        else []
    )
    if len(members) == 2 and members[0][0] != members[1][0]:
        values = dict(members)
        return _amount(_value(values[b"total"]), _value(values[b"currency"]))
    try:
        document = json.loads(line, parse_float=Decimal)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    total, currency = (
        [value for key, value in document.items() if key.lower() == name]
        for name in ("total", "currency")
    )
    return _amount(total[0], currency[0]) if len(total) == len(currency) == 1 else None


def _value(text: bytes) -> Any:
    if text[:1] != b'"':
        return text.decode("ascii", "replace")
    try:
        return json.loads(text)
    except ValueError:
        return None


def _amount(total: Any, currency: Any) -> tuple[str, Decimal] | None:
    if (
        isinstance(total, bool)
        or not isinstance(total, str | int | Decimal)
        or not isinstance(currency, str)
    ):
        return None
    try:
        money = Decimal(total.strip() if isinstance(total, str) else total)
    except InvalidOperation:
        return None
    code = currency.strip().upper()
    return (
        (code, money)
        if money.is_finite() and abs(money.adjusted()) < 20 and CURRENCY.fullmatch(code)
        else None
    )


def compare(sums: LineTotals, listed: Decimal | None, currency: str) -> dict[str, Any]:
    """The outcome as it is kept: `status`, both numbers and every currency's sum as texts, `code` where nothing compares."""
    said: dict[str, Any] = {
        "currency": currency or None,
        "listed_total": None if listed is None else str(listed),
        "sums": {code: str(total) for code, total in sorted(sums.by_currency.items())},
        "rows": sums.rows,
        "rows_without_total": sums.unread,
    }
    if listed is None or not currency:
        return {"status": "no_total", "code": "invoice_total_unknown", **said}
    if sums.unread:
        return {"status": "no_total", "code": "rows_without_total", **said}
    foreign = any(total for code, total in sums.by_currency.items() if code != currency)
    difference = EXACT.subtract(sums.by_currency.get(currency, Decimal(0)), listed)
    if abs(difference) < CENT and not foreign:
        return {"status": "tied_out", **said}
    return {"status": "off_by", "difference": str(difference), **said}


def short(said: Mapping[str, Any]) -> str:
    """What a row keeps of it, as JSON: without the sums of other currencies."""
    kept = (
        "status",
        "difference",
        "code",
        "currency",
        "listed_total",
        "rows",
        "rows_without_total",
    )
    return json.dumps(
        {name: said[name] for name in kept if said.get(name) is not None}, separators=(",", ":")
    )
