"""The recorded demo, docs/images/demo.svg, is self-contained and matches the current demo."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from local.record_demo import IMAGE, WIDTH, animate, create_terminal, select_frames

ROOT = Path(__file__).resolve().parents[2]
IMAGES = sorted((ROOT / "docs" / "images").glob("*.svg"))


def text_of(svg: str) -> str:
    return " ".join("".join(ElementTree.fromstring(svg).itertext()).replace("\xa0", " ").split())


def test_demo_image_shows_report_of_successful_demo() -> None:
    text = text_of(IMAGE.read_text(encoding="utf-8"))
    for expected in (
        "make demo",
        "Landed exports",
        "billed_reconciliation",
        "blobs landed and verified",
    ):
        assert expected in text
    assert "NOT VERIFIED" not in text


@pytest.mark.parametrize("file", IMAGES, ids=lambda file: file.name)
def test_image_has_no_script_and_no_external_resource(file: Path) -> None:
    svg = file.read_text(encoding="utf-8")
    ElementTree.fromstring(svg)
    assert not re.search(
        r"<script|\bon\w+=|@import|@font-face|xlink:href|<image|url\((?!\"?#)", svg
    )
    assert file != IMAGE or set(re.findall(r"https?://[^\"' <)]+", svg)) == {
        "http://www.w3.org/2000/svg"
    }
    assert file.stat().st_size < 200_000


def test_animate_without_motion_shows_last_frame() -> None:
    frames = [create_terminal() for _ in range(3)]
    for number, frame in enumerate(frames):
        frame.print(f"frame {number}", "x" * WIDTH)
    svg = animate(frames)
    opacities = re.findall(r"^\.turn\d+ \{ opacity: (\d)", svg, flags=re.MULTILINE)
    assert opacities == ["0", "0", "1"]
    assert [f"frame {number}" in text_of(svg) for number in range(3)] == [True] * 3


def test_animate_frames_of_different_length_have_equal_height() -> None:
    frames = [create_terminal() for _ in range(3)]
    for number, frame in enumerate(frames):
        frame.print("line\n" * number)
    heights = re.findall(r'viewBox="0 0 [\d.]+ ([\d.]+)"', animate(frames))
    assert heights == [heights[0]] * 4  # three frames and the image that contains them


def test_select_frames_many_frames_keeps_first_and_last() -> None:
    frames = [create_terminal() for _ in range(30)]
    selected = select_frames(frames, 8)
    assert [frames.index(frame) for frame in selected] == [0, 4, 8, 12, 17, 21, 25, 29]
    assert select_frames(frames[:3], 8) == frames[:3]
