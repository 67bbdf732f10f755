"""Members of host.json whose incorrect values would be noticed only in production."""

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
HOST: dict[str, Any] = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))
DURABLE: dict[str, Any] = HOST["extensions"]["durableTask"]


def test_extension_bundle_supports_orchestration_versions_and_tracing_v2() -> None:
    minimum = re.fullmatch(r"\[(\d+)\.(\d+)\.0, 5\.0\.0\)", HOST["extensionBundle"]["version"])
    assert minimum and (int(minimum[1]), int(minimum[2])) >= (4, 30)
    assert DURABLE["tracing"]["version"] == "V2" and DURABLE["tracing"]["distributedTracingEnabled"]


def test_versioning_lets_running_instances_continue_after_deployment() -> None:
    assert DURABLE["hubName"] == "%TASK_HUB_NAME%"
    assert (DURABLE["defaultVersion"], DURABLE["versionMatchStrategy"]) == ("1.0", "CurrentOrOlder")


def test_tracing_excludes_inputs_and_outputs() -> None:
    assert not DURABLE["tracing"]["traceInputsAndOutputs"]
    assert not DURABLE["storeInputsInOrchestrationHistory"]


def test_durable_settings_are_where_the_extension_reads_them() -> None:
    assert DURABLE["storageProvider"]["maxQueuePollingInterval"] == "00:00:10"
    assert {"maxQueuePollingInterval", "extendedSessionsEnabled"}.isdisjoint(DURABLE)


def test_sampling_excludes_the_types_of_our_events() -> None:
    excluded = HOST["logging"]["applicationInsights"]["samplingSettings"]["excludedTypes"]
    assert {"Request", "Exception", "Event", "Trace"} <= set(excluded.split(";"))


def test_libraries_that_log_urls_log_only_warnings() -> None:
    levels = HOST["logging"]["logLevel"]
    libraries = ("azure", "httpx", "httpcore", "aiohttp", "msal", "urllib3")
    assert {levels[name] for name in libraries} == {"Warning"}
