"""Documents that are made from code are those of the code, and whole."""

import re
from pathlib import Path

import pytest

from local.documents import MADE, errors, sections
from shared.errors import CATALOGUE

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("path", sorted(MADE))
def test_it_is_what_the_code_makes(path: str) -> None:
    assert (ROOT / path).read_text(encoding="utf-8") == MADE[path](), "make docs"


def test_every_code_has_its_place() -> None:
    assert [code for codes in sections().values() for code in codes] == list(CATALOGUE)
    assert re.findall(r"^### (.+)$", errors(), flags=re.MULTILINE) == list(CATALOGUE)


@pytest.mark.parametrize("code", CATALOGUE)
def test_an_entry_says_cause_remedy_what_was_not_done_and_whether_it_is_tried_again(
    code: str,
) -> None:
    part = errors().split(f"### {code}\n")[1].split("\n### ")[0].split("\n## ")[0]
    entry = CATALOGUE[code]
    assert all(
        part.count(text) == 1 for text in {entry.cause, entry.remedy, entry.not_done, entry.retried}
    )
