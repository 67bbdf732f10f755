"""Writes the documents that are made from code: `make docs`. A test says when one is out of date.

docs/errors.md       shared/errors.py
docs/openapi.json    triggers/openapi.py
"""

import re
from pathlib import Path

from local.azurite import ROOT
from shared.errors import CATALOGUE
from triggers.openapi import text as openapi

SECTION = re.compile(r'^    # (.+)$|^    "([a-z0-9_]+)": CatalogueEntry\(', re.MULTILINE)


def sections() -> dict[str, list[str]]:
    """The comments of the catalogue, each with the codes below it, in the order of the source."""
    source = (ROOT / "shared" / "errors.py").read_text(encoding="utf-8")
    found: dict[str, list[str]] = {}
    for title, code in SECTION.findall(source[source.index("CATALOGUE: dict") :]):
        if title:
            found[title] = []
        else:
            found[list(found)[-1]].append(code)
    return found


def errors() -> str:
    """docs/errors.md: an anchor for each code, so that an alarm can link to it."""
    lines = [
        "# Error codes",
        "",
        "Made from `shared/errors.py` by `make docs`; do not edit. The same code stands in the log, in the run's row, in the "
        "API's answer and in an alarm. A code never changes its meaning.",
        "",
    ]
    for title, codes in sections().items():
        lines += [f"## {title[0].upper()}{title[1:]}", ""]
        for code in codes:
            entry = CATALOGUE[code]
            lines += [
                f"### {code}",
                "",
                entry.cause,
                "",
                f"* **What to do.** {entry.remedy}",
                f"* **What was not done.** {entry.not_done}",
                f"* **Tried again?** {entry.retried}",
                "",
            ]
    return "\n".join(lines).rstrip() + "\n"


MADE = {"docs/errors.md": errors, "docs/openapi.json": openapi}


def main(root: Path = ROOT) -> None:
    for path, make in MADE.items():
        (root / path).write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main()
