"""Validates export requests and determines their result: data, a later failure, or an error."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from local.simulator.behaviour import Behaviour
from local.simulator.data_versions import DataVersion, ExportKey, Exports
from local.simulator.invoices import Invoice, InvoiceBook
from local.simulator.operations import NO_DATA, OTHER_FAILURE
from local.simulator.partner import Partner


class RequestRefusedError(Exception):
    """The request is invalid; the response has a 4xx status."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass(frozen=True)
class Accepted:
    """An accepted request. `ready_at` is the earliest time at which the operation completes."""

    key: ExportKey | None
    version: DataVersion | None
    failure: tuple[str, str] | None = None
    ready_at: datetime | None = None


@dataclass(frozen=True)
class ExportRequestHandler:
    """Handles export requests, independently of HTTP."""

    exports: Exports
    book: InvoiceBook
    partner: Partner

    def accept(self, dataset: str, body: Any, behaviour: Behaviour, now: datetime) -> Accepted:
        """Accept a request, or raise RequestRefusedError."""
        billed = dataset.startswith("billed")
        required = {"invoiceId"} if billed else {"billingPeriod", "currencyCode"}
        fields = _validate(body, required)
        if billed:
            return self._billed(dataset, fields, behaviour, now)
        month = self.exports.current_month()
        if fields["billingPeriod"] == "last":
            month = month.plus(-1)
        key = ExportKey(
            dataset, fields["attributeSet"], month=month, currency=fields["currencyCode"]
        )
        if (
            fields["currencyCode"] not in self.partner.currencies
            and behaviour.unknown_currency == "bad_request"
        ):
            raise RequestRefusedError(
                400, "BadRequest", "The currency is not a billing currency of the partner."
            )
        if (
            fields["currencyCode"] not in self.partner.currencies
            and behaviour.unknown_currency == "failed_5000"
        ):
            return Accepted(None, None, NO_DATA)
        return self._with_data(
            key, behaviour, has_no_blobs=fields["currencyCode"] not in self.partner.currencies
        )

    def _billed(
        self, dataset: str, fields: dict[str, str], behaviour: Behaviour, now: datetime
    ) -> Accepted:
        key = ExportKey(dataset, fields["attributeSet"], invoice_id=fields["invoiceId"])
        try:
            invoice = self.book.invoice(fields["invoiceId"])
        except KeyError:
            return self._unknown_invoice(key, behaviour)
        if invoice.legacy:
            if behaviour.legacy_invoice == "bad_request":
                raise RequestRefusedError(
                    400, "BadRequest", "The invoice is not a new commerce invoice."
                )
            if behaviour.legacy_invoice == "failed_5000":
                return Accepted(None, None, NO_DATA)
            return self._with_data(key, behaviour, has_no_blobs=True)
        exportable_at = self._exportable_at(invoice, behaviour)
        if now < exportable_at and behaviour.invoice_exportable == "failed_5000_at_first":
            return Accepted(None, None, NO_DATA)
        return replace(self._with_data(key, behaviour), ready_at=exportable_at)

    def _exportable_at(self, invoice: Invoice, behaviour: Behaviour) -> datetime:
        is_immediate = behaviour.invoice_exportable == "at_once"
        return invoice.issued + timedelta(hours=0 if is_immediate else behaviour.first_hours)

    def _unknown_invoice(self, key: ExportKey, behaviour: Behaviour) -> Accepted:
        match behaviour.unknown_invoice:
            case "bad_request":
                raise RequestRefusedError(400, "BadRequest", "The invoice id is not valid.")
            case "not_found":
                raise RequestRefusedError(404, "NotFound", "The invoice was not found.")
            case "failed_other":
                return Accepted(None, None, OTHER_FAILURE)
            case "zero_blobs":
                empty = self.exports.version(replace(key, invoice_id=self._legacy_id()))
                return Accepted(key, replace(empty, key=key, blobs=()))
        return Accepted(None, None, NO_DATA)

    def _legacy_id(self) -> str:
        """Return the ID of an invoice without lines."""
        return next(invoice.invoice_id for invoice in self.book.invoices() if invoice.legacy)

    def _with_data(
        self, key: ExportKey, behaviour: Behaviour, has_no_blobs: bool = False
    ) -> Accepted:
        version = self.exports.version(key)
        if has_no_blobs:
            return Accepted(key, replace(version, blobs=()))
        return Accepted(
            key,
            version,
            NO_DATA if version.empty and behaviour.empty_export == "failed_5000" else None,
        )


def _validate(body: Any, required: set[str]) -> dict[str, str]:
    """Return the members of the body. The default of `attributeSet` is full."""
    if not isinstance(body, dict):
        raise RequestRefusedError(400, "BadRequest", "The body is not a JSON object.")
    if unknown := set(body) - required - {"attributeSet"}:
        raise RequestRefusedError(
            400, "BadRequest", f"The parameter '{min(unknown)}' does not exist."
        )
    if missing := required - set(body):
        raise RequestRefusedError(400, "BadRequest", f"The parameter '{min(missing)}' is required.")
    for name, value in body.items():
        if not isinstance(value, str) or not value:
            raise RequestRefusedError(
                400, "BadRequest", f"The parameter '{name}' must be a non-empty string."
            )
    if body.get("attributeSet", "full") not in ("full", "basic"):
        raise RequestRefusedError(
            400, "BadRequest", "The parameter 'attributeSet' must be full or basic."
        )
    if body.get("billingPeriod", "current") not in ("current", "last"):
        raise RequestRefusedError(
            400, "BadRequest", "The parameter 'billingPeriod' must be current or last."
        )
    return {"attributeSet": "full", **body}
