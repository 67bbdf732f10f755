"""The examples in docstrings are correct."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("triggers", "orchestrations", "activities", "shared", "local")


def with_examples() -> list[str]:
    files = [(ROOT, file) for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py"))]
    files += [
        (ROOT / "cli", file) for file in sorted((ROOT / "cli" / "partner_billing").rglob("*.py"))
    ]
    found = [
        file.relative_to(base) for base, file in files if ">>> " in file.read_text(encoding="utf-8")
    ]
    return [".".join(file.with_suffix("").parts) for file in found]


@pytest.mark.parametrize("name", with_examples())
def test_examples(name: str) -> None:
    failed, tried = doctest.testmod(
        importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE
    )
    assert tried and not failed
