"""Fault rules: which requests a rule selects, and how a rule file is parsed."""

import json
from typing import Any

import pytest

from local.simulator import FaultResponse, Faults, Match


def selected_numbers(
    faults: Faults, times: int, *, step: str = "poll", dataset: str | None = None, path: str = "/x"
) -> list[int]:
    return [
        number for number in range(1, times + 1) if faults.find_response(step, dataset, "GET", path)
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
def test_rule_with_counters_selects_matching_numbers(match: Match, expected: list[int]) -> None:
    assert selected_numbers(Faults().add(match, FaultResponse(status=500)), 6) == expected


def test_rule_does_not_count_requests_that_do_not_match() -> None:
    faults = Faults().add(Match(operation="start", nth=(2,)), FaultResponse(status=500))
    selected_numbers(faults, 5)
    assert selected_numbers(faults, 3, step="start") == [2]


def test_rule_per_path_counts_each_path_separately() -> None:
    faults = Faults().add(Match(nth=(1,), per="path"), FaultResponse(status=503))
    assert (
        selected_numbers(faults, 2, path="/a"),
        selected_numbers(faults, 2, path="/b"),
        selected_numbers(faults, 2, path="/a"),
    ) == ([1], [1], [])


def test_find_response_with_two_rules_returns_first_selected() -> None:
    faults = (
        Faults()
        .add(Match(nth=(1,)), FaultResponse(status=503))
        .add(Match(), FaultResponse(status=429))
    )
    responses = [faults.find_response("poll", None, "GET", "/x") for _ in range(2)]
    assert [response.status for response in responses if response] == [503, 429]
    faults.clear()
    assert faults.find_response("poll", None, "GET", "/x") is None


def test_from_json_valid_document_returns_rules() -> None:
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
                        "response": {
                            "status": 503,
                            "headers": {"Retry-After": "1"},
                            "body": "html",
                            "without_headers": ["Content-Range"],
                        },
                    },
                    {"response": {"drop": True, "when": "after"}},
                ]
            }
        )
    )
    response = faults.find_response("blob", None, "GET", "/c/part-00001")
    assert response == FaultResponse(
        status=503, headers={"Retry-After": "1"}, body="html", without_headers=("Content-Range",)
    )
    assert faults.find_response("start", None, "POST", "/x") == FaultResponse(
        drop=True, when="after"
    )


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "exactly one member"),
        ({"rules": [{}]}, "Rule 1 must be"),
        ({"rules": [{"response": {"statuss": 1}}]}, 'Rule 1: "response" has an unknown'),
        (
            {"rules": [{"response": {}}, {"match": {"when": 1}, "response": {}}]},
            'Rule 2: "match" has an unknown',
        ),
        (
            {"rules": [{"match": {"operation": "polls"}, "response": {}}]},
            '"operation" must be one of',
        ),
        ({"rules": [{"response": {"body": "odd"}}]}, '"body" must be one of'),
    ],
)
def test_from_json_invalid_document_names_the_member(document: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Faults.from_json(json.dumps(document))
