"""Commands that are marked with `<!-- run -->` in the documents work with a local stack.

Other tests run the commands in operations.md, the queries in reading-the-data.md and `make demo`.
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
EXPECTED_ERRORS = {409}  # the state of a run does not allow the action


def marked_blocks() -> dict[str, list[str]]:
    blocks_by_name = {
        name_of(file): MARKED.findall(file.read_text(encoding="utf-8")) for file in DOCUMENTS
    }
    return {name: blocks for name, blocks in blocks_by_name.items() if blocks}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with run_stack(
        tmp_path_factory.mktemp("commands") / "state", settings={"EXPORT_SCHEDULE": NEVER_SCHEDULE}
    ) as stack:
        yield stack


def json_objects(output: str) -> list[dict[str, Any]]:
    """Return all JSON objects in the output."""
    objects, position, decoder = [], 0, json.JSONDecoder()
    while (position := output.find("{", position)) >= 0:
        value, position = decoder.raw_decode(output, position)
        objects.append(value)
    return objects


def test_documents_contain_marked_commands() -> None:
    assert set(marked_blocks()) >= EXPECTED


@pytest.mark.parametrize("name", sorted(marked_blocks()))
def test_marked_commands_succeed(name: str, stack: Stack, tmp_path: Path) -> None:
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PARTNER_BILLING_URL": stack.app_url,
        "COLUMNS": "160",
    }
    for block in marked_blocks()[name]:
        assert "$APP" not in block or ADDRESS.search(block)
        program = "set -euo pipefail\n" + ADDRESS.sub(f"APP={stack.app_url}", block)
        process = subprocess.run(
            ["bash", "-c", program],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert process.returncode == 0, f"{block}\n{process.stdout}\n{process.stderr}"
        if "curl" in block:
            responses = json_objects(process.stdout)
            # The health endpoint returns no JSON object.
            assert len(responses) >= block.count("curl") - block.count("/api/health")
            errors = [response for response in responses if {"title", "remedy"} <= set(response)]
            assert {error["status"] for error in errors} <= EXPECTED_ERRORS


@pytest.mark.parametrize("file", DOCUMENTS, ids=name_of)
def test_marker_is_followed_by_code_block(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    for marker in MARKERS.finditer(text):
        assert text[marker.end() :].startswith("\n```"), marker[0]


@pytest.mark.parametrize("file", DOCUMENTS, ids=name_of)
def test_files_named_in_document_exist(file: Path) -> None:
    named = set(
        re.findall(
            r"`((?:tests|docs|infra|local|shared|bench|cli)/[\w./-]+)`",
            file.read_text(encoding="utf-8"),
        )
    )
    missing = {path for path in named if "..." not in path and not (ROOT / path).exists()}
    assert not missing
