"""Route templates for HTTP triggers: `runs/{run_id}/blobs`, `{x?}`, `{x:int}`, `{*rest}`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import unquote

from .errors import UnsupportedAppError

_CONSTRAINTS = {
    "int": r"[+-]?\d+",
    "guid": r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
    "alpha": r"[A-Za-z]+",
    "bool": r"(?i:true|false)",
}
_PARAMETER = re.compile(
    r"\{(?P<rest>\*{0,2})(?P<name>\w+)(?::(?P<constraint>[^}?]+))?(?P<optional>\?)?\}"
)
_FIXED, _CONSTRAINED, _FREE, _REST = range(4)

Target = TypeVar("Target")


@dataclass(frozen=True)
class Segment:
    """A segment in a route template."""

    kind: int
    text: str  # the fixed text in lower case, or the name of the parameter
    pattern: str = ""
    optional: bool = False


@dataclass(frozen=True)
class Route:
    """A route template, including the prefix."""

    template: str
    segments: tuple[Segment, ...]

    @classmethod
    def parse(cls, template: str, prefix: str, function: str) -> "Route":
        """Parse the template of a function.

        Raises:
            UnsupportedAppError: If the template is reserved or uses an unsupported feature.
        """
        whole = "/".join(part for part in (prefix, template.strip("/")) if part)
        if not prefix and template.strip("/").split("/")[0].lower() in ("admin", "runtime"):
            raise UnsupportedAppError(
                f"Function '{function}': routes must not start with 'admin' or 'runtime'."
            )
        return cls(whole, tuple(_segment(part, function) for part in whole.split("/") if part))

    @property
    def shape(self) -> str:
        """A key that is equal for routes that match the same paths."""
        return "/".join(
            segment.text if segment.kind == _FIXED else f"{{{segment.kind}{segment.pattern}}}"
            for segment in self.segments
        )

    @property
    def precedence(self) -> tuple[int, ...]:
        """The sort key: fixed segments, then constrained parameters, then other parameters."""
        return tuple(segment.kind for segment in self.segments)

    def match(self, path: str) -> dict[str, str] | None:
        """Return the route parameters if the percent-encoded path matches, otherwise None."""
        parts = [part for part in path.split("/") if part]
        parameters: dict[str, str] = {}
        for position, segment in enumerate(self.segments):
            if segment.kind == _REST:
                parameters[segment.text] = unquote("/".join(parts[position:]))
                return parameters
            if position >= len(parts):
                if segment.optional:
                    continue
                return None
            part = unquote(parts[position])
            if segment.kind == _FIXED:
                if part.lower() != segment.text:
                    return None
            elif segment.pattern and not re.fullmatch(segment.pattern, part):
                return None
            else:
                parameters[segment.text] = part
        return parameters if len(parts) <= len(self.segments) else None


def _segment(part: str, function: str) -> Segment:
    if "{" not in part and "}" not in part:
        return Segment(_FIXED, unquote(part).lower())
    match = _PARAMETER.fullmatch(part)
    if match is None:
        raise UnsupportedAppError(
            f"Function '{function}': the local host does not support the route segment '{part}'."
        )
    if match["rest"]:
        return Segment(_REST, match["name"], optional=True)
    constraint = match["constraint"]
    if constraint is not None and constraint not in _CONSTRAINTS:
        raise UnsupportedAppError(
            f"Function '{function}': the local host does not support the route constraint "
            f"'{constraint}'. Supported: {', '.join(_CONSTRAINTS)}."
        )
    kind = _FREE if constraint is None else _CONSTRAINED
    return Segment(
        kind,
        match["name"],
        _CONSTRAINTS.get(constraint or "", ""),
        bool(match["optional"]),
    )


def best_match(
    routes: Sequence[tuple[Route, Target]], path: str
) -> list[tuple[Target, dict[str, str]]]:
    """Return the targets and parameters of all matching routes, starting with the most specific."""
    matches = [
        (route, target, parameters)
        for route, target in routes
        if (parameters := route.match(path)) is not None
    ]
    return [
        (target, parameters)
        for _, target, parameters in sorted(matches, key=lambda match: match[0].precedence)
    ]
