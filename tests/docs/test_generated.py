"""Generated documents match their sources and are complete."""

import re
from pathlib import Path

import pytest

from local.documents import DOCUMENTS, generate_errors
from shared.errors import CATALOGUE, SECTIONS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("path", sorted(DOCUMENTS))
def test_generated_document_equals_its_source(path: str) -> None:
    assert (ROOT / path).read_text(encoding="utf-8") == DOCUMENTS[path](), "run `make docs`"


def test_generate_errors_has_a_heading_for_each_section_and_code() -> None:
    text = generate_errors()
    assert re.findall(r"^## (.+)$", text, flags=re.MULTILINE) == [one.title for one in SECTIONS]
    assert re.findall(r"^### (.+)$", text, flags=re.MULTILINE) == list(CATALOGUE)


@pytest.mark.parametrize("code", CATALOGUE)
def test_generate_errors_describes_each_code_once(code: str) -> None:
    part = generate_errors().split(f"### {code}\n")[1].split("\n### ")[0].split("\n## ")[0]
    entry = CATALOGUE[code]
    for label, text in (
        ("", entry.cause),
        ("* **Remedy:** ", entry.remedy),
        ("* **Effect:** ", entry.effect),
        ("* **Automatic retry:** ", entry.retry),
    ):
        assert part.splitlines().count(label + text) == 1
