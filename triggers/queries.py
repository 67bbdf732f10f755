"""Query strings as values: every wrong parameter at once, an unknown one refused by its name, pages by an opaque word."""

import base64
import binascii
import json
import re
from dataclasses import dataclass, field
from datetime import datetime

import azure.functions as func

from shared.exports import MONTH, BillingMonth, Dataset, InvalidValueError, parse_dataset
from shared.ledger.runs import OUTCOMES
from shared.ledger.tables import Continuation
from triggers.problem import invalid

PLATFORM = frozenset({"code", "clientid"})  # a function key may come in the address
DEFAULT_LIMIT, MOST = 100, 1000  # the table service gives a thousand rows at most
LONGEST_CONTINUATION = 4_000
BAD_CONTINUATION = {"continuation": "is not one that this list gave: begin again without it"}

RUNS_QUERY = ("started", "dataset", "outcome", "limit", "continuation")
BLOBS_QUERY = ("ok", "limit", "continuation")
CATALOGUE_QUERY = ("dataset", "billing_month", "limit", "continuation")


@dataclass(frozen=True)
class Query:
    """What a list is asked for. `month` is `yyyy-mm`; `word` stands for the filters, so that no other list takes a
    continuation of this one.

    Continuation: dataset (of the catalogue, which reads several partitions), then the service's own.
    """

    month: str = ""
    dataset: Dataset | None = None
    outcome: str = ""
    ok: bool | None = None
    limit: int = DEFAULT_LIMIT
    word: str = ""
    after: tuple[str, Continuation | None] = field(default=("", None))

    def continuation(self, following: Continuation | None, dataset: str = "") -> str | None:
        """The word for what follows; None at the end."""
        if following is None and not dataset:
            return None
        text = json.dumps([self.word, dataset, *(following or ())], ensure_ascii=False)
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def runs_query(request: func.HttpRequest, now: datetime) -> Query:
    return _Reader(request, RUNS_QUERY).query(
        "runs", default_month=str(BillingMonth.of(now)), month_name="started"
    )


def blobs_query(request: func.HttpRequest, run_id: str, version: str) -> Query:
    return _Reader(request, BLOBS_QUERY).query(f"blobs {run_id} {version}")


def catalogue_query(request: func.HttpRequest) -> Query:
    return _Reader(request, CATALOGUE_QUERY).query("catalogue", month_name="billing_month")


def parameters(request: func.HttpRequest) -> dict[str, str]:
    """What was asked for, without what the platform itself takes from the address."""
    return {name: value for name, value in request.params.items() if name.lower() not in PLATFORM}


def no_query(request: func.HttpRequest) -> None:
    """For routes that take no parameters."""
    reader = _Reader(request, ())
    if reader.faults:
        raise invalid(reader.faults)


class _Reader:
    def __init__(self, request: func.HttpRequest, known: tuple[str, ...]) -> None:
        self.given = parameters(request)
        told = f"known are {', '.join(known)}" if known else "none is taken here"
        self.faults = {
            name[:40]: f"is not known; {told}" for name in self.given if name not in known
        }

    def query(self, what: str, *, default_month: str = "", month_name: str = "") -> Query:
        month = self._month(month_name) or default_month
        dataset, outcome, ok, limit = self._dataset(), self._outcome(), self._ok(), self._limit()
        word = " ".join([what, month, dataset or "", outcome, self.given.get("ok", "")])
        after = self._after(word)
        if self.faults:
            raise invalid(self.faults)
        return Query(month, dataset, outcome, ok, limit, word, after)

    def _month(self, name: str) -> str:
        text: str = self.given.get(name, "")
        if text and not MONTH.fullmatch(text):
            self.faults[name] = "must be a month, as 2026-11"
        return text

    def _dataset(self) -> Dataset | None:
        try:
            return parse_dataset(self.given["dataset"]) if self.given.get("dataset") else None
        except InvalidValueError as error:
            self.faults["dataset"] = str(error)
            return None

    def _outcome(self) -> str:
        text: str = self.given.get("outcome", "")
        if text and text not in OUTCOMES:
            self.faults["outcome"] = f"must be one of {', '.join(OUTCOMES)}"
        return text

    def _ok(self) -> bool | None:
        text = self.given.get("ok", "")
        if text and text not in ("true", "false"):
            self.faults["ok"] = "must be true or false"
        return None if not text else text == "true"

    def _limit(self) -> int:
        text = self.given.get("limit", "")
        if text and not (re.fullmatch(r"[1-9][0-9]{0,3}", text) and int(text) <= MOST):
            self.faults["limit"] = f"must be a number from 1 to {MOST}"
            return DEFAULT_LIMIT
        return int(text) if text else DEFAULT_LIMIT

    def _after(self, word: str) -> tuple[str, Continuation | None]:
        text = self.given.get("continuation", "")
        if not text:
            return "", None
        try:
            if len(text) > LONGEST_CONTINUATION or not text.isascii():
                raise ValueError
            parts = json.loads(
                base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            )
            if (
                not isinstance(parts, list)
                or not all(isinstance(part, str) for part in parts)
                or parts[0] != word
            ):
                raise ValueError
            match parts[1:]:
                case [dataset]:
                    return Dataset(dataset), None
                case [dataset, partition, row]:
                    return Dataset(dataset) if dataset else "", (partition, row)
            raise ValueError
        except (ValueError, IndexError, RecursionError, binascii.Error):
            self.faults |= BAD_CONTINUATION
            return "", None
