"""The app stores no secret anywhere.

The tests read, as bytes, every location to which the app writes. They search it for every signature
that the simulator issued, for the account keys, and for strings that occur only with secrets.
Further tests insert a secret and verify that the search finds it.
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
from tests.support.app_environment import AppEnvironment
from tests.support.hooked_environment import BEHAVIOUR, Call, open_hooked_environment, wrap_function
from tests.support.run_state import create_run_request, key_fields

FORBIDDEN = ("sig=", "key=", "AccountKey", "Bearer ")
BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{12,}={0,2}")
APP_LOGGERS = ("partner_billing", "local", "tests")
KEY = "unbilled_usage/2026-10/USD/full"


# Scanner


def decoded_forms(content: bytes) -> Iterator[bytes]:
    """Yield the bytes and their decoded forms (JSON escapes, percent-encoding, base64)."""
    yield content
    unescaped = re.sub(
        rb"\\u00([0-9a-fA-F]{2})", lambda match: bytes.fromhex(match[1].decode()), content
    )
    for text in {content, unescaped}:
        once = unquote_to_bytes(text)
        yield from (text, once, unquote_to_bytes(once))
        for part in decode_base64(once):
            yield from (part, unquote_to_bytes(part))


def decode_base64(content: bytes) -> Iterator[bytes]:
    """Yield the decoded base64 sequences, starting at each of the four possible offsets."""
    for match in BASE64.finditer(content):
        sequence = match[0].rstrip(b"=").replace(b"-", b"+").replace(b"_", b"/")
        for start in range(4):
            part = sequence[start:]
            try:
                yield base64.b64decode(part + b"=" * (-len(part) % 4))
            except binascii.Error:
                yield base64.b64decode(part[:-1])  # remove the surplus character


def find_secrets(places: Mapping[str, bytes], secrets: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the location and the name of each secret or forbidden string that is found.

    `secrets` maps names to unencoded secrets.
    """
    forms_by_name = {
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
        decoded = b"\0".join(decoded_forms(content)).lower()
        hits += [
            (place, name)
            for name, forms in forms_by_name.items()
            if any(form in decoded for form in forms)
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
def test_find_secrets_finds_secret_in_every_encoding(content: bytes) -> None:
    places = {"clean": b"nothing", "here": b"\x00\xff before " + content + b" behind"}
    assert ("here", "signature") in find_secrets(places, {"signature": SECRET})


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
def test_find_secrets_finds_forbidden_texts(text: str) -> None:
    assert find_secrets({"here": text.encode()}, {}) and find_secrets(
        {"here": base64.b64encode(text.encode())}, {}
    )


def test_find_secrets_without_secret_returns_nothing() -> None:
    document = {
        "run_id": "unbilled-usage-2026-10-usd-full-20261121t060000z-x7qa",
        "key": KEY,
        "path": "data/currency_code=USD/x",
    }
    assert (
        find_secrets(
            {"here": json.dumps(document).encode(), "bytes": bytes(range(256)) * 64},
            {"signature": SECRET},
        )
        == []
    )


# Places


@dataclass(frozen=True)
class RecordingStorage(BillingStorage):
    """A billing storage that records every SAS that it issues."""

    issued: list[str] = field(default_factory=list, repr=False, compare=False)

    def sas(self, container: str, lifetime_seconds: float) -> str:
        sas = super().sas(container, lifetime_seconds)
        self.issued.append(sas)
        return sas


@pytest.fixture(scope="module")
def own_azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    """Start an Azurite on disk that only these tests use."""
    with Azurite(location=tmp_path_factory.mktemp("azurite")) as azurite:
        yield azurite


@contextmanager
def record_logs() -> Iterator[io.StringIO]:
    """Record the logs of the app at DEBUG level and of libraries at INFO level, with tracebacks."""
    output = io.StringIO()
    handler = logging.StreamHandler(output)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
    levels = {name: logging.getLogger(name).level for name in ("", *APP_LOGGERS)}
    logging.getLogger().addHandler(handler)
    for name in levels:
        logging.getLogger(name).setLevel(logging.DEBUG if name else logging.INFO)
    try:
        yield output
    finally:
        logging.getLogger().removeHandler(handler)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def open_recorded_environment(
    azurite: Azurite, tmp_path: Path, **more: Any
) -> Iterator[tuple[AppEnvironment, list[bytes], RecordingStorage]]:
    """Open an environment on disk that records all HTTP responses and all issued SAS."""
    env = open_hooked_environment(azurite, state_dir=tmp_path / "host", **more)
    storage = env.simulator.storage = RecordingStorage(azurite.billing.connection_string)
    responses: list[bytes] = []
    start_host = env.start_host

    def open_recorded_host() -> Any:
        host = start_host()
        send = host.request

        def request(*arguments: Any, **named: Any) -> HostResponse:
            response = send(*arguments, **named)
            responses.append(repr(response.headers).encode() + b"\n" + (response.body or b""))
            return response

        host.request = request  # type: ignore[method-assign]
        return host

    env.start_host = open_recorded_host  # type: ignore[method-assign]
    with env:
        yield env, responses, storage


def read_accounts(azurite: Azurite) -> dict[str, bytes]:
    """Return the content of the landing account and of the host's account.

    Blobs with billing data are represented by their properties. The local host stores its messages
    in SQLite and uses no queues.
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
                    properties = repr((blob.name, blob.metadata, blob.content_settings, blob.copy))
                    is_app_blob = not blob.name.endswith(".json.gz")
                    body = (
                        client.download_blob(blob.name, decompress=False).readall()
                        if is_app_blob
                        else b""
                    )
                    places[f"{account.name} blob {container.name}/{blob.name}"] = (
                        properties.encode() + b"\n" + body
                    )
    return places


def request_everything(env: AppEnvironment, run_ids: list[str]) -> None:
    """Send every request for runs to the app and the host."""
    for run_id in run_ids:
        for path in (f"/api/runs/{run_id}", f"/api/runs/{run_id}/blobs"):
            env.host.request("GET", path)
    for path in (
        "/api/catalogue",
        "/api/runs",
        "/api/status",
        "/api/health",
        "/api/gaps",
        "/api/openapi.json",
    ):
        env.host.request("GET", path)
    base = "/runtime/webhooks/durabletask/instances"
    env.host.request("GET", f"{base}?showInput=true")
    for instance in env.host.instances():
        env.host.request(
            "GET",
            f"{base}/{instance['instanceId']}?showInput=true&showHistory=true&showHistoryOutput=true",
        )


def read_all_places(
    azurite: Azurite,
    state_dir: Path,
    responses: list[bytes],
    log: io.StringIO,
    capfd: pytest.CaptureFixture[str],
) -> dict[str, bytes]:
    captured = capfd.readouterr()
    files = {
        f"file {path.name}": path.read_bytes() for path in state_dir.rglob("*") if path.is_file()
    }
    assert any(content.startswith(b"SQLite format 3") for content in files.values())
    return {
        **files,
        **read_accounts(azurite),
        **{f"response {number}": response for number, response in enumerate(responses)},
        "log": log.getvalue().encode(),
        "stdout": captured.out.encode(),
        "stderr": captured.err.encode(),
    }


def get_secrets(azurite: Azurite, storage: RecordingStorage) -> dict[str, str]:
    signatures = {parse_qs(sas)["sig"][0] for sas in storage.issued}
    return {
        **{f"signature {number}": signature for number, signature in enumerate(sorted(signatures))},
        **{
            f"key of {account.name}": account.key
            for account in (azurite.billing, azurite.landing, azurite.funchost)
        },
    }


# Scenarios

PLANTED_SECRET = "bGVha3lzaWduYXR1cmVmcm9tYWZvcmVpZ25ob3N0MDEyMw=="
URL_WITH_SECRET = f"https://billing.example/x?sv=2022-11-02&sig={quote(PLANTED_SECRET, safe='')}"
SCENARIOS: dict[str, tuple[dict[str, Any], tuple[Rule, ...]]] = {
    "nothing": ({}, ()),
    "linked": ({"manifest": "link"}, ()),
    "refused": ({"permission": "denied"}, ()),
    "signatures refused": ({}, (Rule(Match(operation="blob"), FaultResponse(status=403)),)),
    "signatures refused with message": (
        {},
        (
            Rule(
                Match(operation="blob", method="GET"),
                FaultResponse(status=403, code="AuthenticationFailed", message=URL_WITH_SECRET),
            ),
        ),
    ),
    "signatures expired": ({"sas_lifetime_seconds": 0}, ()),
    "redirected": (
        {},
        (
            Rule(
                Match(operation="blob"),
                FaultResponse(status=302, headers={"Location": URL_WITH_SECRET}),
            ),
        ),
    ),
    "invalid HTTP responses": (
        {},
        (
            Rule(
                Match(operation="blob", method="GET"),
                FaultResponse(headers={"Content-Length": "5"}),
            ),
            Rule(
                Match(operation="blob", method="HEAD"),
                FaultResponse(status=503, headers={"Retry-After": URL_WITH_SECRET}),
            ),
        ),
    ),
    "cut off": (
        {},
        (Rule(Match(operation="blob", method="GET", from_nth=2), FaultResponse(drop_after=10)),),
    ),
    "damaged": ({}, (Rule(Match(operation="blob", method="GET"), FaultResponse(corrupt_at=400)),)),
    "Graph errors with secrets": (
        {},
        (
            Rule(
                Match(operation="poll", nth=(1,)),
                FaultResponse(status=500, message=URL_WITH_SECRET, code=URL_WITH_SECRET),
            ),
            Rule(
                Match(operation="poll", nth=(2,)),
                FaultResponse(status=429, headers={"Retry-After": URL_WITH_SECRET}),
            ),
            Rule(Match(operation="poll", nth=(1,)), FaultResponse(status=200, body="truncated")),
            Rule(
                Match(operation="poll", nth=(1,)),
                FaultResponse(status=403, message=URL_WITH_SECRET),
            ),
        ),
    ),
    "location with a signature": (
        {},
        (
            Rule(
                Match(operation="start", nth=(1,)),
                FaultResponse(headers={"Location": URL_WITH_SECRET, "request-id": URL_WITH_SECRET}),
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
    {"dataset": URL_WITH_SECRET},
    {URL_WITH_SECRET: 1},
    {**key_fields(KEY), "reason": f"see {URL_WITH_SECRET}"},
    {**key_fields(KEY), "currency_code": URL_WITH_SECRET},
]


def run_scenarios(env: AppEnvironment) -> dict[str, str]:
    """Run every scenario for one export key, and return the outcomes."""
    outcomes, runs = {}, []
    for name, (behaviour, rules) in SCENARIOS.items():
        env.simulator.restate(KEY)
        env.simulator.behaviour, env.simulator.faults = (
            replace(BEHAVIOUR, ready_after_polls=1, **behaviour),
            Faults(*rules),
        )
        runs.append(env.start(**key_fields(KEY), reason=f"scenario: {name.split(':')[0]}"))
        outcomes[name] = str(env.finish(runs[-1])["outcome"])
        env.host.advance(timedelta(minutes=5))
    env.simulator.behaviour, env.simulator.faults = BEHAVIOUR, Faults()
    cycle = env.post("/api/cycles")
    for body in BAD_REQUESTS:
        assert env.host.request("POST", "/api/runs", json=body).status == 400
    assert env.host.request("POST", "/api/runs", body=URL_WITH_SECRET.encode()).status == 400
    env.host.wait(cycle["cycle_id"], 60)
    env.get(f"/api/cycles/{cycle['cycle_id']}")
    invalid = {**create_run_request(env, KEY), "key": "nonsense"}
    env.host.start_orchestration("export_run", invalid, invalid["run_id"])
    env.host.wait(invalid["run_id"])
    env.host.fire_timer("clean_up_orphaned_runs")
    env.restart()
    runs.append(env.land(**key_fields(KEY))["run_id"])
    request_everything(env, runs)
    return outcomes


def test_app_in_all_scenarios_stores_no_secret(
    own_azurite: Azurite,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    settings = {"EXPORT_DATASETS": "unbilled_reconciliation"}
    with (
        record_logs() as log,
        open_recorded_environment(own_azurite, tmp_path, **settings) as (env, responses, storage),
    ):
        outcomes = run_scenarios(env)
        places = read_all_places(own_azurite, tmp_path, responses, log, capfd)
        secrets = get_secrets(own_azurite, storage)
    assert outcomes["nothing"] == "landed" and {"failed", "incomplete"} <= set(outcomes.values()), (
        outcomes
    )
    assert len(secrets) > len(SCENARIOS)  # the simulator issued signatures in every scenario
    assert find_secrets(places, secrets | {"leaky": PLANTED_SECRET}) == []
    assert len(log.getvalue()) > 10_000 and "run_ended" in log.getvalue()


def test_app_with_server_side_copy_stores_no_secret(
    own_azurite: Azurite,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The requests to the landing account then contain the signed URL, and so do its errors."""
    with (
        record_logs() as log,
        open_recorded_environment(
            own_azurite,
            tmp_path,
            storage_proxy=False,
            COPY_MODE="server",
            PROOF="transfer",
        ) as (env, responses, storage),
    ):
        landed = env.land(**key_fields(KEY))
        env.simulator.restate(KEY)
        env.simulator.behaviour = replace(BEHAVIOUR, sas_lifetime_seconds=0)
        refused = env.land(**key_fields(KEY))
        request_everything(env, [landed["run_id"], refused["run_id"]])
        places = read_all_places(own_azurite, tmp_path, responses, log, capfd)
        secrets = get_secrets(own_azurite, storage)
    assert (landed["outcome"], refused["outcome"]) == ("landed", "incomplete")
    assert find_secrets(places, secrets) == []


# Inserted secrets


def test_signature_in_orchestration_input_is_found(
    own_azurite: Azurite,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The API rejects such an input, but the host's management API accepts it."""
    with (
        record_logs() as log,
        open_recorded_environment(own_azurite, tmp_path) as (env, responses, _),
    ):
        request = create_run_request(env, KEY, reason=f"see {URL_WITH_SECRET}")
        env.host.start_orchestration("export_run", request, request["run_id"])
        assert env.host.wait(request["run_id"])["runtimeStatus"] == "Failed"
        request_everything(env, [])
        places = read_all_places(own_azurite, tmp_path, responses, log, capfd)
    hits = find_secrets(places, {"planted": PLANTED_SECRET})
    kinds = {(place.split()[0], what) for place, what in hits}
    assert ("file", "planted") in kinds and ("response", "planted") in kinds
    assert not {place for place, _ in hits if "table" in place}  # the app rejects the input


def test_secret_in_activity_without_sanitized_exceptions_is_found(
    own_azurite: Azurite,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def leak(call: Call) -> Call:
        async def raise_with_secret(**arguments: Any) -> Any:
            manifest = await env.app.manifests.get_manifest(arguments["request"]["operation_id"])
            # The host replaces signed URLs, so the message contains only the signature.
            (signature,) = parse_qs(manifest.sas_token)["sig"]
            raise ValueError(f"cannot read with {signature}")

        return raise_with_secret

    with (
        record_logs() as log,
        open_recorded_environment(own_azurite, tmp_path) as (env, responses, storage),
    ):
        with wrap_function(env, "plan_copy", leak):
            run = env.land(**key_fields(KEY))
        request_everything(env, [run["run_id"]])
        places = read_all_places(own_azurite, tmp_path, responses, log, capfd)
        secrets = get_secrets(own_azurite, storage)
    kinds = {(place.split()[0], what.split()[0]) for place, what in find_secrets(places, secrets)}
    assert {("file", "signature"), ("log", "signature")} <= kinds
