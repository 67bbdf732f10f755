"""Faults: which requests a rule picks, and how a file of rules is read."""

import json
from typing import Any

import pytest

from local.simulator import Answer, Faults, Match


def picked(
    faults: Faults, times: int, *, step: str = "poll", dataset: str | None = None, path: str = "/x"
) -> list[int]:
    return [
        number for number in range(1, times + 1) if faults.answer_to(step, dataset, "GET", path)
    ]


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        (Match(), [1, 2, 3, 4, 5, 6]),
        (Match(nth=(2, 5)), [2, 5]),
        (Match(from_nth=4), [4, 5, 6]),
        (Match(every=3), [3, 6]),
        (Match(nth=(1,), every=4), [1, 4]),
        (Match(operation="start"), []),
        (Match(method="POST"), []),
        (Match(path="/y*"), []),
        (Match(dataset="billed_usage"), []),
        (Match(operation="poll", method="GET", path="/*"), [1, 2, 3, 4, 5, 6]),
    ],
)
def test_a_rule_picks_by_number(match: Match, expected: list[int]) -> None:
    assert picked(Faults().add(match, Answer(status=500)), 6) == expected


def test_requests_that_do_not_fit_are_not_counted() -> None:
    faults = Faults().add(Match(operation="start", nth=(2,)), Answer(status=500))
    picked(faults, 5)
    assert picked(faults, 3, step="start") == [2]


def test_each_path_may_be_counted_by_itself() -> None:
    faults = Faults().add(Match(nth=(1,), per="path"), Answer(status=503))
    assert (
        picked(faults, 2, path="/a"),
        picked(faults, 2, path="/b"),
        picked(faults, 2, path="/a"),
    ) == ([1], [1], [])


def test_the_first_rule_that_picks_wins() -> None:
    faults = Faults().add(Match(nth=(1,)), Answer(status=503)).add(Match(), Answer(status=429))
    answers = [faults.answer_to("poll", None, "GET", "/x") for _ in range(2)]
    assert [answer.status for answer in answers if answer] == [503, 429]
    faults.clear()
    assert faults.answer_to("poll", None, "GET", "/x") is None


def test_a_file_of_rules_is_read() -> None:
    faults = Faults.from_json(
        json.dumps(
            {
                "rules": [
                    {
                        "match": {
                            "operation": "blob",
                            "path": "*part-0*",
                            "nth": [1],
                            "per": "path",
                        },
                        "answer": {
                            "status": 503,
                            "headers": {"Retry-After": "1"},
                            "body": "html",
                            "without_headers": ["Content-Range"],
                        },
                    },
                    {"answer": {"drop": True, "when": "after"}},
                ]
            }
        )
    )
    answer = faults.answer_to("blob", None, "GET", "/c/part-00001")
    assert answer == Answer(
        status=503, headers={"Retry-After": "1"}, body="html", without_headers=("Content-Range",)
    )
    assert faults.answer_to("start", None, "POST", "/x") == Answer(drop=True, when="after")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "one member"),
        ({"rules": [{}]}, "rule 1"),
        ({"rules": [{"answer": {"statuss": 1}}]}, "answer has only"),
        (
            {"rules": [{"answer": {}}, {"match": {"when": 1}, "answer": {}}]},
            "rule 2: match has only",
        ),
        ({"rules": [{"match": {"operation": "polls"}, "answer": {}}]}, "operation is one of"),
        ({"rules": [{"answer": {"body": "odd"}}]}, "body is one of"),
    ],
)
def test_a_wrong_file_says_where(document: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Faults.from_json(json.dumps(document))
