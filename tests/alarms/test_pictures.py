"""The pictures of the workbook show what its queries answer today."""

import re
import xml.etree.ElementTree as ET

import pytest

from tests.alarms.engine import ROOT, WORKBOOK, names, query, run
from tests.alarms.pictures import IMAGES, PICTURES, bars, drawn
from tests.alarms.recording import recorded

DRAWN = drawn()


@pytest.mark.parametrize("name", DRAWN)
def test_a_picture_is_what_the_recording_gives(name: str) -> None:
    assert (IMAGES / name).read_text(encoding="utf-8") == DRAWN[name], (
        "run: python -m tests.alarms.pictures"
    )


def test_every_panel_but_the_chosen_run_has_a_picture_that_the_document_shows() -> None:
    assert {panel for panels in PICTURES.values() for panel in panels} == set(names(WORKBOOK)) - {
        "one-run"
    }
    document = (ROOT / "docs" / "alarms.md").read_text(encoding="utf-8")
    assert re.findall(r"!\[[^\]]{40,}\]\(images/(workbook-\w+)\.svg\)", document) == list(PICTURES)


@pytest.mark.parametrize("name", DRAWN)
def test_a_picture_fetches_nothing_and_names_no_machine(name: str) -> None:
    tree = ET.fromstring(DRAWN[name])
    assert (
        tree.tag.endswith("svg")
        and "url(http" not in DRAWN[name]
        and "@font-face" not in DRAWN[name]
    )
    assert not re.search(r"127\.0\.0\.1|/home/|/root/|/tmp/", DRAWN[name])


def test_the_figures_are_those_of_the_recording() -> None:
    """Counted again without any query: how many runs ended how on the day that they timed out."""
    seen, counted = set(), dict[str, int]()
    for trace in recorded():
        facts = trace.facts
        if (
            facts["event"] == "run_ended"
            and f"{trace.at:%m-%d}" == "12-15"
            and facts["event_id"] not in seen
        ):
            seen.add(facts["event_id"])
            counted[facts["outcome"]] = counted.get(facts["outcome"], 0) + 1
    rows = run(query("outcomes"), recorded(), max(trace.at for trace in recorded()))
    assert {
        row["outcome"]: row["runs"] for row in rows if f"{row['day']:%m-%d}" == "12-15"
    } == counted
    assert counted["timed_out"] == 4
    [line] = [
        line for line in bars(rows, "day", "runs", "outcome") if line.plain.startswith("15 Dec")
    ]
    assert line.plain.split()[-1] == str(sum(counted.values()))
