"""Bodies and ids of HTTP requests as values of the domain: every wrong field at once, none of them quoted at length."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import azure.functions as func

from shared.exports import (
    AttributeSet,
    BillingMonth,
    ExportKey,
    InvalidValueError,
    InvoiceScope,
    MonthScope,
    parse_attribute_set,
    parse_currency,
    parse_dataset,
    parse_invoice_id,
)
from shared.ledger.keys import started_at
from shared.redaction import is_secret_free
from triggers.problem import Problem, invalid, unknown

LARGEST_BODY = 64 * 1024
LONGEST_REASON = 200
RUN_FIELDS = (
    "dataset",
    "invoice_id",
    "billing_month",
    "currency_code",
    "attribute_set",
    "force",
    "reason",
)


@dataclass(frozen=True)
class RunOrder:
    """What POST /api/runs asks for."""

    key: ExportKey
    force: bool
    reason: str


def json_object(request: func.HttpRequest) -> dict[str, Any]:
    """The body as an object; an empty body is an empty object."""
    body = request.get_body() or b""
    if len(body) > LARGEST_BODY:
        raise Problem(
            413,
            "request_too_large",
            "The body is too large.",
            f"Send at most {LARGEST_BODY} bytes.",
        )
    if not body.strip():
        return {}
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise Problem(
            400, "request_invalid", "The body is not JSON.", "Send a JSON object in UTF-8."
        ) from None
    if not isinstance(value, dict):
        raise Problem(
            400, "request_invalid", "The body is not a JSON object.", "Send a JSON object."
        )
    return value


def run_order(body: dict[str, Any], now: datetime) -> RunOrder:
    """`current` and `last` become a month here, once: key, lock, run id and landing all use that month."""
    faults: dict[str, str] = dict(_unknown_fields(body, RUN_FIELDS))
    texts = {name: body.get(name) for name in RUN_FIELDS if name != "force"}
    faults |= {
        name: "must be a text"
        for name, value in texts.items()
        if value is not None and not isinstance(value, str)
    }
    force = body.get("force", False)
    if not isinstance(force, bool):
        faults["force"] = "must be true or false"
    reason = _reason(texts["reason"], faults)
    key = _key(texts, now, faults)
    if faults or key is None:
        raise invalid(faults)
    return RunOrder(key, force, reason)


def reason_of(body: dict[str, Any]) -> str:
    """The only field of a retry."""
    faults: dict[str, str] = dict(_unknown_fields(body, ("reason",)))
    value = body.get("reason")
    if value is not None and not isinstance(value, str):
        faults["reason"] = "must be a text"
    reason = _reason(value, faults)
    if faults:
        raise invalid(faults)
    return reason


def _reason(value: Any, faults: dict[str, str]) -> str:
    reason = value if isinstance(value, str) else ""
    if len(reason) > LONGEST_REASON or not reason.isprintable():
        faults["reason"] = f"must be one line of at most {LONGEST_REASON} characters"
    elif not is_secret_free(reason):  # it is kept in histories, in clear
        faults["reason"] = "must not hold what looks like a signature, a key, a token or a password"
    return reason


def _unknown_fields(body: dict[str, Any], known: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for name in body:
        if name not in known:
            yield name[:40], f"is not known; known are {', '.join(known)}"


def _key(texts: dict[str, Any], now: datetime, faults: dict[str, str]) -> ExportKey | None:
    def read(name: str, parse: Any, *, required: bool) -> Any:
        value = texts[name]
        if name in faults:
            return None
        if value is None:
            if required:
                faults[name] = "is missing"
            return None
        try:
            return parse(value)
        except InvalidValueError as error:
            faults[name] = str(error)
            return None

    dataset = read("dataset", parse_dataset, required=True)
    attribute_set = read("attribute_set", parse_attribute_set, required=False) or AttributeSet.FULL
    if dataset is None:
        return None
    asked_by = ("invoice_id",) if dataset.billed else ("billing_month", "currency_code")
    for name in ("invoice_id", "billing_month", "currency_code"):
        if name not in asked_by and texts[name] is not None:
            faults.setdefault(
                name, f"does not go with {dataset}, which is asked for by {' and '.join(asked_by)}"
            )
    if dataset.billed:
        invoice_id = read("invoice_id", parse_invoice_id, required=True)
        return ExportKey(dataset, InvoiceScope(invoice_id), attribute_set) if invoice_id else None
    month = read("billing_month", lambda text: _month(text, now), required=True)
    currency = read("currency_code", parse_currency, required=True)
    return (
        ExportKey(dataset, MonthScope(month, currency), attribute_set)
        if month and currency
        else None
    )


def _month(text: str, now: datetime) -> BillingMonth:
    this = BillingMonth.of(now)
    if text in ("current", "last"):
        return this if text == "current" else this.previous()
    month = BillingMonth.parse(text)
    if month not in (this, this.previous()):
        raise InvalidValueError(
            f"must be {this.previous()} or {this}: older months are served only as billed data of their invoice"
        )
    return month


def path_id(request: func.HttpRequest, name: str, what: str) -> str:
    """An id from the route; anything that cannot be one is unknown, whatever it holds."""
    value = str(request.route_params.get(name, ""))
    if started_at(value) is None:
        raise unknown(what)
    return value


def requested_by(request: func.HttpRequest) -> str:
    """The signed-in principal as the platform names it, else `function-key`."""
    name = request.headers.get("x-ms-client-principal-name", "").strip()
    return name[:100] if name and name.isprintable() and "=" not in name else "function-key"
