"""The mistakes that comparable tools made, tried on the whole app: what was wrong there, and what must happen here."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from local.azurite import Azurite
from local.simulator.behaviour import Behaviour
from local.simulator.faults import FaultResponse, Faults, Match
from shared.exports import ExportKey
from shared.landing.layout import key_path
from tests.support.app_environment import AppEnvironment
from tests.support.hooked_environment import open_hooked_environment, reset_environment
from tests.support.run_state import key_fields, list_version_folders

BILLED = "billed_reconciliation"


@dataclass(frozen=True)
class Told:
    """`requests` and `bytes` to and from the source, `versions` with a marker, all for the keys of the fault."""

    outcome: str
    requests: int
    bytes: int
    versions: int


@dataclass(frozen=True)
class RunFault:
    """`act` returns the runs it waited for, as the API tells of them; then their keys must be whole, if it `lands`."""

    where: str
    mistake: str
    here: str
    act: Callable[[AppEnvironment], list[dict[str, Any]]]
    behaviour: dict[str, Any] = field(default_factory=dict)
    lands: bool = True
    counted: bool = True  # the requests are the same every time


def run_fault(azurite: Azurite, fault: RunFault) -> Told:
    with open_hooked_environment(
        azurite, behaviour=Behaviour(retry_after_seconds=20, **fault.behaviour)
    ) as env:
        runs = fault.act(env)
        keys = sorted({run["key"] for run in runs})
        texts = json.dumps(runs) + "".join(
            path + body.decode("latin-1")
            for path, body in env.landed_files().items()
            if not path.startswith("data/") or path.endswith("_manifest.json")
        )
        assert "sig=" not in texts and "sig%3D" not in texts
        told = Told(
            ", ".join(
                one["outcome"] + (f" `{one['code']}`" if one["code"] else "") for one in runs
            ),
            len(env.simulator.storage_requests),
            sum(len(blob.content) for key in keys for blob in env.simulator.expected(key).blobs)
            if fault.lands
            else 0,
            sum(
                "_manifest.json" in blobs
                for key in keys
                for blobs in list_version_folders(env, key).values()
            ),
        )
        if fault.lands:
            for key in keys:
                env.assert_landed(key)
        return told


def keys(env: AppEnvironment, dataset: str = BILLED) -> list[str]:
    return [key for key in env.simulator.export_keys() if key.startswith(dataset)]


def land(env: AppEnvironment, key: str, **more: Any) -> dict[str, Any]:
    return env.land(**key_fields(key), **more)


def once(env: AppEnvironment) -> list[dict[str, Any]]:
    return [land(env, keys(env)[-1])]


def empty(env: AppEnvironment) -> list[dict[str, Any]]:
    env.simulator.restate(keys(env)[-1], share=0)
    return once(env)


def twice(env: AppEnvironment) -> list[dict[str, Any]]:
    return once(env) + once(env)


def two_at_once(env: AppEnvironment) -> list[dict[str, Any]]:
    started = [env.start(**key_fields(key)) for key in keys(env)[-2:]]
    return [env.finish(run_id) for run_id in started]


def month_twice(env: AppEnvironment) -> list[dict[str, Any]]:
    key = keys(env, "unbilled_reconciliation")[-1]
    return [land(env, key), land(env, key)]


def a_blob_fails(env: AppEnvironment) -> list[dict[str, Any]]:
    """Old data are landed; of the new ones a blob cannot be read; readers stay with the old until a run has landed all."""
    key = keys(env)[-1]
    first = land(env, key)
    env.simulator.restate(key)
    name = env.simulator.expected(key).blobs[0].name
    env.simulator.faults.add(Match(operation="blob", path=f"*{name}"), FaultResponse(status=404))
    failed = land(env, key)
    latest = env.landed_files()[f"catalogue/{key_path(ExportKey.parse(key))}/latest.json"]
    assert json.loads(latest)["version"] == first["version"]
    reset_environment(env)
    return [first, failed, land(env, key)]


def gone_in_between(env: AppEnvironment) -> list[dict[str, Any]]:
    """The signature ends within the copy and the operation is forgotten: a new export, and only what is missing."""
    key = keys(env)[-1]
    env.simulator.fill(key, blobs=6, blob_bytes=2048)
    copied: list[str] = []
    env.simulator.faults.add(
        Match(operation="blob", method="GET", from_nth=4), FaultResponse(status=403)
    )
    run_id = env.start(**key_fields(key))
    env.host.run_until(lambda: sum(one.fault for one in env.simulator.storage_requests) >= 3)
    env.simulator.expire_operations()
    env.simulator.faults = Faults()
    run = env.finish(run_id)
    copied += [
        one.path
        for one in env.simulator.storage_requests
        if one.method == "GET" and one.status == 206
    ]
    assert len(copied) == len(set(copied)) and run["operations"] == 2, (run["operations"], copied)
    return [run]


RUNS = [
    RunFault(
        "R1", "one slot for the pending operation", "two exports wait side by side", two_at_once
    ),
    RunFault(
        "R2", "at most five polls", "eight looks before it is ready", once, {"ready_after_polls": 8}
    ),
    RunFault(
        "R3",
        "Retry-After read from the body",
        "the header has a date",
        once,
        {"retry_after": "http_date"},
    ),
    RunFault(
        "R4",
        "a failed operation asked for again at once",
        "every operation fails",
        once,
        {"operation_end": "failed_other"},
        lands=False,
    ),
    RunFault(
        "R5",
        "the status asked for once",
        "not ready at the first look",
        once,
        {"ready_after_polls": 2},
    ),
    RunFault(
        "R6", "an accumulator that outlives the run: rows twice", "the same export twice", twice
    ),
    RunFault("R8", "the same month ingested twice", "an unbilled month twice", month_twice),
    RunFault(
        "R9",
        "the eTag saved before the data",
        "new data of which a blob fails, then not",
        a_blob_fails,
    ),
    RunFault(
        "R14",
        "only the first gzip member read",
        "every blob of several members",
        once,
        {"compression": "members"},
    ),
    RunFault(
        "R15",
        "unpacked on the way",
        "every blob with Content-Encoding gzip",
        once,
        {"content_encoding": "gzip"},
    ),
    RunFault(
        "R18",
        "an empty export crashes the pipeline",
        "a manifest without blobs",
        empty,
        {"empty_export": "zero_blobs"},
        lands=False,
    ),
    RunFault("R18", "the same", "a blob of no bytes", empty, {"empty_export": "no_bytes"}),
    RunFault(
        "4.3",
        "the signature ends and the operation is forgotten",
        "within the copy of six blobs",
        gone_in_between,
        counted=False,
    ),
]
