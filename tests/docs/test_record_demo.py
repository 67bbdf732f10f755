"""docs/images/demo.svg: a film of the real demo that shows anywhere, and fetches nothing."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from local.record_demo import PICTURE, WIDTH, animated, spread, terminal

ROOT = Path(__file__).resolve().parents[2]
PICTURES = sorted((ROOT / "docs" / "images").glob("*.svg"))


def words(svg: str) -> str:
    return " ".join("".join(ElementTree.fromstring(svg).itertext()).replace("\xa0", " ").split())


def test_it_shows_how_the_demo_ends() -> None:
    said = words(PICTURE.read_text(encoding="utf-8"))
    for text in (
        "make demo",
        "waiting for Microsoft",
        "What landed",
        "billed_reconciliation",
        "blobs landed and proven",
    ):
        assert text in said
    assert "NOT PROVEN" not in said


@pytest.mark.parametrize("file", PICTURES, ids=lambda file: file.name)
def test_a_picture_fetches_and_runs_nothing(file: Path) -> None:
    svg = file.read_text(encoding="utf-8")
    ElementTree.fromstring(svg)
    assert not re.search(
        r"<script|\bon\w+=|@import|@font-face|xlink:href|<image|url\((?!\"?#)", svg
    )
    assert file != PICTURE or set(re.findall(r"https?://[^\"' <)]+", svg)) == {
        "http://www.w3.org/2000/svg"
    }
    assert file.stat().st_size < 200_000


def test_the_last_shot_stays_where_nothing_moves() -> None:
    shots = [terminal() for _ in range(3)]
    for number, paper in enumerate(shots):
        paper.print(f"shot {number}", "x" * WIDTH)
    svg = animated(shots)
    assert [
        int(opacity)
        for opacity in re.findall(r"^\.turn\d+ \{ opacity: (\d)", svg, flags=re.MULTILINE)
    ] == [0, 0, 1]
    assert [f"shot {number}" in words(svg) for number in range(3)] == [True] * 3
    heights = set(re.findall(r'viewBox="0 0 [\d.]+ ([\d.]+)"', svg))
    assert len(heights) == 1, "shots of different heights would jump"


def test_a_long_film_is_shortened_and_keeps_its_ends() -> None:
    shots = [terminal() for _ in range(30)]
    kept = spread(shots, 8)
    assert len(kept) == 8 and kept[0] is shots[0] and kept[-1] is shots[-1]
    assert spread(shots[:3], 8) == shots[:3]
