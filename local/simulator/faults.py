"""What goes wrong, when, as data: rules that match requests and say what is answered instead.

    {"rules": [
        {"match": {"operation": "poll", "nth": [1, 2]}, "answer": {"status": 429, "headers": {"Retry-After": "2"}}},
        {"match": {"operation": "start", "dataset": "billed_usage", "nth": [1]}, "answer": {"drop": true, "when": "after"}},
        {"match": {"operation": "blob", "path": "*part-00001*", "from_nth": 2}, "answer": {"status": 403}}
    ]}

The first rule that matches wins. A rule counts the requests that fit it; `nth`, `from_nth` and `every` pick among them.
Nothing here knows of HTTP servers: `answers.py` carries out what a rule says.
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
    """Which requests. What is None matches any; `path` is a glob over the path without query, `*` also crosses slashes."""

    operation: Step | None = None
    dataset: str | None = None
    method: str | None = None
    path: str | None = None
    nth: tuple[int, ...] = ()  # the first, the second ... that fits
    from_nth: int | None = None  # this one and all later ones
    every: int | None = None  # each so-manieth
    per: Literal["rule", "path"] = "rule"  # count all together, or each path by itself

    def fits(self, operation: str, dataset: str | None, method: str, path: str) -> bool:
        return (
            self.operation in (None, operation)
            and self.dataset in (None, dataset)
            and self.method in (None, method)
            and (self.path is None or fnmatchcase(path, self.path))
        )

    def picks(self, count: int) -> bool:
        chosen = [
            *([count in self.nth] if self.nth else []),
            *([count >= self.from_nth] if self.from_nth else []),
            *([count % self.every == 0] if self.every else []),
        ]
        return any(chosen) if chosen else True


@dataclass(frozen=True)
class Answer:
    """What happens instead. `real`, `truncated` and the members for blobs change the real answer; the rest replace it."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: Body | None = (
        None  # without one: the error body of the service asked, or the real one below 400
    )
    code: str | None = None  # the error code in that body
    message: str | None = None
    delay: float = 0  # seconds before anything happens
    drop: bool = False  # the connection ends without an answer
    drop_after: int | None = (
        None  # ... or after so many bytes of the body; Content-Length says more
    )
    when: Literal["before", "after"] = (
        "before"  # after: the request has its effect, only the answer is replaced
    )
    cut_to: int | None = None  # body and Content-Length end here, consistently
    corrupt_at: int | None = None  # the byte at this offset of the body is turned round
    without_headers: tuple[str, ...] = ()
    bytes_per_second: int | None = None

    @property
    def replaces(self) -> bool:
        """Whether the real answer is not needed."""
        real = ("real", "truncated", "no_content_type", "text_html")
        return (
            self.drop
            or self.body not in (None, *real)
            or (self.body is None and (self.status or 0) >= 300)
        )


@dataclass(frozen=True)
class Rule:
    match: Match
    answer: Answer


class Faults:
    """Rules and their counters. Tests may append rules while the simulator runs."""

    def __init__(self, *rules: Rule) -> None:
        self._rules, self._counts, self._lock = (
            list(rules),
            Counter[tuple[int, str]](),
            threading.Lock(),
        )

    def add(self, match: Match, answer: Answer) -> "Faults":
        with self._lock:
            self._rules.append(Rule(match, answer))
        return self

    def clear(self) -> None:
        with self._lock:
            self._rules.clear()
            self._counts.clear()

    def answer_to(
        self, operation: str, dataset: str | None, method: str, path: str
    ) -> Answer | None:
        """Counts the request; the answer of the first rule that picks it."""
        with self._lock:
            for number, rule in enumerate(self._rules):
                if not rule.match.fits(operation, dataset, method, path):
                    continue
                counted = (number, path if rule.match.per == "path" else "")
                self._counts[counted] += 1
                if rule.match.picks(self._counts[counted]):
                    return rule.answer
        return None

    @classmethod
    def from_json(cls, text: str) -> "Faults":
        """ValueError names the member that is wrong."""
        document = json.loads(text)
        if (
            not isinstance(document, dict)
            or set(document) != {"rules"}
            or not isinstance(document["rules"], list)
        ):
            raise ValueError('faults: an object with one member, "rules", a list')
        rules = []
        for number, rule in enumerate(document["rules"], 1):
            if (
                not isinstance(rule, dict)
                or set(rule) - {"match", "answer"}
                or "answer" not in rule
            ):
                raise ValueError(f'rule {number}: an object with "match" and "answer"')
            rules.append(
                Rule(
                    _read(Match, rule.get("match", {}), number),
                    _read(Answer, rule["answer"], number),
                )
            )
        return cls(*rules)

    @classmethod
    def from_file(cls, path: Path) -> "Faults":
        return cls.from_json(path.read_text(encoding="utf-8"))


Parsed = TypeVar("Parsed", Match, Answer)
_WORDS = {
    "operation": get_args(Step),
    "body": get_args(Body),
    "per": ("rule", "path"),
    "when": ("before", "after"),
}


def _read(kind: type[Parsed], members: Any, number: int) -> Parsed:
    known = {each.name for each in fields(kind)}
    if not isinstance(members, dict) or set(members) - known:
        raise ValueError(
            f"rule {number}: {kind.__name__.lower()} has only {', '.join(sorted(known))}"
        )
    for name, words in _WORDS.items():
        if members.get(name) is not None and members[name] not in words:
            raise ValueError(f"rule {number}: {name} is one of {', '.join(words)}")
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in members.items()
    }
    return kind(**values)
