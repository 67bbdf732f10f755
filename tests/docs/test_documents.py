"""Links resolve, anchors exist, commands that documents name are commands."""

import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PASSED_OVER = {".venv", "node_modules", ".state", ".git", ".pytest_cache", "dist"}


def documents() -> list[Path]:
    found = []
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [
            name for name in folders if name not in PASSED_OVER
        ]  # not even looked into: others write there
        found += [Path(folder, name) for name in files if name.endswith(".md")]
    return sorted(found)


DOCUMENTS = documents()
LINK = re.compile(r"\]\(([^)\s]+)\)")
MADE = re.compile(r"\bmake ([a-z][a-z-]*)")


def name_of(file: Path) -> str:
    return str(file.relative_to(ROOT))


def prose(file: Path) -> str:
    """The text without code blocks, where a bracket is no link."""
    return re.sub(
        r"^```.*?^```", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )


def code(file: Path) -> str:
    """Code blocks and `code`: what a reader may type."""
    text = file.read_text(encoding="utf-8")
    return "\n".join(
        re.findall(r"^```.*?^```", text, flags=re.MULTILINE | re.DOTALL)
        + re.findall(r"`[^`\n]+`", prose(file))
    )


def anchors(file: Path) -> set[str]:
    """As they are made from headings: lower case, what is no word goes, spaces become dashes."""
    headings = re.findall(r"^#+ (.+)$", prose(file), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def diagrams() -> list[tuple[str, str]]:
    found = [
        (name_of(file), block)
        for file in DOCUMENTS
        for block in re.findall(
            r"^```mermaid\n(.*?)^```",
            file.read_text(encoding="utf-8"),
            flags=re.MULTILINE | re.DOTALL,
        )
    ]
    return [(f"{name}-{number}", block) for number, (name, block) in enumerate(found)]


def targets() -> set[str]:
    return set(
        re.findall(
            r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE
        )
    )


@pytest.mark.parametrize("file", DOCUMENTS, ids=name_of)
def test_every_relative_link_resolves(file: Path) -> None:
    for link in LINK.findall(prose(file)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (file.parent / path).resolve() if path else file
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


@pytest.mark.parametrize("file", DOCUMENTS, ids=name_of)
def test_every_make_target_exists(file: Path) -> None:
    assert set(MADE.findall(code(file))) <= targets()


def test_every_target_says_what_it_does() -> None:
    lines = (ROOT / "Makefile").read_text(encoding="utf-8").splitlines()
    named = [line for line in lines if re.match(r"[a-z][a-z-]*:", line)]
    assert named and all(" ## " in line for line in named)
    phony = re.search(
        r"^\.PHONY:((?:.*\\\n)*.*)",
        (ROOT / "Makefile").read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )
    assert phony and set(phony[1].replace("\\", " ").split()) == targets()


@pytest.mark.parametrize("file", sorted((ROOT / "docs" / "adr").glob("0*.md")), ids=name_of)
def test_every_decision_is_listed_and_says_why(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.startswith(f"# {file.name[:4]} ")
    assert "**Decided.**" in text and "**Why.**" in text
    assert file.name in (file.parent / "README.md").read_text(encoding="utf-8")


def test_every_document_is_reached_from_the_first_page() -> None:
    reached, look = set(), [ROOT / "README.md"]
    while look:
        file = look.pop()
        if file not in reached and file.suffix == ".md":
            reached.add(file)
            links = (
                link.partition("#")[0]
                for link in LINK.findall(prose(file))
                if not re.match(r"[a-z]+:", link)
            )
            look += [
                target
                for link in links
                if link and (target := (file.parent / link).resolve()).exists()
            ]
    lost = {name_of(file) for file in DOCUMENTS if file.is_relative_to(ROOT / "docs")} - {
        name_of(file) for file in reached
    }
    assert not lost


@pytest.mark.parametrize("block", [pytest.param(block, id=name) for name, block in diagrams()])
def test_a_diagram_uses_no_word_of_mermaid_as_a_name(block: str) -> None:
    """`graph[Microsoft Graph]` is an error, and where the diagram was to be stands a message."""
    words = {
        "graph",
        "flowchart",
        "style",
        "class",
        "click",
        "classDef",
        "linkStyle",
        "default",
        "end",
    }
    first, *lines = block.splitlines()
    assert re.match(r"flowchart (LR|TD)$|sequenceDiagram$|stateDiagram-v2$", first)
    if first.startswith("flowchart"):
        bare = re.sub(
            r"\[[^\]]*\]|\([^)]*\)|\"[^\"]*\"|--[^->]*-->|-\.[^.]*\.->", " ", "\n".join(lines)
        )
        names = {
            name
            for line in bare.splitlines()
            if line.split() != ["end"]
            for name in re.findall(r"[\w-]*\w", line)
        }
        assert not names & words


def test_a_diagram_with_such_a_name_is_found() -> None:
    with pytest.raises(AssertionError):
        test_a_diagram_uses_no_word_of_mermaid_as_a_name(
            "flowchart LR\n  app -- asks --> graph[Microsoft Graph]\n"
        )
    test_a_diagram_uses_no_word_of_mermaid_as_a_name(
        "flowchart LR\n  subgraph a\n    b -- to the end --> c[the end]\n  end\n"
    )
