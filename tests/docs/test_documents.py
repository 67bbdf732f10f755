"""In the documents, links and anchors resolve, make targets exist, and diagrams are valid."""

import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
IGNORED_FOLDERS = {".venv", "node_modules", ".state", ".git", ".pytest_cache", "dist"}


def documents() -> list[Path]:
    files_found = []
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in IGNORED_FOLDERS]
        files_found += [Path(folder, name) for name in files if name.endswith(".md")]
    return sorted(files_found)


DOCUMENTS = documents()
LINK = re.compile(r"\]\(([^)\s]+)\)")
MAKE_TARGET = re.compile(r"\bmake ([a-z][a-z-]*)")


def name_of(file: Path) -> str:
    return str(file.relative_to(ROOT))


def prose(file: Path) -> str:
    """Return the text without code blocks, because brackets in code blocks are not links."""
    return re.sub(
        r"^```.*?^```", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )


def code(file: Path) -> str:
    """Return the code blocks and inline code."""
    text = file.read_text(encoding="utf-8")
    return "\n".join(
        re.findall(r"^```.*?^```", text, flags=re.MULTILINE | re.DOTALL)
        + re.findall(r"`[^`\n]+`", prose(file))
    )


def anchors(file: Path) -> set[str]:
    """Return the anchors that GitHub creates from the headings."""
    headings = re.findall(r"^#+ (.+)$", prose(file), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def diagrams() -> list[tuple[str, str]]:
    diagrams_by_name = [
        (name_of(file), block)
        for file in DOCUMENTS
        for block in re.findall(
            r"^```mermaid\n(.*?)^```",
            file.read_text(encoding="utf-8"),
            flags=re.MULTILINE | re.DOTALL,
        )
    ]
    return [(f"{name}-{number}", block) for number, (name, block) in enumerate(diagrams_by_name)]


def targets() -> set[str]:
    return set(
        re.findall(
            r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE
        )
    )


@pytest.mark.parametrize("file", DOCUMENTS, ids=name_of)
def test_relative_links_resolve(file: Path) -> None:
    for link in LINK.findall(prose(file)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (file.parent / path).resolve() if path else file
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


@pytest.mark.parametrize("file", DOCUMENTS, ids=name_of)
def test_make_targets_in_document_exist(file: Path) -> None:
    assert set(MAKE_TARGET.findall(code(file))) <= targets()


def test_make_targets_have_description_and_are_phony() -> None:
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
def test_decision_record_is_listed_and_complete(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.startswith(f"# {file.name[:4]} ")
    assert "**Decided.**" in text and "**Why.**" in text
    assert file.name in (file.parent / "README.md").read_text(encoding="utf-8")


def test_documents_are_linked_from_readme() -> None:
    reached, queue = set(), [ROOT / "README.md"]
    while queue:
        file = queue.pop()
        if file not in reached and file.suffix == ".md":
            reached.add(file)
            links = (
                link.partition("#")[0]
                for link in LINK.findall(prose(file))
                if not re.match(r"[a-z]+:", link)
            )
            queue += [
                target
                for link in links
                if link and (target := (file.parent / link).resolve()).exists()
            ]
    unlinked = {name_of(file) for file in DOCUMENTS if file.is_relative_to(ROOT / "docs")} - {
        name_of(file) for file in reached
    }
    assert unlinked == set()


@pytest.mark.parametrize("block", [pytest.param(block, id=name) for name, block in diagrams()])
def test_diagram_uses_no_reserved_word_as_node_name(block: str) -> None:
    """`graph[Microsoft Graph]` is an error: GitHub shows a message instead of the diagram."""
    reserved = {
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
        text = re.sub(
            r"\[[^\]]*\]|\([^)]*\)|\"[^\"]*\"|--[^->]*-->|-\.[^.]*\.->", " ", "\n".join(lines)
        )
        names = {
            name
            for line in text.splitlines()
            if line.split() != ["end"]
            for name in re.findall(r"[\w-]*\w", line)
        }
        assert not names & reserved


def test_diagram_with_reserved_word_fails() -> None:
    with pytest.raises(AssertionError):
        test_diagram_uses_no_reserved_word_as_node_name(
            "flowchart LR\n  app -- asks --> graph[Microsoft Graph]\n"
        )
    test_diagram_uses_no_reserved_word_as_node_name(
        "flowchart LR\n  subgraph a\n    b -- to the end --> c[the end]\n  end\n"
    )
