"""Parsers for responses of Partner Center, without I/O.

    parse_invoice_page    one page of the invoice list
    InvoicePages          the order in which pages are read, and whether the list is complete
    parse_access_token    the token of a token exchange
    merge_pages           the whole list: each invoice once, amendments as separate invoices

The documentation of the API spells members inconsistently, so every member except the ID can be
missing or have another form. An invoice that cannot be parsed is reported and skipped.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from shared.clock import parse_iso
from shared.errors import (
    BillingExportError,
    RequestRefusedError,
    ThrottledError,
    TransientError,
    UnavailableError,
)
from shared.exports import InvalidValueError, parse_currency, parse_invoice_id
from shared.http.response import TRANSIENT_STATUSES, HttpResponse
from shared.invoices import Invoice, InvoiceList, LeftOut
from shared.money import parse_amount

MAX_AMOUNT = Decimal("1e15")
MAX_LINK_CHARACTERS = 2_048
MAX_AMENDMENT_DEPTH = 5  # amendments of amendments
WAIT_IN_MESSAGE = re.compile(r"\bin (\d{1,6}) seconds?\b")
OFFSET = re.compile(r"[?&]offset=(\d{1,9})(?:&|$)")
ACCESS_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{1,16384}")
CODES_BY_STATUS = {401: "partner_center_unauthorized", 403: "partner_center_forbidden"}


@dataclass(frozen=True)
class InvoicePage:
    """One page.

    `entries` identifies each entry of the page, also unreadable ones, but not the amendments that
    an entry contains. `total` is `totalCount` of the list. `next_offset` is from `links.next`,
    and None if the link does not contain a valid offset.
    """

    invoices: tuple[Invoice, ...]
    left_out: tuple[LeftOut, ...]
    entries: tuple[str, ...]
    total: int | None
    has_next: bool
    next_offset: int | None


@dataclass
class InvoicePages:
    """The pages of one reading of the list, in order.

    `has_changed` is whether the pages belong to different states of the list, and `is_complete`
    whether they contain all entries that the service states.
    """

    pages: list[InvoicePage] = field(default_factory=list)
    has_changed: bool = False
    is_complete: bool = False
    _seen: set[str] = field(default_factory=set)
    _count: int = 0
    _total: int | None = None

    def append(self, offset: int, page: InvoicePage) -> int | None:
        """Add the page at `offset`, and return the offset of the next one, or None at the end."""
        new = [entry for entry in page.entries if entry not in self._seen]
        if self.pages and (len(new) < len(page.entries) or page.total != self.pages[0].total):
            self.has_changed = True
        self.pages.append(page)
        self._seen.update(new)
        self._count += len(new)
        self._total = max(self._total or 0, page.total) if page.total is not None else self._total
        has_all = not page.has_next if self._total is None else self._count >= self._total
        self.is_complete = has_all
        if page.entries and not new:  # the links form a loop, or the service ignores the offset
            return None
        if page.next_offset is not None and page.next_offset > offset:
            return page.next_offset
        return offset + len(page.entries) if page.entries and not has_all else None


def parse_invoice_page(response: HttpResponse) -> InvoicePage:
    """Return the invoices of one page.

    Raises ThrottledError, UnavailableError or RequestRefusedError.
    """
    error = parse_error(response)
    if error is not None:
        raise error
    document = _parse_json(response.body)
    members = document if isinstance(document, dict) else {}
    items, total = members.get("items"), members.get("totalCount")
    if type(total) is not int:
        total = None
    if items is None and total == 0:  # only the total proves that there are no invoices
        items = []
    if not isinstance(items, list):
        raise UnavailableError(
            "partner_center_malformed", http_status=response.status, request_id=response.request_id
        )
    invoices, left_out = list[Invoice](), list[LeftOut]()
    for item in items:
        parsed = list(_parse_invoices(item, MAX_AMENDMENT_DEPTH))
        invoices += parsed
        if not parsed:
            issued = _parse_time(item.get("invoiceDate")) if isinstance(item, dict) else None
            left_out.append(LeftOut("invoice_unreadable", _get_raw_id(item), issued))
    link = _get_next_link(members.get("links"))
    return InvoicePage(
        tuple(invoices),
        tuple(left_out),
        tuple(map(_identify, items)),
        total,
        link is not None,
        _get_offset(link) if link is not None else None,
    )


def merge_pages(pages: Iterable[InvoicePage], *, is_complete: bool = True) -> InvoiceList:
    """Return the invoices of all pages as one list.

    `is_complete` is that of `InvoicePages`.

    Of several entries of an invoice, the one with the most values is used, and the others add the
    values that it lacks. Entries that contradict each other are reported.
    """
    entries_by_id, left_out = dict[str, list[Invoice]](), list[LeftOut]()
    for page in pages:
        left_out += page.left_out
        for invoice in page.invoices:
            entries_by_id.setdefault(invoice.invoice_id, []).append(invoice)
    invoices_by_id = dict[str, Invoice]()
    for invoice_id, entries in entries_by_id.items():
        merged = invoices_by_id[invoice_id] = _merge_entries(entries)
        if any(_contradicts(merged, entry) for entry in entries):
            left_out.append(LeftOut(code="invoice_duplicate", invoice_id=invoice_id))
    amendments = {
        invoice.amends: invoice.invoice_id for invoice in invoices_by_id.values() if invoice.amends
    }
    invoices = tuple(
        replace(
            invoice,
            amended_by=invoice.amended_by or amendments.get(invoice.invoice_id, ""),
        )
        for invoice in invoices_by_id.values()
    )
    if not is_complete:
        left_out.append(LeftOut(code="invoice_list_incomplete"))
    if not invoices and not left_out:
        left_out.append(LeftOut(code="invoice_list_empty"))
    return InvoiceList(invoices, tuple(dict.fromkeys(left_out)), complete=is_complete)


def parse_access_token(response: HttpResponse) -> str | None:
    """Return the token of a token exchange, or None if Partner Center did not exchange the token.

    Raises ThrottledError or UnavailableError.
    """
    error = parse_error(response)
    if isinstance(error, TransientError):
        raise error
    document = _parse_json(response.body) if error is None else None
    token = document.get("access_token") if isinstance(document, dict) else None
    return token if isinstance(token, str) and ACCESS_TOKEN.fullmatch(token) else None


def parse_error(response: HttpResponse) -> BillingExportError | None:
    """Return the error for the status of `response`, or None for success.

    A 429 response states the wait in the Retry-After header or in the message of its body.
    """
    status, request_id = response.status, response.request_id
    if 200 <= status < 300:
        return None
    if status == 429:
        seconds = response.retry_after_seconds
        if seconds is None:
            seconds = _get_wait_in_message(response.body)
        return ThrottledError(
            "partner_center_throttled",
            retry_after_seconds=seconds,
            http_status=status,
            request_id=request_id,
        )
    if status >= 500 or status in TRANSIENT_STATUSES:
        return UnavailableError(
            "partner_center_unavailable",
            retry_after_seconds=response.retry_after_seconds,
            http_status=status,
            request_id=request_id,
        )
    if status < 400:  # the client does not follow redirects
        return UnavailableError(
            "partner_center_malformed", http_status=status, request_id=request_id
        )
    return RequestRefusedError(
        CODES_BY_STATUS.get(status, "partner_center_refused"),
        http_status=status,
        request_id=request_id,
    )


def _parse_invoices(item: Any, depth: int) -> Iterator[Invoice]:
    """Yield the invoice and its amendments; nothing if `item` is not a valid invoice."""
    if not isinstance(item, dict) or not isinstance(item.get("id"), str):
        return
    try:
        invoice_id = parse_invoice_id(item["id"])
        currency = _parse_currency(item.get("currencyCode"))
    except InvalidValueError:
        return
    items = item.get("amendments")
    amendments = [
        invoice
        for amendment in (items if isinstance(items, list) and depth else ())
        for invoice in _parse_invoices(amendment, depth - 1)
    ]
    yield Invoice(
        invoice_id,
        issued=_parse_time(item.get("invoiceDate")),
        currency=currency,
        total=_parse_amount(item.get("totalCharges")),
        document_type=_to_snake_case(item.get("documentType")),
        invoice_type=_to_snake_case(item.get("invoiceType")),
        amends=_parse_id(item.get("amendsOf")),
        amended_by=amendments[0].invoice_id if amendments else "",
        period_start=_parse_time(item.get("billingPeriodStartDate")),
    )
    for amendment in amendments:
        if amendment.invoice_id == invoice_id:
            yield amendment
        else:
            yield replace(amendment, amends=amendment.amends or invoice_id)


def _merge_entries(entries: Sequence[Invoice]) -> Invoice:
    """Return one invoice: the first of the entries with the most values, completed by the others.

    A voided invoice can contain its amendment in a short form without date, total or currency.
    """
    known = [_get_known_values(entry) for entry in entries]
    values: dict[str, Any] = {}
    for more in sorted(known, key=len, reverse=True):  # the order of equal lengths is kept
        values = more | values
    return Invoice(**values)


def _get_known_values(invoice: Invoice) -> dict[str, Any]:
    values = {each.name: getattr(invoice, each.name) for each in fields(invoice)}
    return {name: value for name, value in values.items() if value is not None and value != ""}


def _contradicts(first: Invoice, second: Invoice) -> bool:
    """Return whether two entries of an invoice have different values for a member.

    Members that only one of them contains, and the links between invoices, are not compared.
    """
    one, other = _get_known_values(first), _get_known_values(second)
    names = {"currency", "total", "document_type", "issued"} & one.keys() & other.keys()
    return any(one[name] != other[name] for name in names)


def _identify(item: Any) -> str:
    """Return the ID of an entry, or its whole content if it has none."""
    invoice_id = item.get("id") if isinstance(item, dict) else None
    if isinstance(invoice_id, str) and invoice_id:
        return invoice_id
    return json.dumps(item, sort_keys=True, default=str)


def _get_next_link(links: Any) -> str | None:
    """Return `links.next`, or None if the page has none. The URL itself is never requested."""
    link = links.get("next") if isinstance(links, dict) else None
    uri = link.get("uri") if isinstance(link, dict) else None
    return uri if isinstance(uri, str) and uri else None


def _get_offset(link: str) -> int | None:
    match = OFFSET.search(link) if len(link) <= MAX_LINK_CHARACTERS else None
    return int(match[1]) if match else None


def _to_snake_case(value: Any) -> str:
    """Return a word of the API in snake case, or "" if it has an unexpected form.

    >>> [_to_snake_case(text) for text in ("Void Note", "void_note", "OneTime", "one_time")]
    ['void_note', 'void_note', 'one_time', 'one_time']
    """
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z][A-Za-z _-]{0,39}", value):
        return ""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[ _-]+", "_", value).lower()


def _parse_id(value: Any) -> str:
    try:
        return parse_invoice_id(value) if isinstance(value, str) else ""
    except InvalidValueError:
        return ""


def _parse_currency(value: Any) -> str:
    """Return the currency, or "" if there is none. Raises InvalidValueError if it is invalid."""
    if value is None or value == "":
        return ""
    return parse_currency(value if isinstance(value, str) else "?")


def _parse_amount(value: Any) -> Decimal | None:
    is_number = isinstance(value, Decimal | str) or type(value) is int
    amount = parse_amount(str(value)) if is_number else None
    return amount if amount is not None and abs(amount) < MAX_AMOUNT else None


def _parse_time(value: Any) -> datetime | None:
    """Return the time, which is UTC without an offset; None for a missing or invalid date.

    The API writes year 1, the minimum of .NET, for a missing date.
    """
    if not isinstance(value, str):
        return None
    try:
        time = parse_iso(re.sub(r"(\.\d{6})\d+", r"\1", value))
    except (ValueError, OverflowError):
        return None
    return time if 2000 <= time.year < 2100 else None


def _get_raw_id(item: Any) -> str:
    """Return what is probably the ID of an invalid invoice, or ""."""
    value = item.get("id") if isinstance(item, dict) else None
    return value if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9-]{1,40}", value) else ""


def _get_wait_in_message(body: bytes) -> int | None:
    document = _parse_json(body)
    message = document.get("message") if isinstance(document, dict) else None
    match = WAIT_IN_MESSAGE.search(message) if isinstance(message, str) else None
    return int(match[1]) if match else None


def _parse_json(body: bytes) -> Any:
    """Return the JSON value, or None if it is invalid. Fractions are Decimal, never float."""
    try:
        return json.loads(body, parse_float=Decimal)
    except (ValueError, RecursionError, InvalidOperation):
        return None
