"""host.json, member by member where a wrong value would be found only in production."""

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
HOST: dict[str, Any] = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))
DURABLE: dict[str, Any] = HOST["extensions"]["durableTask"]


def test_the_bundle_knows_orchestration_versions_and_tracing_v2() -> None:
    floor = re.fullmatch(r"\[(\d+)\.(\d+)\.0, 5\.0\.0\)", HOST["extensionBundle"]["version"])
    assert floor and (int(floor[1]), int(floor[2])) >= (4, 30)
    assert DURABLE["tracing"]["version"] == "V2" and DURABLE["tracing"]["distributedTracingEnabled"]


def test_running_instances_survive_a_deployment() -> None:
    assert DURABLE["hubName"] == "%TASK_HUB_NAME%"
    assert (DURABLE["defaultVersion"], DURABLE["versionMatchStrategy"]) == ("1.0", "CurrentOrOlder")


def test_inputs_and_outputs_are_not_traced() -> None:
    assert (
        not DURABLE["tracing"]["traceInputsAndOutputs"]
        and not DURABLE["storeInputsInOrchestrationHistory"]
    )


def test_what_the_extension_would_ignore_or_refuse_is_in_its_place() -> None:
    assert (
        "maxQueuePollingInterval" not in DURABLE
        and DURABLE["storageProvider"]["maxQueuePollingInterval"] == "00:00:10"
    )
    assert "extendedSessionsEnabled" not in DURABLE


def test_no_event_of_ours_is_sampled_away() -> None:
    excluded = set(
        HOST["logging"]["applicationInsights"]["samplingSettings"]["excludedTypes"].split(";")
    )
    assert {"Request", "Exception", "Event", "Trace"} <= excluded


def test_libraries_that_log_addresses_are_quiet() -> None:
    quiet = HOST["logging"]["logLevel"]
    assert all(
        quiet[name] == "Warning"
        for name in ("azure", "httpx", "httpcore", "aiohttp", "msal", "urllib3")
    )
