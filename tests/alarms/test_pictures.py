"""The workbook pictures show the query results for the recording."""

import re
import xml.etree.ElementTree as ET

import pytest

from tests.alarms.kusto import ROOT, WORKBOOK, list_queries, read_query, run_query
from tests.alarms.pictures import IMAGES, PICTURES, draw_bars, draw_pictures
from tests.alarms.recording import load_recording

DRAWN = draw_pictures()


@pytest.mark.parametrize("name", DRAWN)
def test_picture_is_up_to_date(name: str) -> None:
    assert (IMAGES / name).read_text(encoding="utf-8") == DRAWN[name], (
        "run: python -m tests.alarms.pictures"
    )


def test_pictures_show_every_panel_except_selected_run() -> None:
    panels = {panel for panels in PICTURES.values() for panel in panels}
    assert panels == set(list_queries(WORKBOOK)) - {"one-run"}


def test_document_shows_every_picture_with_alternative_text() -> None:
    document = (ROOT / "docs" / "alarms.md").read_text(encoding="utf-8")
    assert re.findall(r"!\[[^\]]{40,}\]\(images/(workbook-\w+)\.svg\)", document) == list(PICTURES)


@pytest.mark.parametrize("name", DRAWN)
def test_picture_is_self_contained_and_contains_no_machine_path(name: str) -> None:
    assert ET.fromstring(DRAWN[name]).tag.endswith("svg")
    assert "url(http" not in DRAWN[name]
    assert "@font-face" not in DRAWN[name]
    assert not re.search(r"127\.0\.0\.1|/home/|/root/|/tmp/", DRAWN[name])


def test_outcomes_query_matches_counts_of_recording() -> None:
    """The expected counts for one day are computed without a query."""
    event_ids, expected = set(), dict[str, int]()
    for trace in load_recording():
        fields = trace.fields
        if (
            fields["event"] == "run_ended"
            and f"{trace.at:%m-%d}" == "12-15"
            and fields["event_id"] not in event_ids
        ):
            event_ids.add(fields["event_id"])
            expected[fields["outcome"]] = expected.get(fields["outcome"], 0) + 1
    now = max(trace.at for trace in load_recording())
    rows = run_query(read_query("outcomes"), load_recording(), now)
    counts = {row["outcome"]: row["runs"] for row in rows if f"{row['day']:%m-%d}" == "12-15"}
    assert counts == expected
    assert expected["timed_out"] == 4
    lines = draw_bars(rows, "day", "runs", "outcome")
    [line] = [line for line in lines if line.plain.startswith("15 Dec")]
    assert line.plain.split()[-1] == str(sum(expected.values()))
