"""Reads host.json and local.settings.json, and sets environment variables."""

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import UnsupportedAppError
from .versions import FAILURE_STRATEGIES, MATCH_STRATEGIES, VersionRule

log = logging.getLogger(__name__)
DEFAULT_LIMIT = 20
DEFAULT_TIMEOUT_SECONDS = 1800.0
DEFAULT_HUB = "TestHubName"
_SETTING = re.compile(r"%([^%\s]+)%")
_TIME_SPAN = re.compile(r"(?:(\d+)\.)?(\d{1,2}):(\d{1,2}):(\d{1,2}(?:\.\d{1,7})?)")
_HUB_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]{2,44}")
_DURABLE_OPTIONS = frozenset(
    {
        "hubname",
        "defaultversion",
        "versionmatchstrategy",
        "versionfailurestrategy",
        "maxconcurrentactivityfunctions",
        "maxconcurrentorchestratorfunctions",
        "storageprovider",
        "tracing",
        "maxconcurrententityfunctions",
        "maxentityoperationbatchsize",
        "extendedsessionsenabled",
        "extendedsessionidletimeoutinseconds",
        "usegracefulshutdown",
        "localrpcendpointenabled",
        "usetablepartitionmanagement",
        "storelargemessages",
        "maxgrpcmessagesizeinbytes",
        "storeinputsinorchestrationhistory",
    }
)
"""Options of `extensions.durableTask`, in lower case, that do not cause a warning.

The local host either supports them or does not need them.
"""


@dataclass(frozen=True)
class HostOptions:
    """The options in host.json that the local host supports."""

    route_prefix: str = "api"
    hub_name: str = DEFAULT_HUB
    connection_name: str = "AzureWebJobsStorage"
    versions: VersionRule = field(default_factory=VersionRule)
    max_activities: int = DEFAULT_LIMIT
    max_orchestrators: int = DEFAULT_LIMIT
    function_timeout_seconds: float | None = DEFAULT_TIMEOUT_SECONDS  # None: no limit


def read_host_json(
    source: Path | Mapping[str, Any] | None, environ: Mapping[str, str]
) -> HostOptions:
    """Read the options of host.json.

    Args:
        source: The file, which need not exist, or its content.
        environ: Settings for `%NAME%` references.

    Raises:
        UnsupportedAppError: If the file is invalid or contains an unsupported value.
    """
    content: Mapping[str, Any] = {}
    if isinstance(source, Path):
        if source.exists():
            content = _read_json(source)
    elif source is not None:
        content = source
    extensions = _section(content, "extensions")
    durable, http = _section(extensions, "durableTask"), _section(extensions, "http")
    storage = _section(durable, "storageProvider")
    if str(storage.get("type", "azurestorage")).lower() not in ("azurestorage", "azure_storage"):
        log.warning(
            "host.json specifies the storage provider %s; the local host always uses SQLite",
            storage["type"],
        )
    if unknown := sorted(key for key in durable if key.lower() not in _DURABLE_OPTIONS):
        log.warning(
            "host.json: the local host ignores extensions.durableTask.%s", ", ".join(unknown)
        )
    hub_name = resolve(str(durable.get("hubName", DEFAULT_HUB)), environ, "host.json: hubName")
    if not _HUB_NAME.fullmatch(hub_name):
        raise UnsupportedAppError(
            f"host.json: the task hub name '{hub_name}' is not valid. "
            "It must start with a letter and contain 3 to 45 letters and digits."
        )
    return HostOptions(
        route_prefix=str(http.get("routePrefix", "api")).strip("/"),
        hub_name=hub_name,
        connection_name=str(
            storage.get(
                "connectionName", storage.get("connectionStringName", "AzureWebJobsStorage")
            )
        ),
        versions=VersionRule(
            str(durable.get("defaultVersion") or ""),
            _choice(durable, "versionMatchStrategy", MATCH_STRATEGIES),
            _choice(durable, "versionFailureStrategy", FAILURE_STRATEGIES),
        ),
        max_activities=_limit(durable, "maxConcurrentActivityFunctions"),
        max_orchestrators=_limit(durable, "maxConcurrentOrchestratorFunctions"),
        function_timeout_seconds=_timeout(content.get("functionTimeout")),
    )


def _timeout(text: Any) -> float | None:
    """Convert `functionTimeout`, a TimeSpan, to seconds. `-1` means no limit.

    >>> _timeout("00:10:00"), _timeout("1.00:00:00.5"), _timeout("-1"), _timeout(None)
    (600.0, 86400.5, None, 1800.0)
    """
    if text is None:
        return DEFAULT_TIMEOUT_SECONDS
    if str(text) in ("-1", "-00:00:01"):
        return None
    match = _TIME_SPAN.fullmatch(str(text))
    parts = [float(part or 0) for part in match.groups()] if match else [0.0] * 4
    seconds = sum(part * size for part, size in zip(parts, (86_400, 3_600, 60, 1), strict=True))
    if not seconds:
        raise UnsupportedAppError(
            "host.json: functionTimeout must be a time span such as 00:10:00, or -1 for no limit, "
            f"not {text!r}."
        )
    return seconds


def _limit(durable: Mapping[str, Any], name: str) -> int:
    value = durable.get(name, DEFAULT_LIMIT)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UnsupportedAppError(
            f"host.json: extensions.durableTask.{name} must be a positive integer, not {value!r}."
        )
    return value


def _choice(durable: Mapping[str, Any], name: str, allowed: tuple[str, ...]) -> str:
    value = str(durable.get(name, allowed[0]))
    for choice in allowed:
        if value.lower() == choice.lower():
            return choice
    raise UnsupportedAppError(
        f"host.json: extensions.durableTask.{name} must be one of {', '.join(allowed)}, "
        f"not {value!r}."
    )


def _section(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = content.get(name) or {}
    if not isinstance(section, Mapping):
        raise UnsupportedAppError(f"host.json: {name} must be an object.")
    return section


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise UnsupportedAppError(f"{path.name} is not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise UnsupportedAppError(f"{path.name} must contain a JSON object.")
    return content


def resolve(text: str, environ: Mapping[str, str], where: str) -> str:
    """Replace `%NAME%` with the value of the setting `NAME`.

    >>> resolve("%HUB%", {"HUB": "Billing"}, "host.json: hubName")
    'Billing'
    """

    def value(match: re.Match[str]) -> str:
        if match[1] not in environ:
            raise UnsupportedAppError(
                f"{where} refers to the setting {match[1]}, which is not set."
            )
        return environ[match[1]]

    return _SETTING.sub(value, text)


def read_local_settings(path: Path) -> dict[str, str]:
    """Return `Values` of local.settings.json, or an empty dictionary if the file does not exist."""
    if not path.exists():
        return {}
    content = _read_json(path)
    if content.get("IsEncrypted"):
        raise UnsupportedAppError(
            "local.settings.json is encrypted. The local host cannot read encrypted files."
        )
    return {str(name): str(value) for name, value in (content.get("Values") or {}).items()}


@contextmanager
def environment(defaults: Mapping[str, str], overrides: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables and restore the previous values on exit.

    `defaults` apply only to variables that are not set. `overrides` always apply.
    """
    variables = {
        **{name: value for name, value in defaults.items() if name not in os.environ},
        **overrides,
    }
    previous = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in previous.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
