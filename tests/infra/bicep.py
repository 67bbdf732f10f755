"""Bicep files, read by pycep, in the form that the checks ask for.

pycep's tree does not tell a name from a text of the same letters, so what is a name is read from the source: texts are
blanked there, what stands in their `${...}` stays.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pycep import BicepParser

ROOT = Path(__file__).resolve().parents[2]
INFRA = ROOT / "infra"
TEXT = re.compile(r"'''.*?'''|'(?:\\.|[^'\\])*'", re.DOTALL)


@dataclass(frozen=True)
class Template:
    """One Bicep file. `tree` is pycep's, `code` the source without comments and texts."""

    name: str
    source: str
    tree: dict[str, Any]
    code: str

    @property
    def parameters(self) -> dict[str, dict[str, Any]]:
        return dict(self.tree.get("parameters", {}))

    @property
    def outputs(self) -> dict[str, dict[str, Any]]:
        return dict(self.tree.get("outputs", {}))

    @property
    def modules(self) -> dict[str, dict[str, Any]]:
        return dict(self.tree.get("modules", {}))

    def resources(self, kind: str = "") -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
        """Name, declaration and body of each resource that this file makes; of one type, where `kind` names it."""
        for name, resource in self.tree.get("resources", {}).items():
            if not resource["existing"] and kind.lower() in ("", resource["type"].lower()):
                yield name, resource, body(resource["config"])


def body(config: dict[str, Any]) -> dict[str, Any]:
    """What stands in the braces, below any condition or loop."""
    while "config" in config and ("condition" in config or "loop_type" in config):
        config = config["config"]
    return config


def decorator(declared: dict[str, Any], kind: str) -> Any:
    return next((one["argument"] for one in declared["decorators"] if one["type"] == kind), None)


def walk(tree: object) -> Iterator[tuple[str, object]]:
    """Each member of the tree, at any depth."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield name, value
            yield from walk(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from walk(value)


def code_of(source: str) -> str:
    """The source with its texts blanked but for what is interpolated, and without comments."""

    def kept(match: re.Match[str]) -> str:
        return "'" + " ".join(re.findall(r"\$\{([^}]*)\}", match[0])) + "'"

    return re.sub(r"//.*", "", TEXT.sub(kept, source))


def parse(source: str, name: str = "planted.bicep") -> Template:
    without_comments = re.sub(r"^\s*//.*$", "", source, flags=re.MULTILINE)
    return Template(name, source, BicepParser().parse(text=source), code_of(without_comments))


@cache
def templates() -> dict[str, Template]:
    """All of infra/, by path."""
    return {
        str(file.relative_to(INFRA)): parse(
            file.read_text(encoding="utf-8"), str(file.relative_to(INFRA))
        )
        for file in sorted(INFRA.rglob("*.bicep"))
    }


def abbreviations() -> dict[str, str]:
    return dict(json.loads((INFRA / "abbreviations.json").read_text(encoding="utf-8")))


def uses(template: Template, name: str) -> int:
    """How often a name stands in the code, its own declaration and members of the same name left out."""
    code = re.sub(
        rf"^(param|var|resource|module|output) {name}\b", "", template.code, flags=re.MULTILINE
    )
    code = re.sub(rf"((?:^|[{{,])\s*){name}\s*:", r"\1:", code, flags=re.MULTILINE)
    return len(re.findall(rf"(?<![\w.]){name}\b", code))
