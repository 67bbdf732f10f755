"""Reads Bicep files with pycep.

The syntax tree from pycep does not distinguish identifiers from identical strings. Identifiers are
therefore searched for in the source after the content of strings, except for `${...}`, has been
removed.
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
STRING = re.compile(r"'''.*?'''|'(?:\\.|[^'\\])*'", re.DOTALL)


@dataclass(frozen=True)
class Template:
    """A Bicep file.

    Attributes:
        name: Path of the file, relative to infra/.
        source: Text of the file.
        tree: Syntax tree from pycep.
        code: Source without comments and without the content of strings.
    """

    name: str
    source: str
    tree: dict[str, Any]
    code: str

    @property
    def parameters(self) -> dict[str, dict[str, Any]]:
        """The parameters, by name."""
        return dict(self.tree.get("parameters", {}))

    @property
    def outputs(self) -> dict[str, dict[str, Any]]:
        """The outputs, by name."""
        return dict(self.tree.get("outputs", {}))

    @property
    def modules(self) -> dict[str, dict[str, Any]]:
        """The modules that the file deploys, by symbolic name."""
        return dict(self.tree.get("modules", {}))

    def resources(self, kind: str = "") -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
        """Yield the symbolic name, declaration and body of each resource that the file creates.

        If `kind` is a resource type, only resources of this type are returned.
        """
        for name, resource in self.tree.get("resources", {}).items():
            if not resource["existing"] and kind.lower() in ("", resource["type"].lower()):
                yield name, resource, get_body(resource["config"])


def get_body(config: dict[str, Any]) -> dict[str, Any]:
    """Return the object of a declaration, without its condition or loop."""
    while "config" in config and ("condition" in config or "loop_type" in config):
        config = config["config"]
    return config


def get_decorator(declaration: dict[str, Any], kind: str) -> Any:
    """Return the argument of a decorator, or None if the declaration does not have it."""
    return next(
        (
            decorator["argument"]
            for decorator in declaration["decorators"]
            if decorator["type"] == kind
        ),
        None,
    )


def walk(tree: object) -> Iterator[tuple[str, object]]:
    """Yield the name and value of each member of a syntax tree, at any depth."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield name, value
            yield from walk(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from walk(value)


def remove_comments_and_strings(source: str) -> str:
    """Return the source without comments and strings; interpolated expressions remain."""

    def keep_expressions(match: re.Match[str]) -> str:
        return "'" + " ".join(re.findall(r"\$\{([^}]*)\}", match[0])) + "'"

    return re.sub(r"//.*", "", STRING.sub(keep_expressions, source))


def parse_template(source: str, name: str = "test.bicep") -> Template:
    """Parse the text of a Bicep file."""
    without_comments = re.sub(r"^\s*//.*$", "", source, flags=re.MULTILINE)
    tree = BicepParser().parse(text=source)
    return Template(name, source, tree, remove_comments_and_strings(without_comments))


@cache
def load_templates() -> dict[str, Template]:
    """Parse all Bicep files in infra/ and return them by relative path."""
    paths = {str(file.relative_to(INFRA)): file for file in sorted(INFRA.rglob("*.bicep"))}
    return {
        path: parse_template(file.read_text(encoding="utf-8"), path) for path, file in paths.items()
    }


def load_abbreviations() -> dict[str, str]:
    """Return the prefixes of resource names, by kind of resource."""
    return dict(json.loads((INFRA / "abbreviations.json").read_text(encoding="utf-8")))


def count_uses(template: Template, name: str) -> int:
    """Return how often an identifier is used, without its declaration and equal property names."""
    code = re.sub(
        rf"^(param|var|resource|module|output) {name}\b", "", template.code, flags=re.MULTILINE
    )
    code = re.sub(rf"((?:^|[{{,])\s*){name}\s*:", r"\1:", code, flags=re.MULTILINE)
    return len(re.findall(rf"(?<![\w.]){name}\b", code))
