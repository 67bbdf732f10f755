"""Orchestration versions: which instances this app may run (`defaultVersion`, `versionMatchStrategy` of host.json)."""

from dataclasses import dataclass

MATCH_STRATEGIES = ("None", "Strict", "CurrentOrOlder")
FAILURE_STRATEGIES = ("Reject", "Fail")


@dataclass(frozen=True)
class VersionRule:
    """`failure` says what becomes of other instances: Reject leaves them as they are, Fail ends them."""

    current: str = ""
    strategy: str = "None"
    failure: str = "Reject"

    def accepts(self, version: str) -> bool:
        """>>> rule = VersionRule("1.2", "CurrentOrOlder")
        >>> [rule.accepts(version) for version in ("", "1.1", "1.2", "1.10", "2.0")]
        [True, True, True, False, False]
        """
        if self.strategy == "None":
            return True
        if self.strategy == "Strict":
            return version.lower() == self.current.lower()
        return _not_newer(version, self.current)


def _not_newer(version: str, current: str) -> bool:
    """Compared as numbers where both are such, else as text; no version is older than any."""
    if not version or not current:
        return not version
    try:
        return _numbers(version) <= _numbers(current)
    except ValueError:
        return version.lower() <= current.lower()


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]
