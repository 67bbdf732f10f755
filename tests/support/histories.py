"""Recordings of orchestration histories, which tests/durable/test_histories.py replays.

Run `python -m tests.support.histories [NAME ...]` to record them in tests/histories/.

A history represents an instance that is running while a new version is deployed. Keep existing
recordings, and record only new ones. Record all of them again only with a new `defaultVersion` in
host.json, after a change that running instances cannot survive.

Recordings are repeatable: time is virtual, one function runs at a time, and random IDs are
replaced by numbers.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from local.azurite import Azurite
from local.host import LocalHost
from local.simulator.faults import FaultResponse, Faults, Match
from tests.support.app_environment import ENVIRONMENT, ROOT, AppEnvironment, load_function_app
from tests.support.hooked_environment import BEHAVIOUR, Call, create_hooked_services, wrap_function

FOLDER = ROOT / "tests" / "histories"
START = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)
GUID = re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b|\b[0-9a-f]{32}\b")
SUFFIX = re.compile(r"(\d{8}t\d{6}z)-[a-z2-7]{4}\b")  # of a manual run, cycle or backfill
LINE = re.compile(r"(\.py\\+\"), line \d+,")
DEADLINE = "2026-11-22T06:00:00+00:00"


class SequentialEnvironment(AppEnvironment):
    """An environment whose host runs one activity or orchestrator execution at a time."""

    def start_host(self) -> LocalHost:
        return LocalHost(
            load_function_app(),
            clock=self.clock,
            early_timers=True,
            timers=False,
            serial=True,
            host_json=ROOT / "host.json",
            settings=ENVIRONMENT | {"EXPORT_SCHEDULE": self.settings.export_schedule},
            on_termination=self._replace_worker,
        ).start()


def create_request(key: str, **kwargs: Any) -> dict[str, Any]:
    """Return the input of export_run, with an ID that is the same in each recording."""
    key_slug = key.lower().replace("_", "-").replace("/", "-")
    return {
        "run_id": f"{key_slug}-20261121t060000z-aaaa",
        "key": key,
        "force": False,
        "requested_by": "function-key",
        "reason": "",
        "limits": {
            "deadline": DEADLINE,
            "max_rounds": 3,
            "max_concurrent_pages": 4,
        },
        **kwargs,
    }


def start_run(env: AppEnvironment, key: str) -> str:
    request = create_request(key)
    return env.host.start_orchestration("export_run", request, request["run_id"])


def cycle(env: AppEnvironment) -> None:
    """Record a cycle with two lanes and four landed runs."""
    env.host.fire_timer("start_scheduled_cycle")
    (cycle_id,) = [
        instance["instanceId"]
        for instance in env.host.instances()
        if instance["name"] == "export_cycle"
    ]
    env.host.wait(cycle_id, 60)


def long_wait(env: AppEnvironment) -> None:
    """Record more than 50 polls, after which `export_operation` has continued as new."""
    env.simulator.behaviour = replace(BEHAVIOUR, ready_after_polls=60, manifest="link")
    env.host.wait(start_run(env, "unbilled_reconciliation/2026-10/USD/full"), 60)


def waiting(env: AppEnvironment) -> None:
    """Record a run that is waiting for its operation."""
    env.simulator.behaviour = replace(BEHAVIOUR, operation_end="never", retry_after_seconds=900)
    start_run(env, "unbilled_reconciliation/2026-10/USD/full")
    env.host.advance(timedelta(hours=2))


def failing(env: AppEnvironment) -> None:
    """Record a lost operation, whose second start request is rejected."""
    env.simulator.faults = (
        Faults()
        .add(Match(operation="poll", nth=(2,)), FaultResponse(status=410))
        .add(Match(operation="start", nth=(2,)), FaultResponse(status=400))
    )
    env.host.wait(start_run(env, "unbilled_reconciliation/2026-10/USD/full"))


def platform_fault(env: AppEnvironment) -> None:
    """Record an activity that fails three times with an unexpected exception."""

    def raise_error(call: Call) -> Call:
        async def called(**arguments: Any) -> Any:
            raise ValueError("not one of the app's own errors")

        return called

    with wrap_function(env, "plan_copy", raise_error):
        env.host.wait(start_run(env, "unbilled_reconciliation/2026-10/USD/full"))


def two_rounds(env: AppEnvironment) -> None:
    """Record three pages; the second round copies one blob that was missing in the first."""
    key = "unbilled_usage/2026-10/USD/full"
    expected = env.simulator.fill(key, blobs=230, blob_bytes=64)
    env.simulator.faults = Faults().add(
        Match(operation="blob", path=f"*{expected.blobs[7].name}", nth=(1,)),
        FaultResponse(status=404),
    )
    env.host.wait(start_run(env, key), 120)


def retention(env: AppEnvironment) -> None:
    """Record a retention run that does not find any data to remove."""
    env.host.wait(start_run(env, "unbilled_reconciliation/2026-10/USD/full"))
    env.host.start_orchestration("retention", {"day": "2026-11-21"}, "retention-20261121")
    env.host.wait("retention-20261121")


def backfill(env: AppEnvironment) -> None:
    """Record a backfill of one month, with two lanes."""
    request = {"from": "2026-10", "to": "2026-10", "datasets": ["billed_reconciliation"]}
    env.host.wait(env.post("/api/backfills", request)["backfill_id"], 60)


RECORDINGS: dict[str, tuple[Callable[[AppEnvironment], None], dict[str, str]]] = {
    "cycle": (
        cycle,
        {
            "EXPORT_DATASETS": "billed_reconciliation,unbilled_reconciliation",
            "EXPORT_PARALLELISM": "2",
        },
    ),
    "long_wait": (long_wait, {}),
    "waiting": (waiting, {}),
    "failing": (failing, {}),
    "platform_fault": (platform_fault, {}),
    "two_rounds": (two_rounds, {}),
    "retention": (retention, {}),
    "backfill": (backfill, {}),
}


@contextmanager
def sequential_environment(azurite: Azurite, settings: dict[str, str]) -> Iterator[AppEnvironment]:
    with SequentialEnvironment(
        azurite,
        start=START,
        behaviour=BEHAVIOUR,
        storage_proxy=True,
        services_factory=create_hooked_services,
        **settings,  # type: ignore[arg-type]
    ) as env:
        yield env


def record(azurite: Azurite, name: str) -> list[dict[str, Any]]:
    """Return the instances of a recording, with the events of their last execution."""
    run_recording, settings = RECORDINGS[name]
    with sequential_environment(azurite, settings) as env:
        run_recording(env)
        instances = [
            {
                "orchestrator": instance["name"],
                "instance_id": instance["instanceId"],
                "status": instance["runtimeStatus"],
                "custom_status": instance["customStatus"],
                "events": env.host.history(instance["instanceId"]),
            }
            for instance in sorted(
                env.host.instances(),
                key=lambda instance: (instance["createdTime"], instance["name"]),
            )
        ]
        return list(normalize(instances))


def normalize(value: Any) -> Any:
    """Replace random IDs with numbers, and remove absolute paths and line numbers."""
    replacements: dict[str, str] = {}

    def number(match: re.Match[str]) -> str:
        text = match[0]
        if text not in replacements:
            digits = f"{len(replacements) + 1:032x}"
            replacements[text] = (
                digits
                if len(text) == 32
                else "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
            )
        return replacements[text]

    text = SUFFIX.sub(r"\1-aaaa", GUID.sub(number, json.dumps(value)))
    return json.loads(LINE.sub(r"\1, line 1,", text).replace(f"{ROOT}/", ""))


def main(names: list[str]) -> None:
    with Azurite() as azurite:
        for name in names or RECORDINGS:
            instances = record(azurite, name)
            lines = [json.dumps(instance, separators=(",", ":")) for instance in instances]
            (FOLDER / f"{name}.json").write_text(
                "[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8"
            )
            events = max(len(instance["events"]) for instance in instances)
            print(f"{name}: {len(instances)} instances, at most {events} events in one")


if __name__ == "__main__":
    main(sys.argv[1:])
