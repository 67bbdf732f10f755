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
from tests.durable.scene import as_before, fields_of, folders_of, open_world
from tests.support.world import World

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
    act: Callable[[World], list[dict[str, Any]]]
    behaviour: dict[str, Any] = field(default_factory=dict)
    lands: bool = True
    counted: bool = True  # the requests are the same every time


def run_fault(azurite: Azurite, fault: RunFault) -> Told:
    with open_world(
        azurite, behaviour=Behaviour(retry_after_seconds=20, **fault.behaviour)
    ) as world:
        runs = fault.act(world)
        keys = sorted({run["key"] for run in runs})
        texts = json.dumps(runs) + "".join(
            path + body.decode("latin-1")
            for path, body in world.landed_files().items()
            if not path.startswith("data/") or path.endswith("_manifest.json")
        )
        assert "sig=" not in texts and "sig%3D" not in texts
        told = Told(
            ", ".join(
                one["outcome"] + (f" `{one['code']}`" if one["code"] else "") for one in runs
            ),
            len(world.simulator.storage_requests),
            sum(len(blob.content) for key in keys for blob in world.simulator.expected(key).blobs)
            if fault.lands
            else 0,
            sum(
                "_manifest.json" in blobs
                for key in keys
                for blobs in folders_of(world, key).values()
            ),
        )
        if fault.lands:
            for key in keys:
                world.assert_whole(key)
        return told


def keys(world: World, dataset: str = BILLED) -> list[str]:
    return [key for key in world.simulator.export_keys() if key.startswith(dataset)]


def land(world: World, key: str, **more: Any) -> dict[str, Any]:
    return world.land(**fields_of(key), **more)


def once(world: World) -> list[dict[str, Any]]:
    return [land(world, keys(world)[-1])]


def empty(world: World) -> list[dict[str, Any]]:
    world.simulator.restate(keys(world)[-1], share=0)
    return once(world)


def twice(world: World) -> list[dict[str, Any]]:
    return once(world) + once(world)


def two_at_once(world: World) -> list[dict[str, Any]]:
    started = [world.start(**fields_of(key)) for key in keys(world)[-2:]]
    return [world.finish(run_id) for run_id in started]


def month_twice(world: World) -> list[dict[str, Any]]:
    key = keys(world, "unbilled_reconciliation")[-1]
    return [land(world, key), land(world, key)]


def a_blob_fails(world: World) -> list[dict[str, Any]]:
    """Old data are landed; of the new ones a blob cannot be read; readers stay with the old until a run has landed all."""
    key = keys(world)[-1]
    first = land(world, key)
    world.simulator.restate(key)
    name = world.simulator.expected(key).blobs[0].name
    world.simulator.faults.add(Match(operation="blob", path=f"*{name}"), FaultResponse(status=404))
    failed = land(world, key)
    latest = world.landed_files()[f"catalogue/{key_path(ExportKey.parse(key))}/latest.json"]
    assert json.loads(latest)["version"] == first["version"]
    as_before(world)
    return [first, failed, land(world, key)]


def gone_in_between(world: World) -> list[dict[str, Any]]:
    """The signature ends within the copy and the operation is forgotten: a new export, and only what is missing."""
    key = keys(world)[-1]
    world.simulator.fill(key, blobs=6, blob_bytes=2048)
    copied: list[str] = []
    world.simulator.faults.add(
        Match(operation="blob", method="GET", from_nth=4), FaultResponse(status=403)
    )
    run_id = world.start(**fields_of(key))
    world.host.run_until(lambda: sum(one.fault for one in world.simulator.storage_requests) >= 3)
    world.simulator.expire_operations()
    world.simulator.faults = Faults()
    run = world.finish(run_id)
    copied += [
        one.path
        for one in world.simulator.storage_requests
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
