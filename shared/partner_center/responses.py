"""What an answer of Partner Center says: invoices, as they are listed. Pure: knows of no library and no clock.

    page_of          Page            one page of the list, its invoices read one by one
    together         InvoiceList     all pages as one list, each invoice once, amendments by themselves

The documents are of 2021 and contradict themselves in spelling (graph-partner-billing, 10), so every member but the id
may be absent or written otherwise. An invoice that cannot be read is named and left out; the others are not held up.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from shared.clock import parse_iso
from shared.errors import BillingExportError, RequestRefusedError, ThrottledError, UnavailableError
from shared.exports import InvalidValueError, parse_currency, parse_invoice_id
from shared.invoices import Invoice, InvoiceList, LeftOut

LARGEST_MONEY = Decimal("1e15")
MOST_DIGITS = 40  # rows keep amounts as texts, and a text that is cut is no amount
SECONDS_IN_WORDS = re.compile(r"\bin (\d{1,6}) seconds?\b")
OFFSET = re.compile(r"[?&]offset=(\d{1,9})(?:&|$)")
REFUSALS = {401: "partner_center_unauthorized", 403: "partner_center_forbidden"}
PASSING = (408, 425)
DEEPEST = 5  # amendments of amendments


@dataclass(frozen=True)
class PartnerCenterResponse:
    """One HTTP answer, its body bounded. `retry_after_seconds` None: no wait was named in a header."""

    status: int
    media_type: str
    retry_after_seconds: int | None
    request_id: str | None
    body: bytes = field(repr=False)


@dataclass(frozen=True)
class InvoicePage:
    """`total` is the list's totalCount; `next_offset` where `links.next` says that there is more."""

    invoices: tuple[Invoice, ...]
    left_out: tuple[LeftOut, ...]
    total: int | None
    next_offset: int | None


def parse_invoice_page(answer: PartnerCenterResponse) -> InvoicePage:
    """Raises Throttled, Unavailable, Refused."""
    error = parse_error(answer)
    if error is not None:
        raise error
    document = _json(answer.body)
    items = document.get("items") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(items, list):
        raise UnavailableError(
            "partner_center_malformed", http_status=answer.status, request_id=answer.request_id
        )
    invoices, left_out = list[Invoice](), list[LeftOut]()
    for item in items:
        read = list(_invoices(item, DEEPEST))
        invoices += read
        if not read:
            left_out.append(LeftOut(code="invoice_unreadable", invoice_id=_named(item)))
    total = document.get("totalCount")
    return InvoicePage(
        tuple(invoices),
        tuple(left_out),
        total if isinstance(total, int) and not isinstance(total, bool) else None,
        _next_offset(document.get("links")),
    )


def merge_pages(pages: Iterable[InvoicePage]) -> InvoiceList:
    """One list of all pages. Of an invoice that is listed more than once the first is taken, and it is named if they differ."""
    known, left_out = dict[str, Invoice](), list[LeftOut]()
    for page in pages:
        left_out += page.left_out
        for invoice in page.invoices:
            first = known.setdefault(invoice.invoice_id, invoice)
            if _differs(first, invoice):
                left_out.append(LeftOut(code="invoice_duplicate", invoice_id=invoice.invoice_id))
    replaced = {invoice.amends: invoice.invoice_id for invoice in known.values() if invoice.amends}
    invoices = tuple(
        replace(invoice, amended_by=invoice.amended_by or replaced.get(invoice.invoice_id, ""))
        for invoice in known.values()
    )
    if not invoices and not left_out:
        left_out.append(LeftOut(code="invoice_list_empty"))
    return InvoiceList(invoices, tuple(dict.fromkeys(left_out)))


def parse_error(answer: PartnerCenterResponse) -> BillingExportError | None:
    """By status. The wait of a 429 is in the header, and in words in the body (graph-partner-billing, 10)."""
    status, request_id = answer.status, answer.request_id
    if 200 <= status < 300:
        return None
    if status == 429:
        seconds = (
            answer.retry_after_seconds
            if answer.retry_after_seconds is not None
            else _seconds_in_words(answer.body)
        )
        return ThrottledError(
            "partner_center_throttled",
            retry_after_seconds=seconds,
            http_status=status,
            request_id=request_id,
        )
    if status >= 500 or status in PASSING:
        return UnavailableError(
            "partner_center_unavailable",
            retry_after_seconds=answer.retry_after_seconds,
            http_status=status,
            request_id=request_id,
        )
    if status < 400:  # a redirect is not followed, nor understood
        return UnavailableError(
            "partner_center_malformed", http_status=status, request_id=request_id
        )
    return RequestRefusedError(
        REFUSALS.get(status, "partner_center_refused"), http_status=status, request_id=request_id
    )


def _invoices(item: Any, depth: int) -> Iterator[Invoice]:
    """The invoice and its amendments, which are invoices of their own; nothing where the item is none."""
    if not isinstance(item, dict) or not isinstance(item.get("id"), str):
        return
    try:
        invoice_id, currency = parse_invoice_id(item["id"]), _currency(item.get("currencyCode"))
    except InvalidValueError:
        return
    amendments = [
        inner
        for amendment in (
            item.get("amendments") or () if isinstance(item.get("amendments"), list) else ()
        )
        for inner in (_invoices(amendment, depth - 1) if depth else ())
    ]
    yield Invoice(
        invoice_id,
        issued=_moment(item.get("invoiceDate")),
        currency=currency,
        total=_money(item.get("totalCharges")),
        document_type=_word(item.get("documentType")) or "invoice",
        invoice_type=_word(item.get("invoiceType")),
        amends=_id(item.get("amendsOf")),
        amended_by=amendments[0].invoice_id if amendments else "",
        period_start=_moment(item.get("billingPeriodStartDate")),
    )
    for amendment in amendments:
        yield (
            replace(amendment, amends=amendment.amends or invoice_id)
            if amendment.invoice_id != invoice_id
            else amendment
        )


def _differs(first: Invoice, again: Invoice) -> bool:
    """Whether two entries contradict each other; an amendment is listed with fewer members inside the one it amends."""
    return (first.currency, first.total, first.document_type, first.issued) != (
        again.currency,
        again.total,
        again.document_type,
        again.issued,
    )


def _next_offset(links: Any) -> int | None:
    """Only the number in `next` is used: the address that it stands in is never followed."""
    following = links.get("next") if isinstance(links, dict) else None
    uri = following.get("uri") if isinstance(following, dict) else None
    found = OFFSET.search(uri) if isinstance(uri, str) and len(uri) <= 2_048 else None
    return int(found[1]) if found else None


def _word(value: Any) -> str:
    """>>> [_word(text) for text in ("Void Note", "void_note", "OneTime", "one_time", "Credit Note")]
    ['void_note', 'void_note', 'one_time', 'one_time', 'credit_note']
    """
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z][A-Za-z _-]{0,39}", value):
        return ""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[ _-]+", "_", value).lower()


def _id(value: Any) -> str:
    try:
        return parse_invoice_id(value) if isinstance(value, str) else ""
    except InvalidValueError:
        return ""


def _currency(value: Any) -> str:
    """ "" where none is given; Malformed where it is no currency."""
    if value is None or value == "":
        return ""
    return parse_currency(value if isinstance(value, str) else "?")


def _money(value: Any) -> Decimal | None:
    try:
        money = Decimal(value) if isinstance(value, Decimal | str) or type(value) is int else None
    except InvalidOperation:
        return None
    if money is None or not money.is_finite() or len(money.as_tuple().digits) > MOST_DIGITS:
        return None
    return money if abs(money) < LARGEST_MONEY else None


def _moment(value: Any) -> datetime | None:
    """Also without a zone, then UTC; .NET's year 1 stands for a date that is missing."""
    try:
        moment = (
            parse_iso(re.sub(r"(\.\d{6})\d+", r"\1", value)) if isinstance(value, str) else None
        )
    except (ValueError, OverflowError):
        return None
    return moment if moment is not None and 2000 <= moment.year < 2100 else None


def _named(item: Any) -> str:
    """Of an item that cannot be read, what may be its id."""
    said = item.get("id") if isinstance(item, dict) else None
    return said if isinstance(said, str) and re.fullmatch(r"[A-Za-z0-9-]{1,40}", said) else ""


def _seconds_in_words(body: bytes) -> int | None:
    document = _json(body)
    message = document.get("message") if isinstance(document, dict) else None
    found = SECONDS_IN_WORDS.search(message) if isinstance(message, str) else None
    return int(found[1]) if found else None


def _json(body: bytes) -> Any:
    """Numbers with a fraction as Decimal: money never passes through a float."""
    try:
        return json.loads(body, parse_float=Decimal)
    except (ValueError, RecursionError):
        return None
