"""What an export request says, and what becomes of it: a key with data, a failure to come, or a refusal. No HTTP."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from local.simulator.behaviour import Behaviour
from local.simulator.data_versions import DataVersion, ExportKey, Exports
from local.simulator.invoices import Invoice, InvoiceBook
from local.simulator.operations import NO_DATA, OTHER_FAILURE
from local.simulator.partner import Partner


class Refused(Exception):
    """Answered with a 4xx at once."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass(frozen=True)
class Accepted:
    """`ready_at` is set where the data is not there before."""

    key: ExportKey | None
    version: DataVersion | None
    failure: tuple[str, str] | None = None
    ready_at: datetime | None = None


@dataclass(frozen=True)
class Desk:
    """Takes export requests."""

    exports: Exports
    book: InvoiceBook
    partner: Partner

    def accept(self, dataset: str, body: Any, behaviour: Behaviour, now: datetime) -> Accepted:
        """Raises Refused."""
        billed = dataset.startswith("billed")
        required = {"invoiceId"} if billed else {"billingPeriod", "currencyCode"}
        fields = _checked(body, required)
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
            raise Refused(400, "BadRequest", "The currency is not one of the partner's.")
        if (
            fields["currencyCode"] not in self.partner.currencies
            and behaviour.unknown_currency == "failed_5000"
        ):
            return Accepted(None, None, NO_DATA)
        return self._with_data(
            key, behaviour, unknown=fields["currencyCode"] not in self.partner.currencies
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
                raise Refused(400, "BadRequest", "The invoice is not of new commerce.")
            if behaviour.legacy_invoice == "failed_5000":
                return Accepted(None, None, NO_DATA)
            return self._with_data(key, behaviour, unknown=True)
        exportable_at = self._exportable_at(invoice, behaviour)
        if now < exportable_at and behaviour.invoice_exportable == "failed_5000_at_first":
            return Accepted(None, None, NO_DATA)
        return replace(self._with_data(key, behaviour), ready_at=exportable_at)

    def _exportable_at(self, invoice: Invoice, behaviour: Behaviour) -> datetime:
        at_once = behaviour.invoice_exportable == "at_once"
        return invoice.issued + timedelta(hours=0 if at_once else behaviour.first_hours)

    def _unknown_invoice(self, key: ExportKey, behaviour: Behaviour) -> Accepted:
        match behaviour.unknown_invoice:
            case "bad_request":
                raise Refused(400, "BadRequest", "The invoice id is not valid.")
            case "not_found":
                raise Refused(404, "NotFound", "The invoice was not found.")
            case "failed_other":
                return Accepted(None, None, OTHER_FAILURE)
            case "zero_blobs":
                nothing = self.exports.version(replace(key, invoice_id=self._legacy_id()))
                return Accepted(key, replace(nothing, key=key, blobs=()))
        return Accepted(None, None, NO_DATA)

    def _legacy_id(self) -> str:
        """An invoice that surely has no line."""
        return next(invoice.invoice_id for invoice in self.book.invoices() if invoice.legacy)

    def _with_data(self, key: ExportKey, behaviour: Behaviour, unknown: bool = False) -> Accepted:
        version = self.exports.version(key)
        if unknown:
            return Accepted(key, replace(version, blobs=()))
        return Accepted(
            key,
            version,
            NO_DATA if version.empty and behaviour.empty_export == "failed_5000" else None,
        )


def _checked(body: Any, required: set[str]) -> dict[str, str]:
    """The body's members, all of them strings; `attributeSet` absent means full."""
    if not isinstance(body, dict):
        raise Refused(400, "BadRequest", "The body is not a JSON object.")
    if unknown := set(body) - required - {"attributeSet"}:
        raise Refused(400, "BadRequest", f"The parameter '{min(unknown)}' does not exist.")
    if missing := required - set(body):
        raise Refused(400, "BadRequest", f"The parameter '{min(missing)}' is required.")
    for name, value in body.items():
        if not isinstance(value, str) or not value:
            raise Refused(400, "BadRequest", f"The parameter '{name}' is not a string.")
    if body.get("attributeSet", "full") not in ("full", "basic"):
        raise Refused(400, "BadRequest", "The parameter 'attributeSet' is full or basic.")
    if body.get("billingPeriod", "current") not in ("current", "last"):
        raise Refused(400, "BadRequest", "The parameter 'billingPeriod' is current or last.")
    return {"attributeSet": "full", **body}
