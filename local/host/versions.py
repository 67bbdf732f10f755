"""Orchestration versions: the rule that decides which instances this app can run.

The settings are `defaultVersion`, `versionMatchStrategy` and `versionFailureStrategy` in host.json.
"""

from dataclasses import dataclass

MATCH_STRATEGIES = ("None", "Strict", "CurrentOrOlder")
FAILURE_STRATEGIES = ("Reject", "Fail")


@dataclass(frozen=True)
class VersionRule:
    """The version rule of an app.

    `failure` applies to instances with other versions: with Reject, they do not run; with Fail,
    they fail.
    """

    current: str = ""
    strategy: str = "None"
    failure: str = "Reject"

    def accepts(self, version: str) -> bool:
        """Return whether the app can run an instance of this version.

        >>> rule = VersionRule("1.2", "CurrentOrOlder")
        >>> [rule.accepts(version) for version in ("", "1.1", "1.2", "1.10", "2.0")]
        [True, True, True, False, False]
        """
        if self.strategy == "None":
            return True
        if self.strategy == "Strict":
            return version.lower() == self.current.lower()
        return _not_newer(version, self.current)


def _not_newer(version: str, current: str) -> bool:
    """Compare two versions: as numbers if both are numeric, otherwise as text.

    An empty version is the oldest.
    """
    if not version or not current:
        return not version
    try:
        return _numbers(version) <= _numbers(current)
    except ValueError:
        return version.lower() <= current.lower()


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]
