"""The invoice API of Partner Center over HTTP: `/v1/invoices` and `/v1/invoices/{id}`."""

from collections.abc import Callable
from datetime import UTC, date, datetime, time
from typing import Any

from aiohttp import web

from local.simulator.behaviour import Behaviour
from local.simulator.invoices import Invoice, InvoiceBook
from local.simulator.responses import partner_center_error

SYMBOLS = {"USD": "$", "EUR": "€", "GBP": "£", "CHF": "CHF"}
SPELLINGS = {  # as in the examples and in the property table
    "invoice": ("invoice", "Invoice"),
    "void_note": ("void_note", "Void Note"),
    "Recurring": ("Recurring", "recurring"),
}


class PartnerCenter:
    """The handlers for the Partner Center routes."""

    def __init__(self, book: InvoiceBook, behaviour: Callable[[], Behaviour]) -> None:
        self._book, self._behaviour = book, behaviour

    def add_routes(self, app: web.Application) -> None:
        """Register the handlers."""
        app.router.add_get("/v1/invoices", self.get_all)
        app.router.add_get("/v1/invoices/{id}", self.get)

    def check_access(self, request: web.Request) -> web.Response | None:
        """Return an error for a missing token or permission."""
        behaviour = self._behaviour()
        if behaviour.authorization != "ignored" and not request.headers.get(
            "Authorization", ""
        ).startswith("Bearer "):
            return partner_center_error(
                401, "Access denied. You do not have permission to call this method."
            )
        if behaviour.partner_center_permission == "denied":
            return partner_center_error(
                403, "Access denied. You do not have permission to call this method."
            )
        return None

    async def get_all(self, request: web.Request) -> web.Response:
        """Handle GET /v1/invoices: return the invoices, newest first.

        Microsoft ignores `size` and `offset` for new commerce invoices. The `invoice_paging` switch
        specifies whether the simulator applies them.
        """
        paging = self._behaviour().invoice_paging
        invoices, links = list(reversed(self._book.invoices())), {"self": _link("/invoices")}
        total = len(invoices)
        if paging in ("paged", "paged_without_offset"):
            try:
                size, offset = (
                    int(request.query.get("size", "2")),
                    int(request.query.get("offset", "0")),
                )
            except ValueError:
                return partner_center_error(400, "size and offset must be numbers.")
            if paging == "paged_without_offset":  # a service can limit the size of its pages
                size = min(size, 2)
            links["self"] = _link(f"/invoices?size={size}&offset={offset}")
            if offset + size < total:
                position = f"&offset={offset + size}" if paging == "paged" else ""
                links["next"] = _link(f"/invoices?size={size}{position}")
            invoices = invoices[offset : offset + size]
        elif paging == "truncated":
            invoices = invoices[:2]
        periods = self._behaviour().invoice_periods == "present"
        return web.json_response(
            {
                "totalCount": total,
                "items": [self._document(invoice, periods=periods) for invoice in invoices],
                "links": links,
                "attributes": {"objectType": "Collection"},
            }
        )

    async def get(self, request: web.Request) -> web.Response:
        """Handle GET /v1/invoices/{id}."""
        try:
            invoice = self._book.invoice(request.match_info["id"])
        except KeyError:
            return partner_center_error(404, "The invoice was not found.")
        return web.json_response(self._document(invoice, periods=True))

    def _document(self, invoice: Invoice, *, periods: bool) -> dict[str, Any]:
        column = 0 if self._behaviour().invoice_spelling == "examples" else 1
        total = self._book.listed_totals.get(invoice.invoice_id, invoice.total)
        document: dict[str, Any] = {
            "id": invoice.invoice_id,
            "invoiceDate": _time(invoice.issued),
            **({} if total is None else {"totalCharges": float(total)}),
            "paidAmount": 0.0,
            "currencyCode": invoice.currency,
            "currencySymbol": SYMBOLS[invoice.currency],
            "invoiceDetails": self._details(invoice),
            "documentType": SPELLINGS[invoice.document_type][column],
            "invoiceType": SPELLINGS["Recurring"][column],
            "links": {"self": _link(f"/invoices/{invoice.invoice_id}")},
            "attributes": {"objectType": "Invoice"},
        }
        if periods:
            document["billingPeriodStartDate"] = _time(invoice.month.first)
            document["billingPeriodEndDate"] = _time(invoice.month.last)
        if invoice.amends:
            document["amendsOf"] = invoice.amends
        if invoice.amended_by:
            amendment = self._document(self._book.invoice(invoice.amended_by), periods=False)
            if self._behaviour().invoice_amendments == "short":
                amendment = {name: amendment[name] for name in ("id", "links", "attributes")}
            document["amendments"] = [amendment]
        return document

    def _details(self, invoice: Invoice) -> list[dict[str, Any]]:
        if invoice.legacy:
            return [
                _detail("billing_line_items", "office", invoice),
                _detail("usage_line_items", "azure", invoice),
            ]
        return [_detail("billing_line_items", "one_time", invoice)]


def _detail(kind: str, provider: str, invoice: Invoice) -> dict[str, Any]:
    return {
        "invoiceLineItemType": kind,
        "billingProvider": provider,
        "links": {"self": _link(f"/invoices/{invoice.invoice_id}/lineitems/{provider}/{kind}")},
        "attributes": {"objectType": "InvoiceDetail"},
    }


def _link(uri: str) -> dict[str, Any]:
    return {"uri": uri, "method": "GET", "headers": []}


def _time(moment: datetime | date) -> str:
    if not isinstance(moment, datetime):
        moment = datetime.combine(moment, time(), UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
