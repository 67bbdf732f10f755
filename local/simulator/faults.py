"""Fault injection: rules that match requests and define the response to return instead.

    {"rules": [
        {"match": {"operation": "poll", "nth": [1, 2]},
         "response": {"status": 429, "headers": {"Retry-After": "2"}}},
        {"match": {"operation": "start", "dataset": "billed_usage", "nth": [1]},
         "response": {"drop": true, "when": "after"}},
        {"match": {"operation": "blob", "path": "*part-00001*", "from_nth": 2},
         "response": {"status": 403}}
    ]}

The first rule that matches a request applies. Each rule counts the requests that match its
`operation`, `dataset`, `method` and `path`; `nth`, `from_nth` and `every` select among them.
`responses.py` turns the selected response into HTTP.
"""

import json
import threading
from collections import Counter
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

Step = Literal["start", "poll", "manifest", "invoices", "invoice", "blob", "other"]
Body = Literal[
    "graph_error",
    "graph_error_numeric",
    "empty",
    "html",
    "broken_json",
    "message",
    "partner_center",
    "storage_error",
    "real",
    "truncated",
    "no_content_type",
    "text_html",
    "json_list",
    "json_string",
]


@dataclass(frozen=True)
class Match:
    """The requests to which a rule applies. None matches every value.

    `path` is a glob over the path without the query string; `*` also matches slashes.
    """

    operation: Step | None = None
    dataset: str | None = None
    method: str | None = None
    path: str | None = None
    nth: tuple[int, ...] = ()  # counted from 1
    from_nth: int | None = None  # this request and all later ones
    every: int | None = None  # every nth request
    per: Literal["rule", "path"] = "rule"  # one counter for the rule, or one for each path

    def fits(self, operation: str, dataset: str | None, method: str, path: str) -> bool:
        """Return whether the rule applies to this kind of request."""
        return (
            self.operation in (None, operation)
            and self.dataset in (None, dataset)
            and self.method in (None, method)
            and (self.path is None or fnmatchcase(path, self.path))
        )

    def selects(self, count: int) -> bool:
        """Return whether the rule applies to the nth matching request."""
        conditions = [
            *([count in self.nth] if self.nth else []),
            *([count >= self.from_nth] if self.from_nth else []),
            *([count % self.every == 0] if self.every else []),
        ]
        return any(conditions) if conditions else True


@dataclass(frozen=True)
class FaultResponse:
    """The response to return instead of the real one.

    The `body` values `real`, `truncated`, `no_content_type` and `text_html`, and the fields for
    blob content, modify the real response. All other values replace it.
    """

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: Body | None = None  # default: the service's error body, or the real body below 300
    code: str | None = None  # the error code in the body
    message: str | None = None
    delay: float = 0  # seconds before anything else happens
    drop: bool = False  # close the connection without a response
    drop_after: int | None = None  # close it after this many bytes of a longer Content-Length
    when: Literal["before", "after"] = "before"  # "after": the request takes effect first
    cut_to: int | None = None  # shorten both the body and Content-Length to this many bytes
    corrupt_at: int | None = None  # invert the byte at this offset of the body
    without_headers: tuple[str, ...] = ()
    bytes_per_second: int | None = None

    @property
    def replaces(self) -> bool:
        """Whether this response replaces the real one completely."""
        real = ("real", "truncated", "no_content_type", "text_html")
        return (
            self.drop
            or self.body not in (None, *real)
            or (self.body is None and (self.status or 0) >= 300)
        )


@dataclass(frozen=True)
class Rule:
    """A fault: the requests to which it applies, and the response to them."""

    match: Match
    response: FaultResponse


class Faults:
    """Rules and their counters. Thread-safe: tests can add rules while the simulator runs."""

    def __init__(self, *rules: Rule) -> None:
        self._rules = list(rules)
        self._counts = Counter[tuple[int, str]]()
        self._lock = threading.Lock()

    def add(self, match: Match, response: FaultResponse) -> "Faults":
        """Append a rule and return self."""
        with self._lock:
            self._rules.append(Rule(match, response))
        return self

    def clear(self) -> None:
        """Remove all rules and reset their counters."""
        with self._lock:
            self._rules.clear()
            self._counts.clear()

    def find_response(
        self, operation: str, dataset: str | None, method: str, path: str
    ) -> FaultResponse | None:
        """Count the request and return the response of the first rule that selects it."""
        with self._lock:
            for number, rule in enumerate(self._rules):
                if not rule.match.fits(operation, dataset, method, path):
                    continue
                counter = (number, path if rule.match.per == "path" else "")
                self._counts[counter] += 1
                if rule.match.selects(self._counts[counter]):
                    return rule.response
        return None

    @classmethod
    def from_json(cls, text: str) -> "Faults":
        """Parse a document with rules. Raise a ValueError that names the invalid member, if any."""
        document = json.loads(text)
        if (
            not isinstance(document, dict)
            or set(document) != {"rules"}
            or not isinstance(document["rules"], list)
        ):
            raise ValueError(
                'The faults must be an object with exactly one member, "rules" (a list).'
            )
        rules = []
        for number, rule in enumerate(document["rules"], 1):
            if (
                not isinstance(rule, dict)
                or set(rule) - {"match", "response"}
                or "response" not in rule
            ):
                raise ValueError(f'Rule {number} must be an object with "match" and "response".')
            rules.append(
                Rule(
                    _parse(Match, rule.get("match", {}), number, "match"),
                    _parse(FaultResponse, rule["response"], number, "response"),
                )
            )
        return cls(*rules)

    @classmethod
    def from_file(cls, path: Path) -> "Faults":
        """Parse a file in the format that the module docstring describes."""
        return cls.from_json(path.read_text(encoding="utf-8"))


Parsed = TypeVar("Parsed", Match, FaultResponse)
_ALLOWED_VALUES = {
    "operation": get_args(Step),
    "body": get_args(Body),
    "per": ("rule", "path"),
    "when": ("before", "after"),
}


def _parse(kind: type[Parsed], members: Any, number: int, member: str) -> Parsed:
    allowed = {each.name for each in fields(kind)}
    if not isinstance(members, dict) or set(members) - allowed:
        raise ValueError(
            f'Rule {number}: "{member}" has an unknown member.'
            f" Allowed: {', '.join(sorted(allowed))}."
        )
    for name, values in _ALLOWED_VALUES.items():
        if members.get(name) is not None and members[name] not in values:
            raise ValueError(f'Rule {number}: "{name}" must be one of {", ".join(values)}.')
    arguments: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in members.items()
    }
    return kind(**arguments)
