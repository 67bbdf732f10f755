"""Writes the documents that are generated from code (`make docs`).

    docs/errors.md       from shared/errors.py
    docs/openapi.json    from the endpoints in triggers/

A test fails if a document differs from its source.
"""

import json
from pathlib import Path

from local.azurite import ROOT
from shared.errors import CATALOGUE, SECTIONS
from triggers.http_openapi import get_document

HEADER = """\
# Error codes

This document is generated from `shared/errors.py` by `make docs`; do not edit it. Logs, rows, API
responses and alerts contain the same codes. The meaning of a code does not change.

"""
ENTRY = """\
### {code}

{cause}

* **Remedy:** {remedy}
* **Effect:** {effect}
* **Automatic retry:** {retry}

"""


def generate_errors() -> str:
    """Return the content of docs/errors.md. Each code has a heading to which alerts can link."""
    parts = [HEADER]
    for section in SECTIONS:
        parts.append(f"## {section.title}\n\n")
        parts += [ENTRY.format(code=code, **CATALOGUE[code]._asdict()) for code in section.entries]
    return "".join(parts).rstrip() + "\n"


def generate_openapi() -> str:
    """Return docs/openapi.json, which describes the API for client generators."""
    return json.dumps(get_document(), indent=1, ensure_ascii=False) + "\n"


DOCUMENTS = {"docs/errors.md": generate_errors, "docs/openapi.json": generate_openapi}


def main(root: Path = ROOT) -> None:
    """Write every generated document under `root`."""
    for path, generate in DOCUMENTS.items():
        (root / path).write_text(generate(), encoding="utf-8")


if __name__ == "__main__":
    main()
