"""Commands that a document marks with `<!-- run -->` are run as they stand there, against a stack as `make run` keeps it up.

What other tests run (the walk of operations.md, the queries of reading-the-data.md, `make demo`) is not run here again.
"""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local.stack import NEVER_SCHEDULE, ROOT, Stack, run_stack
from tests.docs.test_documents import DOCUMENTS, name_of

MARKED = re.compile(r"^<!-- run -->\n```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
MARKERS = re.compile(r"^<!-- (run|checked)\b.*-->$", re.MULTILINE)
ADDRESS = re.compile(r"^APP=http://\S+$", re.MULTILINE)
EXPECTED = {"README.md", "docs/api.md", "docs/getting-started.md"}
REFUSALS_THAT_ARE_ANSWERS = {409}  # what a live or an ended run does not allow just now


def marked() -> dict[str, list[str]]:
    found = {name_of(file): MARKED.findall(file.read_text(encoding="utf-8")) for file in DOCUMENTS}
    return {name: blocks for name, blocks in found.items() if blocks}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with run_stack(
        tmp_path_factory.mktemp("commands") / "state", settings={"EXPORT_SCHEDULE": NEVER_SCHEDULE}
    ) as stack:
        yield stack


def answers(said: str) -> list[dict[str, Any]]:
    """Every JSON object in the output, one after another."""
    found, at, decoder = [], 0, json.JSONDecoder()
    while (at := said.find("{", at)) >= 0:
        one, at = decoder.raw_decode(said, at)
        found.append(one)
    return found


def test_the_documents_have_commands_to_run() -> None:
    assert set(marked()) >= EXPECTED


@pytest.mark.parametrize("name", sorted(marked()))
def test_the_commands_of_a_document_work(name: str, stack: Stack, tmp_path: Path) -> None:
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PARTNER_BILLING_URL": stack.app_url,
        "COLUMNS": "160",
    }
    for block in marked()[name]:
        assert "$APP" not in block or ADDRESS.search(block)
        program = "set -euo pipefail\n" + ADDRESS.sub(f"APP={stack.app_url}", block)
        done = subprocess.run(
            ["bash", "-c", program],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        if "curl" in block:
            said = answers(done.stdout)
            assert len(said) >= block.count("curl") - block.count("/api/health")
            problems = [one for one in said if "title" in one and "remedy" in one]
            assert not [one for one in problems if one["status"] not in REFUSALS_THAT_ARE_ANSWERS]


@pytest.mark.parametrize("file", DOCUMENTS, ids=name_of)
def test_a_marker_stands_before_a_block(file: Path) -> None:
    """One that has slipped would run nothing, and nobody would notice."""
    text = file.read_text(encoding="utf-8")
    for marker in MARKERS.finditer(text):
        assert text[marker.end() :].startswith("\n```"), marker[0]


@pytest.mark.parametrize("file", DOCUMENTS, ids=name_of)
def test_every_file_of_the_project_that_a_document_names_exists(file: Path) -> None:
    named = set(
        re.findall(
            r"`((?:tests|docs|infra|local|shared|bench|cli)/[\w./-]+)`",
            file.read_text(encoding="utf-8"),
        )
    )
    missing = {path for path in named if "..." not in path and not (ROOT / path).exists()}
    assert not missing
