"""Injected faults, each with its expected outcome and its expected requests.

Each test runs twice, with and without the locks of the ledger: locks only prevent duplicate work,
and correctness depends only on conditional writes. No fault may cause an incorrect blob, a
missing blob or a second version.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from local.azurite import Azurite
from local.simulator.faults import FaultResponse, Faults, Match, Rule
from shared.clock import parse_iso
from shared.services import install
from tests.support.app_environment import AppEnvironment
from tests.support.hooked_environment import (
    BEHAVIOUR,
    Call,
    WorkerKilledError,
    block_call,
    call_twice,
    get_hooked_tables,
    open_hooked_environment,
    reset_environment,
    run_before_call,
    wrap_function,
)
from tests.support.run_state import (
    assert_ended,
    assert_landed,
    assert_sound,
    get_catalogue_entry,
    key_fields,
)

ACTIVITIES = (
    "claim_run",
    "start_export",
    "check_operation",
    "plan_copy",
    "read_page",
    "copy_blobs",
    "commit_version",
    "record_outcome",
)
WrapFactory = Callable[[AppEnvironment, str], AbstractContextManager[None]]


def rule(operation: str, response: FaultResponse, *nth: int, **match: Any) -> Rule:
    return Rule(Match(operation=operation, nth=nth, **match), response)  # type: ignore[arg-type]


def blob_rule(response: FaultResponse, *nth: int, **match: Any) -> Rule:
    """Return a rule for a GET request for a source blob through the proxy."""
    return rule("blob", response, *nth, method="GET", **match)


def retry_after(seconds: int) -> dict[str, str]:
    return {"Retry-After": str(seconds)}


@dataclass(frozen=True)
class Row:
    """One fault and its expected result.

    Attributes:
        posts: The number of export requests that the run sends.
        operations: The number of operations that the run records.
        created: The number of operations that the service creates. None means `operations`.
        rounds: The number of copy rounds. None means that it depends on the speed of the machine.
        min_seconds: The minimum duration of the run.
    """

    name: str
    rules: tuple[Rule, ...] = ()
    behaviour: dict[str, Any] = field(default_factory=dict)
    wrap_activities: WrapFactory | None = None
    # This dataset has one blob. MULTI_BLOB_DATASET has several.
    dataset: str = "unbilled_reconciliation"
    outcome: str = "landed"
    code: str | None = None
    posts: int = 1
    operations: int = 1
    created: int | None = None
    rounds: int | None = 1
    min_seconds: int = 0


def switch_behaviour(name: str, at: int, **behaviour: Any) -> WrapFactory:
    """Set different behaviour immediately before the nth call of an activity.

    Without arguments, the default behaviour applies.
    """

    def wrap_calls(env: AppEnvironment, key: str) -> AbstractContextManager[None]:
        def switch() -> None:
            env.simulator.behaviour = replace(BEHAVIOUR, **behaviour)

        return wrap_function(env, name, run_before_call(switch, nth=at))

    return wrap_calls


def run_before(name: str, act: Callable[[AppEnvironment, str], object], at: int = 1) -> WrapFactory:
    return lambda env, key: wrap_function(
        env, name, run_before_call(lambda: _ignore(act(env, key)), nth=at)
    )


def _ignore(_: object) -> None:
    return None


def expire_operations_before(name: str, at: int) -> WrapFactory:
    """Expire all export operations immediately before the nth call of an activity."""
    return run_before(name, lambda env, key: env.simulator.expire_operations(), at)


def every_activity(wrap: Callable[[str], Callable[[Call], Call]]) -> WrapFactory:
    @contextmanager
    def wrap_all(env: AppEnvironment, key: str) -> Iterator[None]:
        with ExitStack() as stack:
            for name in ACTIVITIES:
                stack.enter_context(wrap_function(env, name, wrap(name)))
            yield

    return wrap_all


def fail_activity(name: str, *calls: int) -> WrapFactory:
    """Raise WorkerKilledError in these calls of an activity."""
    return lambda env, key: wrap_function(env, name, _fail_calls(*calls))


def fail_repeatedly(name: str) -> Callable[[Call], Call]:
    """Fail each activity as often as its retry policy allows.

    The app does not retry copy_blobs immediately: the blob is copied in the next round.
    """
    return _fail_calls(1) if name == "copy_blobs" else _fail_calls(1, 2)


def _fail_calls(*calls: int) -> Callable[[Call], Call]:
    def wrap(call: Call) -> Call:
        count = 0

        async def called(**arguments: Any) -> Any:
            nonlocal count
            count += 1
            if count in calls:
                raise WorkerKilledError
            return await call(**arguments)

        return called

    return wrap


LOST_REQUEST = FaultResponse(drop=True, when="before")
LOST_RESPONSE = FaultResponse(drop=True, when="after")
MULTI_BLOB_DATASET = "unbilled_usage"
UNKNOWN_COUNT = -1  # The number of created operations is not available after they expire.

ROWS = (
    Row("no fault"),
    # Request for the export
    Row(
        "post throttled",
        (
            rule("start", FaultResponse(status=429, headers=retry_after(120)), 1),
            rule("start", FaultResponse(status=429), 1),
        ),
        posts=3,
        min_seconds=120 + 60,
    ),
    Row(
        "post fails with transient errors",
        (
            rule("start", FaultResponse(status=503, headers=retry_after(75)), 1),
            rule("start", FaultResponse(status=503), 1),
            rule("start", FaultResponse(status=501), 1),
            rule("start", FaultResponse(status=502, body="html"), 1),
            rule("start", LOST_REQUEST, 1),
        ),
        posts=6,
        min_seconds=75 + 60 + 120 + 300 + 1800,
    ),
    Row(
        "three posts take effect and time out",
        (rule("start", FaultResponse(status=504, when="after")),),
        posts=3,
        operations=0,
        created=3,
        outcome="failed",
        code="export_unconfirmed",
        rounds=0,
        min_seconds=300 + 1800,
    ),
    Row(
        "three posts accepted without Location header",
        (rule("start", FaultResponse(without_headers=("Location",))),),
        posts=3,
        operations=0,
        created=3,
        outcome="failed",
        code="export_unconfirmed",
        rounds=0,
    ),
    Row(
        "three posts accepted with unusable Location header",
        (rule("start", FaultResponse(headers={"Location": "https://example.org/x"})),),
        posts=3,
        operations=0,
        created=3,
        outcome="failed",
        code="export_unconfirmed",
        rounds=0,
    ),
    Row(
        "response to post lost, then operation fails twice",
        (rule("start", LOST_RESPONSE, 1),),
        behaviour={"operation_end": "failed_other", "ready_after_polls": 0},
        posts=3,
        operations=2,
        created=3,
        outcome="failed",
        code="operation_failed",
        rounds=0,
    ),
    Row(
        "response to post lost",
        (rule("start", LOST_RESPONSE, 1),),
        posts=2,
        created=2,
        min_seconds=30,
    ),
    Row(
        "post accepted without Location header",
        (rule("start", FaultResponse(without_headers=("Location",)), 1),),
        posts=2,
        created=2,
    ),
    Row(
        "post forbidden after lost response",
        (rule("start", LOST_RESPONSE, 1), rule("start", FaultResponse(status=403), 1)),
        posts=2,
        operations=0,
        created=1,
        outcome="failed",
        code="graph_forbidden",
        rounds=0,
    ),
    # Wait for the operation
    Row(
        "polls throttled",
        (
            rule("poll", FaultResponse(status=429, headers=retry_after(240)), 1),
            rule("poll", FaultResponse(status=429), 1),
            rule(
                "poll",
                FaultResponse(status=429, headers={"Retry-After": "Sun, 01 Nov 2026 00:00:00 GMT"}),
                1,
            ),
        ),
        min_seconds=240 + 60,
    ),
    Row(
        "polls fail with transient errors",
        (
            *(rule("poll", FaultResponse(status=status), 1) for status in (500, 502, 503, 504)),
            rule("poll", LOST_REQUEST, 1),
            *(
                rule("poll", FaultResponse(status=200, body=body), 1)  # type: ignore[arg-type]
                for body in (
                    "html",
                    "json_list",
                    "json_string",
                    "broken_json",
                    "empty",
                    "truncated",
                    "text_html",
                )
            ),
        ),
        min_seconds=30 + 60 + 120 + 7 * 300,
    ),
    Row(
        "operation not found, next operation gone",
        (
            rule("poll", FaultResponse(status=404), 1, 2, 3, 4),
            rule("poll", FaultResponse(status=410), 1),
        ),
        posts=3,
        operations=3,
        min_seconds=(30 + 60 + 120) + 30 + 60,
    ),
    Row(
        "new operation not visible at first",
        (rule("poll", FaultResponse(status=404), 1, 2, 3),),
        min_seconds=30 + 60 + 120,
    ),
    Row(
        "operation not found after ten minutes",
        (rule("poll", FaultResponse(status=404), 2),),
        behaviour={"retry_after_seconds": 600},
        posts=2,
        operations=2,
    ),
    Row(
        "token rejected by one poll",
        (
            rule("poll", FaultResponse(status=401), 2),
            rule("poll", FaultResponse(status=403), 2),
        ),
    ),
    Row(
        "access denied after the first poll",
        (rule("poll", FaultResponse(status=403), from_nth=2),),
        outcome="failed",
        code="graph_forbidden",
        rounds=0,
        min_seconds=3600,
    ),
    Row(
        "operations expire before a poll",
        wrap_activities=expire_operations_before("check_operation", 2),
        posts=2,
        operations=2,
        created=UNKNOWN_COUNT,
    ),
    Row(
        "operation fails twice",
        behaviour={"operation_end": "failed_other", "ready_after_polls": 0},
        wrap_activities=switch_behaviour("check_operation", 3, ready_after_polls=0),
        posts=3,
        operations=3,
    ),
    # Manifest
    Row(
        "linked manifest malformed at first",
        tuple(
            rule("manifest", FaultResponse(status=200, body=body), 1)  # type: ignore[arg-type]
            for body in ("html", "json_list", "truncated")
        ),
        behaviour={"manifest": "link"},
    ),
    Row("manifest is a string", behaviour={"manifest": "string"}),
    Row(
        "manifest throttled during planning",
        (rule("manifest", FaultResponse(status=429, headers=retry_after(200)), 2),),
        behaviour={"manifest": "link"},
        rounds=1,
        min_seconds=200,
    ),
    Row(
        "manifest unavailable, then not found, during planning",
        (
            rule("manifest", FaultResponse(status=503), 2),
            rule("manifest", FaultResponse(status=404), 2),
        ),
        behaviour={"manifest": "link"},
        min_seconds=30 + 30,
    ),
    Row(
        "linked manifest not visible at first",
        (rule("manifest", FaultResponse(status=404), 1, 2, 3),),
        behaviour={"manifest": "link", "ready_after_polls": 40},
        min_seconds=40 * 20 + 30 + 60 + 120,
    ),
    Row(
        "linked manifest never visible",
        (rule("manifest", FaultResponse(status=404)),),
        behaviour={"manifest": "link"},
        posts=3,
        operations=3,
        outcome="failed",
        code="manifest_gone",
        rounds=0,
        min_seconds=3 * (30 + 60 + 120) + 30 + 60,
    ),
    Row(
        "operation gone during planning, three times",
        (rule("poll", FaultResponse(status=410), every=2),),
        behaviour={"ready_after_polls": 0},
        posts=3,
        operations=3,
        outcome="failed",
        code="operation_gone",
        rounds=0,
        min_seconds=30 + 60,
    ),
    Row(
        "token rejected once during planning",
        (rule("manifest", FaultResponse(status=401), 2),),
        behaviour={"manifest": "link"},
    ),
    Row(
        "operations expire before planning",
        wrap_activities=expire_operations_before("plan_copy", 1),
        posts=2,
        operations=2,
        created=UNKNOWN_COUNT,
    ),
    # Copy
    Row(
        "signature rejected once for each blob",
        (blob_rule(FaultResponse(status=403), 1, per="path"),),
        dataset=MULTI_BLOB_DATASET,
    ),
    Row(
        "signatures expire in the first round",
        behaviour={"sas_lifetime_seconds": 0},
        wrap_activities=switch_behaviour("plan_copy", 2),
        dataset=MULTI_BLOB_DATASET,
        rounds=2,
    ),
    Row(
        "signatures always rejected",
        (rule("blob", FaultResponse(status=403)),),
        dataset=MULTI_BLOB_DATASET,
        outcome="incomplete",
        code="blobs_missing",
        rounds=3,
    ),
    Row(
        "one blob always rejected",
        (rule("blob", FaultResponse(status=403, code="BlobImmutable"), path="*part-00001*"),),
        dataset=MULTI_BLOB_DATASET,
        outcome="incomplete",
        code="blobs_missing",
        rounds=3,
    ),
    Row(
        "storage busy with long Retry-After",
        (blob_rule(FaultResponse(status=503, headers=retry_after(240)), 1),),
        dataset=MULTI_BLOB_DATASET,
        rounds=2,
        min_seconds=240,
    ),
    Row(
        "storage busy once for each blob",
        (blob_rule(FaultResponse(status=503), 1, per="path"),),
        dataset=MULTI_BLOB_DATASET,
    ),
    Row(
        "connection closed once for each blob",
        (blob_rule(FaultResponse(drop_after=100), 1, per="path"),),
        dataset=MULTI_BLOB_DATASET,
    ),
    Row(
        "responses do not match the requested range",
        (
            blob_rule(FaultResponse(cut_to=100), 1),
            blob_rule(FaultResponse(headers={"Content-Length": "5"}), 1),
            blob_rule(FaultResponse(without_headers=("Content-Range",)), 1),
            blob_rule(FaultResponse(headers={"ETag": '"0x1"'}), 1),
        ),
        dataset=MULTI_BLOB_DATASET,
        rounds=2,
    ),
    Row(
        "redirect to a foreign host, then not found",
        (
            rule(
                "blob",
                FaultResponse(status=302, headers={"Location": "http://198.51.100.7/"}),
                1,
                3,
            ),
            rule("blob", FaultResponse(status=404), 3),
        ),
        dataset=MULTI_BLOB_DATASET,
        rounds=2,
    ),
    Row(
        "one byte corrupted in each blob",
        (blob_rule(FaultResponse(corrupt_at=400), 1, per="path"),),
        dataset=MULTI_BLOB_DATASET,
        rounds=2,
    ),
    Row(
        "one byte corrupted without Content-MD5",
        (blob_rule(FaultResponse(corrupt_at=400), 1),),
        behaviour={"content_md5": "absent"},
        dataset=MULTI_BLOB_DATASET,
        rounds=2,
    ),
    Row(
        "data restated before the copy, old signatures rejected",
        (rule("blob", FaultResponse(status=403), 1, per="path"),),
        behaviour={"operation_data": "newest"},
        wrap_activities=run_before("copy_blobs", lambda env, key: env.simulator.restate(key)),
        dataset=MULTI_BLOB_DATASET,
        rounds=2,
    ),
    # Workers
    Row(
        "each activity runs twice",
        wrap_activities=every_activity(lambda name: call_twice),
        dataset=MULTI_BLOB_DATASET,
    ),
    Row("each activity fails twice", wrap_activities=every_activity(fail_repeatedly), rounds=2),
    Row(
        "worker ends during the copy",
        wrap_activities=fail_activity("copy_blobs", 2),
        dataset=MULTI_BLOB_DATASET,
        rounds=2,
    ),
    Row(
        "copy fails in each round",
        wrap_activities=fail_activity("copy_blobs", *range(1, 40)),
        dataset=MULTI_BLOB_DATASET,
        outcome="incomplete",
        code="blobs_missing",
        rounds=3,
    ),
    Row(
        "start of the export always fails",
        wrap_activities=fail_activity("start_export", *range(1, 10)),
        outcome="failed",
        code="platform_fault",
        posts=0,
        operations=0,
        rounds=0,
    ),
    Row(
        "commit always fails",
        wrap_activities=fail_activity("commit_version", 1, 2, 3),
        outcome="failed",
        code="platform_fault",
    ),
)


@pytest.fixture(scope="module", params=[True, False], ids=["locks", "no_locks"])
def shared_env(
    azurite: Azurite, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AppEnvironment]:
    state = tmp_path_factory.mktemp("host")
    start = datetime(2026, 11, 9, 6, 0, tzinfo=UTC)  # long before the end of the month
    with open_hooked_environment(
        azurite, locking=request.param, state_dir=state, start=start
    ) as env:
        yield env


@pytest.fixture
def env(shared_env: AppEnvironment) -> Iterator[AppEnvironment]:
    install(shared_env.app)
    yield shared_env
    reset_environment(shared_env)


def restate_latest_key(env: AppEnvironment, dataset: str) -> str:
    key = [key for key in env.simulator.export_keys() if key.startswith(dataset)][-1]
    env.simulator.restate(key)
    return key


@pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row in ROWS])
def test_run_with_fault_ends_with_expected_outcome(env: AppEnvironment, row: Row) -> None:
    env.simulator.behaviour = replace(BEHAVIOUR, **row.behaviour)
    key = restate_latest_key(env, row.dataset)
    env.simulator.faults = Faults(*row.rules)
    posts_before, operations_before, start = (
        len(env.simulator.requests_of("start")),
        len(env.simulator.operations),
        env.clock.now(),
    )
    before_run = env.simulator.expected(key)
    with row.wrap_activities(env, key) if row.wrap_activities else ExitStack():
        run = env.land(**key_fields(key))
    assert_ended(env, run, row.outcome, row.code)
    assert (run["posts"], len(env.simulator.requests_of("start")) - posts_before) == (
        row.posts,
        row.posts,
    )
    assert run["operations"] == row.operations
    if row.created != UNKNOWN_COUNT:
        assert len(env.simulator.operations) - operations_before == (
            row.operations if row.created is None else row.created
        )
    assert row.rounds is None or env.run_row(run["run_id"]).plan == row.rounds
    assert env.clock.now() - start >= timedelta(seconds=row.min_seconds)
    assert parse_iso(run["ended_at"]) - start >= timedelta(seconds=row.min_seconds)
    newest = env.simulator.expected(key)
    if row.outcome == "landed":
        assert run["version"] and run["blobs"] == {
            "total": len(newest.blobs),
            "landed": len(newest.blobs),
            "failed": 0,
        }
        assert_landed(env, key, newest)
        return
    assert_sound(env, key, before_run, newest)
    entry = get_catalogue_entry(env, key)
    assert entry is None or entry.manifest_etag not in (before_run.etag, newest.etag)
    env.simulator.behaviour, env.simulator.faults = BEHAVIOUR, Faults()
    next_run = env.land(**key_fields(key))  # The fault does not prevent the next run.
    assert_ended(env, next_run, "landed")
    assert_landed(env, key, newest)


@pytest.mark.parametrize("name", ACTIVITIES)
def test_run_with_host_killed_in_activity_lands(env: AppEnvironment, name: str) -> None:
    """The host is killed before or after the activity does its work.

    Another process continues from the stored state.
    """
    key = restate_latest_key(env, "unbilled_reconciliation")
    posts_before, reached = len(env.simulator.requests_of("start")), threading.Event()
    with wrap_function(
        env, name, block_call(env, reached, when="after" if env.locking else "before")
    ):
        run_id = env.start(**key_fields(key))
        env.host.run_until(reached.is_set)
        env.restart()
    run = env.finish(run_id)
    assert_ended(env, run, "landed")
    assert_landed(env, key, env.simulator.expected(key))
    assert (
        run["posts"],
        run["operations"],
        len(env.simulator.requests_of("start")) - posts_before,
    ) == (
        1,
        1,
        1,
    )


MAX_WRITES = 5  # of each activity


@pytest.mark.parametrize("nth", range(1, MAX_WRITES + 1))
def test_run_with_worker_killed_at_nth_write_lands(env: AppEnvironment, nth: int) -> None:
    """The worker is killed at the nth write of each activity to the tables or the container.

    The first attempt ends before the write, and the second attempt ends after it.
    """
    key, current = (
        restate_latest_key(env, "unbilled_reconciliation"),
        ContextVar("activity", default=""),
    )
    attempts, writes = Counter[str](), Counter[str]()
    killed: list[tuple[str, str]] = []

    def count_attempts(name: str) -> Callable[[Call], Call]:
        def wrap(call: Call) -> Call:
            async def called(**arguments: Any) -> Any:
                current.set(name)
                attempts[name] += 1
                writes[name] = 0
                return await call(**arguments)

            return called

        return wrap

    def kill_at_write(at: str, kind: str, table: str) -> None:
        name = current.get()
        if at == "before":
            writes[name] += 1
        if name and writes[name] == nth and attempts[name] == (1 if at == "before" else 2):
            killed.append((name, at))
            raise WorkerKilledError

    get_hooked_tables(env).hook = kill_at_write
    with every_activity(count_attempts)(env, key):
        run = env.land(**key_fields(key))
    assert killed  # If it is empty, no activity has this many writes.
    assert_ended(env, run, "landed")
    assert_landed(env, key, env.simulator.expected(key))
    assert run["operations"] == 1 and run["posts"] <= 3


def test_throttled_start_delays_all_runs(env: AppEnvironment) -> None:
    """Throttling of one run delays the requests that all runs send.

    This includes a run that starts later and a run that already waits.
    """
    env.simulator.behaviour = replace(BEHAVIOUR, retry_after_seconds=60, ready_after_polls=3)
    waiting, throttled, later = (
        restate_latest_key(env, dataset)
        for dataset in ("billed_reconciliation", "unbilled_reconciliation", "unbilled_usage")
    )
    first = env.start(**key_fields(waiting))
    env.host.run_until(lambda: env.run_row(first).polls >= 1)
    env.simulator.faults.add(
        Match(operation="start", nth=(1,)), FaultResponse(status=429, headers=retry_after(500))
    )
    second = env.start(**key_fields(throttled))
    env.host.run_until(lambda: env.run_row(second).last_code == "graph_throttled")
    since, request_count = env.clock.now(), len(env.simulator.requests)
    third = env.start(**key_fields(later))
    runs = [env.finish(run_id) for run_id in (first, second, third)]
    assert [run["outcome"] for run in runs] == ["landed"] * 3
    next_request_at = env.simulator.requests[request_count].clock
    assert next_request_at - since >= timedelta(seconds=499)
    assert [run["posts"] for run in runs] == [1, 2, 1]


def test_throttled_manifest_delays_all_runs(
    env: AppEnvironment,
) -> None:
    env.simulator.behaviour = replace(BEHAVIOUR, manifest="link")
    throttled, later = (
        restate_latest_key(env, "unbilled_reconciliation"),
        restate_latest_key(env, "unbilled_usage"),
    )
    env.simulator.faults.add(
        Match(operation="manifest", nth=(2,)), FaultResponse(status=429, headers=retry_after(500))
    )
    first = env.start(**key_fields(throttled))
    env.host.run_until(lambda: env.run_row(first).last_code == "graph_throttled")
    since, request_count = env.clock.now(), len(env.simulator.requests)
    second = env.start(**key_fields(later))
    assert [env.finish(run_id)["outcome"] for run_id in (first, second)] == ["landed", "landed"]
    assert env.simulator.requests[request_count].clock - since >= timedelta(seconds=499)
