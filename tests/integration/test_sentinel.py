"""No secret is written down: every place where the app leaves something is read as bytes and searched for every signature
that was minted, for the accounts' keys, and for texts that only ever come with a secret. A planted leak must be found.
"""

import base64
import binascii
import io
import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote_to_bytes

import pytest
from azure.data.tables import TableServiceClient
from azure.storage.blob import BlobServiceClient

from local.azurite import Azurite
from local.host.http_messages import HostResponse
from local.simulator.faults import FaultResponse, Faults, Match, Rule
from local.simulator.storage import BillingStorage
from tests.durable.scene import (
    BEHAVIOUR,
    Call,
    around,
    export_request,
    fields_of,
    open_world,
    restart,
)
from tests.support.world import World

FORBIDDEN = ("sig=", "key=", "AccountKey", "Bearer ")
BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{12,}={0,2}")
OURS = ("partner_billing", "local", "tests")
KEY = "unbilled_usage/2026-10/USD/full"


# -- the scanner


def readings(content: bytes) -> Iterator[bytes]:
    """The bytes as they are, and as whoever knows their encoding would read them."""
    yield content
    unescaped = re.sub(
        rb"\\u00([0-9a-fA-F]{2})", lambda found: bytes.fromhex(found[1].decode()), content
    )
    for text in {content, unescaped}:
        once = unquote_to_bytes(text)
        yield from (text, once, unquote_to_bytes(once))
        for part in unpacked(once):
            yield from (part, unquote_to_bytes(part))


def unpacked(content: bytes) -> Iterator[bytes]:
    """Every run of base64, decoded from each of the four places where its first group may begin."""
    for found in BASE64.finditer(content):
        run = found[0].rstrip(b"=").replace(b"-", b"+").replace(b"_", b"/")
        for start in range(4):
            part = run[start:]
            try:
                yield base64.b64decode(part + b"=" * (-len(part) % 4))
            except binascii.Error:
                yield base64.b64decode(part[:-1])  # one character too many to be base64


def find(places: Mapping[str, bytes], secrets: Mapping[str, str]) -> list[tuple[str, str]]:
    """Where which secret or forbidden text is: (place, what). `secrets`: name -> secret, as it is before any encoding."""
    wanted = {
        **{
            name: {
                form.encode().lower()
                for form in (secret, quote(secret, safe=""), quote(quote(secret, safe=""), safe=""))
            }
            for name, secret in secrets.items()
        },
        **{text: {text.encode().lower()} for text in FORBIDDEN},
    }
    hits = []
    for place, content in places.items():
        read = b"\0".join(readings(content)).lower()
        hits += [
            (place, name) for name, forms in wanted.items() if any(form in read for form in forms)
        ]
    return hits


SECRET = "uN3/Xq+1o2p4lYJ8b0aVwTz7dKfR5sHcGmE6iQeOZkA="


@pytest.mark.parametrize(
    "content",
    [
        SECRET.encode(),
        f"x?sv=1&sig={quote(SECRET, safe='')}".encode(),
        quote(quote(SECRET, safe=""), safe="").encode(),
        json.dumps({"a": SECRET}).encode(),
        SECRET.encode().replace(b"+", b"\\u002b").replace(b"=", b"\\u003D"),
        *(base64.b64encode(b"x" * shift + SECRET.encode() + b"tail") for shift in range(4)),
        base64.urlsafe_b64encode(quote(SECRET, safe="").encode()),
        quote(base64.b64encode(SECRET.encode()), safe="").encode(),
    ],
)
def test_the_scanner_finds_a_secret_in_every_encoding(content: bytes) -> None:
    places = {"clean": b"nothing", "here": b"\x00\xff before " + content + b" behind"}
    assert ("here", "signature") in find(places, {"signature": SECRET})


@pytest.mark.parametrize(
    "text",
    [
        "https://a.example/b?sv=1&sig=abc",
        "https%3A%2F%2Fa.example%2Fb%3Fsig%3Dabc",
        "AccountName=a;AccountKey=b",
        "x-functions-key=abc",
        "Authorization: Bearer eyJ0",
        "authorization: bearer eyJ0",
        "SIG=abcdef",
    ],
)
def test_the_scanner_finds_texts_that_come_with_a_secret(text: str) -> None:
    assert find({"here": text.encode()}, {}) and find({"here": base64.b64encode(text.encode())}, {})


def test_the_scanner_leaves_the_innocent_alone() -> None:
    innocent = {
        "run_id": "unbilled-usage-2026-10-usd-full-20261121t060000z-x7qa",
        "key": KEY,
        "path": "data/currency_code=USD/x",
    }
    assert (
        find(
            {"here": json.dumps(innocent).encode(), "bytes": bytes(range(256)) * 64},
            {"signature": SECRET},
        )
        == []
    )


# -- the places


@dataclass(frozen=True)
class MintingStorage(BillingStorage):
    """Remembers every signature that Microsoft's side gave out."""

    minted: list[str] = field(default_factory=list, repr=False, compare=False)

    def sas(self, container: str, lifetime_seconds: float) -> str:
        sas = super().sas(container, lifetime_seconds)
        self.minted.append(sas)
        return sas


@pytest.fixture(scope="module")
def own_azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    """On disk, and nobody else's: everything in it is of these tests."""
    with Azurite(location=tmp_path_factory.mktemp("azurite")) as azurite:
        yield azurite


@contextmanager
def logs() -> Iterator[io.StringIO]:
    """Ours from DEBUG on, everybody's from INFO on, as far as the app lets libraries speak; with tracebacks."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
    before = {name: logging.getLogger(name).level for name in ("", *OURS)}
    logging.getLogger().addHandler(handler)
    for name in before:
        logging.getLogger(name).setLevel(logging.DEBUG if name else logging.INFO)
    try:
        yield written
    finally:
        logging.getLogger().removeHandler(handler)
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def watched_world(
    azurite: Azurite, tmp_path: Path, **more: Any
) -> Iterator[tuple[World, list[bytes], MintingStorage]]:
    """A world on disk, with all of its HTTP answers and all signatures of its billing storage."""
    world = open_world(azurite, state_dir=tmp_path / "host", **more)
    storage = world.simulator.storage = MintingStorage(azurite.billing.connection_string)
    answers: list[bytes] = []
    open_host = world.open_host

    def watched() -> Any:
        host = open_host()
        ask = host.request

        def request(*arguments: Any, **named: Any) -> HostResponse:
            answer = ask(*arguments, **named)
            answers.append(repr(answer.headers).encode() + b"\n" + (answer.body or b""))
            return answer

        host.request = request  # type: ignore[method-assign]
        return host

    world.open_host = watched  # type: ignore[method-assign]
    with world:
        yield world, answers, storage


def tables_and_blobs(azurite: Azurite) -> dict[str, bytes]:
    """What lies in the partner's and the host's accounts. Of Microsoft's own files: what we say of them, not their bytes.

    Queues are nobody's here: the local host keeps its messages in SQLite.
    """
    places: dict[str, bytes] = {}
    for account in (azurite.landing, azurite.funchost):
        with TableServiceClient.from_connection_string(account.connection_string) as tables:
            for table in tables.list_tables():
                rows = [
                    {**entity, "etag": entity.metadata["etag"]}
                    for entity in tables.get_table_client(table.name).list_entities()
                ]
                places[f"{account.name} table {table.name}"] = json.dumps(
                    rows, default=str
                ).encode()
        with BlobServiceClient.from_connection_string(account.connection_string) as service:
            for container in service.list_containers(include_metadata=True):
                client = service.get_container_client(container.name)
                for blob in client.list_blobs(include=["metadata", "uncommittedblobs", "copy"]):
                    told = repr((blob.name, blob.metadata, blob.content_settings, blob.copy))
                    ours = not blob.name.endswith(".json.gz")
                    body = (
                        client.download_blob(blob.name, decompress=False).readall() if ours else b""
                    )
                    places[f"{account.name} blob {container.name}/{blob.name}"] = (
                        told.encode() + b"\n" + body
                    )
    return places


def asked_everywhere(world: World, run_ids: list[str]) -> None:
    """Every answer about runs that the app and the host have; what they said is in the list of answers."""
    for run_id in run_ids:
        for path in (f"/api/runs/{run_id}", f"/api/runs/{run_id}/blobs"):
            world.host.request("GET", path)
    for path in (
        "/api/catalogue",
        "/api/runs",
        "/api/status",
        "/api/health",
        "/api/gaps",
        "/api/openapi.json",
    ):
        world.host.request("GET", path)
    base = "/runtime/webhooks/durabletask/instances"
    world.host.request("GET", f"{base}?showInput=true")
    for instance in world.host.instances():
        world.host.request(
            "GET",
            f"{base}/{instance['instanceId']}?showInput=true&showHistory=true&showHistoryOutput=true",
        )


def everything(
    azurite: Azurite,
    state: Path,
    answers: list[bytes],
    log: io.StringIO,
    capfd: pytest.CaptureFixture[str],
) -> dict[str, bytes]:
    printed = capfd.readouterr()
    files = {f"file {path.name}": path.read_bytes() for path in state.rglob("*") if path.is_file()}
    assert any(content.startswith(b"SQLite format 3") for content in files.values())
    return {
        **files,
        **tables_and_blobs(azurite),
        **{f"answer {number}": answer for number, answer in enumerate(answers)},
        "log": log.getvalue().encode(),
        "stdout": printed.out.encode(),
        "stderr": printed.err.encode(),
    }


def secrets_of(azurite: Azurite, storage: MintingStorage) -> dict[str, str]:
    signatures = {parse_qs(sas)["sig"][0] for sas in storage.minted}
    return {
        **{f"signature {number}": signature for number, signature in enumerate(sorted(signatures))},
        **{
            f"key of {account.name}": account.key
            for account in (azurite.billing, azurite.landing, azurite.funchost)
        },
    }


# -- what happens meanwhile

LEAKY = "https://billing.example/x?sv=2022-11-02&sig=bGVha3lzaWduYXR1cmVmcm9tYWZvcmVpZ25ob3N0MDEyMw%3D%3D"
TROUBLE: dict[str, tuple[dict[str, Any], tuple[Rule, ...]]] = {
    "nothing": ({}, ()),
    "linked": ({"manifest": "link"}, ()),
    "refused": ({"permission": "denied"}, ()),
    "signatures refused": ({}, (Rule(Match(operation="blob"), FaultResponse(status=403)),)),
    "signatures refused with words": (
        {},
        (
            Rule(
                Match(operation="blob", method="GET"),
                FaultResponse(status=403, code="AuthenticationFailed", message=LEAKY),
            ),
        ),
    ),
    "signatures expired": ({"sas_lifetime_seconds": 0}, ()),
    "redirected": (
        {},
        (Rule(Match(operation="blob"), FaultResponse(status=302, headers={"Location": LEAKY})),),
    ),
    "answers that are not HTTP": (
        {},
        (
            Rule(
                Match(operation="blob", method="GET"),
                FaultResponse(headers={"Content-Length": "5"}),
            ),
            Rule(
                Match(operation="blob", method="HEAD"),
                FaultResponse(status=503, headers={"Retry-After": LEAKY}),
            ),
        ),
    ),
    "cut off": (
        {},
        (Rule(Match(operation="blob", method="GET", from_nth=2), FaultResponse(drop_after=10)),),
    ),
    "damaged": ({}, (Rule(Match(operation="blob", method="GET"), FaultResponse(corrupt_at=400)),)),
    "graph talks": (
        {},
        (
            Rule(
                Match(operation="poll", nth=(1,)),
                FaultResponse(status=500, message=LEAKY, code=LEAKY),
            ),
            Rule(
                Match(operation="poll", nth=(2,)),
                FaultResponse(status=429, headers={"Retry-After": LEAKY}),
            ),
            Rule(Match(operation="poll", nth=(1,)), FaultResponse(status=200, body="truncated")),
            Rule(Match(operation="poll", nth=(1,)), FaultResponse(status=403, message=LEAKY)),
        ),
    ),
    "location with a signature": (
        {},
        (
            Rule(
                Match(operation="start", nth=(1,)),
                FaultResponse(headers={"Location": LEAKY, "request-id": LEAKY}),
            ),
        ),
    ),
    "hostile: query": ({"hostile_manifest": "query_in_root"}, ()),
    "hostile: user": ({"hostile_manifest": "user_info"}, ()),
    "hostile: no signature": ({"hostile_manifest": "no_sas"}, ()),
    "hostile: names": ({"hostile_manifest": "duplicate"}, ()),
    "hostile: tenant": ({"hostile_manifest": "other_tenant"}, ()),
}
BAD_REQUESTS: list[dict[str, Any]] = [
    {},
    {"dataset": LEAKY},
    {LEAKY: 1},
    {**fields_of(KEY), "reason": f"see {LEAKY}"},
    {**fields_of(KEY), "currency_code": LEAKY},
]


def live_through_trouble(world: World) -> dict[str, str]:
    """Every trouble once, of one key; what became of it."""
    outcomes, runs = {}, []
    for name, (behaviour, rules) in TROUBLE.items():
        world.simulator.restate(KEY)
        world.simulator.behaviour, world.simulator.faults = (
            replace(BEHAVIOUR, ready_after_polls=1, **behaviour),
            Faults(*rules),
        )
        runs.append(world.start(**fields_of(KEY), reason=f"trouble: {name.split(':')[0]}"))
        outcomes[name] = str(world.finish(runs[-1])["outcome"])
        world.host.advance(timedelta(minutes=5))
    world.simulator.behaviour, world.simulator.faults = BEHAVIOUR, Faults()
    cycle = world.post("/api/cycles")
    for body in BAD_REQUESTS:
        assert world.host.request("POST", "/api/runs", json=body).status == 400
    assert world.host.request("POST", "/api/runs", body=LEAKY.encode()).status == 400
    world.host.wait(cycle["cycle_id"], 60)
    world.get(f"/api/cycles/{cycle['cycle_id']}")
    spoilt = {**export_request(world, KEY), "key": "nonsense"}
    world.host.start_orchestration("export_run", spoilt, spoilt["run_id"])
    world.host.wait(spoilt["run_id"])
    world.host.fire_timer("clean_up_orphaned_runs")
    restart(world)
    runs.append(world.land(**fields_of(KEY))["run_id"])
    asked_everywhere(world, runs)
    return outcomes


def test_no_secret_is_written_down_whatever_happens(
    own_azurite: Azurite,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    small = {"EXPORT_DATASETS": "unbilled_reconciliation"}
    with logs() as log, watched_world(own_azurite, tmp_path, **small) as (world, answers, storage):
        outcomes = live_through_trouble(world)
        places = everything(own_azurite, tmp_path, answers, log, capfd)
        secrets = secrets_of(own_azurite, storage)
    assert outcomes["nothing"] == "landed" and {"failed", "incomplete"} <= set(outcomes.values()), (
        outcomes
    )
    assert len(secrets) > len(
        TROUBLE
    )  # signatures were minted, and they are the ones that are looked for
    assert (
        find(places, secrets | {"leaky": "bGVha3lzaWduYXR1cmVmcm9tYWZvcmVpZ25ob3N0MDEyMw=="}) == []
    )
    assert len(log.getvalue()) > 10_000 and "run_ended" in log.getvalue()


def test_no_secret_is_written_down_where_storage_fetches_by_itself(
    own_azurite: Azurite,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Then the signed URL is a header of the landing account's requests, and part of what it says when it refuses."""
    with (
        logs() as log,
        watched_world(
            own_azurite,
            tmp_path,
            storage_proxy=False,
            COPY_MODE="server",
            PROOF="transfer",
        ) as (world, answers, storage),
    ):
        landed = world.land(**fields_of(KEY))
        world.simulator.restate(KEY)
        world.simulator.behaviour = replace(BEHAVIOUR, sas_lifetime_seconds=0)
        refused = world.land(**fields_of(KEY))
        asked_everywhere(world, [landed["run_id"], refused["run_id"]])
        places = everything(own_azurite, tmp_path, answers, log, capfd)
        secrets = secrets_of(own_azurite, storage)
    assert (landed["outcome"], refused["outcome"]) == ("landed", "incomplete")
    assert find(places, secrets) == []


# -- planted leaks


def test_a_signature_in_an_orchestrations_input_is_found(
    own_azurite: Azurite,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Past the door that refuses it: whoever has the host's key can put it there."""
    with logs() as log, watched_world(own_azurite, tmp_path) as (world, answers, _):
        request = export_request(world, KEY, reason=f"see {LEAKY}")
        world.host.start_orchestration("export_run", request, request["run_id"])
        assert world.host.wait(request["run_id"])["runtimeStatus"] == "Failed"
        asked_everywhere(world, [])
        places = everything(own_azurite, tmp_path, answers, log, capfd)
    hits = find(places, {"planted": "bGVha3lzaWduYXR1cmVmcm9tYWZvcmVpZ25ob3N0MDEyMw=="})
    kinds = {(place.split()[0], what) for place, what in hits}
    assert ("file", "planted") in kinds and ("answer", "planted") in kinds
    assert not {place for place, _ in hits if "table" in place}  # the app itself has refused it


def test_an_activity_without_the_wall_is_found(
    own_azurite: Azurite,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def leaking(call: Call) -> Call:
        async def called(**arguments: Any) -> Any:
            manifest = await world.app.manifests.get_manifest(arguments["request"]["operation_id"])
            (signature,) = parse_qs(manifest.sas_token)[
                "sig"
            ]  # alone: what looks like a URL, the host blots out as Azure does
            raise ValueError(f"cannot read with {signature}")

        return called

    with logs() as log, watched_world(own_azurite, tmp_path) as (world, answers, storage):
        with around(world, "plan_copy", leaking):
            run = world.land(**fields_of(KEY))
        asked_everywhere(world, [run["run_id"]])
        places = everything(own_azurite, tmp_path, answers, log, capfd)
        secrets = secrets_of(own_azurite, storage)
    found = {(place.split()[0], what.split()[0]) for place, what in find(places, secrets)}
    assert {("file", "signature"), ("log", "signature")} <= found
