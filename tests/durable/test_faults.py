"""What goes wrong, as a table: each fault is injected, and each ends in the stated outcome, with the stated work at Microsoft.

The whole table runs twice, with the ledger's locks and without them: a lock saves work, and
correctness rests on conditional writes alone (design, section 6). Whatever happens, no wrong blob,
no lost one and no second version is shown.
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
Around = Callable[[AppEnvironment, str], AbstractContextManager[None]]


def rule(operation: str, answer: FaultResponse, *nth: int, **match: Any) -> Rule:
    return Rule(Match(operation=operation, nth=nth, **match), answer)  # type: ignore[arg-type]


def read(answer: FaultResponse, *nth: int, **match: Any) -> Rule:
    """A GET of a source blob, through the proxy."""
    return rule("blob", answer, *nth, method="GET", **match)


def wait(seconds: int) -> dict[str, str]:
    return {"Retry-After": str(seconds)}


@dataclass(frozen=True)
class Row:
    """One fault.

    `posts`: requests for an export that were sent; `made`: operations that they made at Microsoft;
    `operations`: those the run knew. `rounds` None: depends on how fast the machine is. `waits`:
    seconds that the run takes at least.
    """

    name: str
    rules: tuple[Rule, ...] = ()
    behaviour: dict[str, Any] = field(default_factory=dict)
    wrap_function: Around | None = None
    dataset: str = "unbilled_reconciliation"  # of one blob; usage has several
    outcome: str = "landed"
    code: str | None = None
    posts: int = 1
    operations: int = 1
    made: int | None = None  # as `operations`, if None
    rounds: int | None = 1
    waits: int = 0


def switched(name: str, at: int, **behaviour: Any) -> Around:
    """Another behaviour from the so-manieth call of an activity on; without any, the usual one."""

    def over(env: AppEnvironment, key: str) -> AbstractContextManager[None]:
        def switch() -> None:
            env.simulator.behaviour = replace(BEHAVIOUR, **behaviour)

        return wrap_function(env, name, run_before_call(switch, nth=at))

    return over


def before(name: str, act: Callable[[AppEnvironment, str], object], at: int = 1) -> Around:
    return lambda env, key: wrap_function(
        env, name, run_before_call(lambda: _ignore(act(env, key)), nth=at)
    )


def _ignore(_: object) -> None:
    return None


def forgotten_before(name: str, at: int) -> Around:
    """Microsoft forgets every operation just before a call of an activity."""
    return before(name, lambda env, key: env.simulator.expire_operations(), at)


def every_activity(wrap: Callable[[str], Callable[[Call], Call]]) -> Around:
    @contextmanager
    def over(env: AppEnvironment, key: str) -> Iterator[None]:
        with ExitStack() as stack:
            for name in ACTIVITIES:
                stack.enter_context(wrap_function(env, name, wrap(name)))
            yield

    return over


def dying(name: str, *calls: int) -> Around:
    """These calls of an activity raise what no wall knows."""
    return lambda env, key: wrap_function(env, name, _dying(*calls))


def dying_twice(name: str) -> Callable[[Call], Call]:
    """As often as an activity may; one of the fan-out is not called again at once, so its blob waits for the next round."""
    return _dying(1) if name == "copy_blobs" else _dying(1, 2)


def _dying(*calls: int) -> Callable[[Call], Call]:
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


LOST = FaultResponse(drop=True, when="before")
LOST_ANSWER = FaultResponse(drop=True, when="after")
SEVERAL = "unbilled_usage"
FORGOTTEN = -1  # operations that were made cannot be counted

ROWS = (
    Row("nothing"),
    # asking
    Row(
        "post throttled",
        (
            rule("start", FaultResponse(status=429, headers=wait(120)), 1),
            rule("start", FaultResponse(status=429), 1),
        ),
        posts=3,
        waits=120 + 60,
    ),
    Row(
        "post not answered well",
        (
            rule("start", FaultResponse(status=503, headers=wait(75)), 1),
            rule("start", FaultResponse(status=500), 1),
            rule("start", FaultResponse(status=504), 1),
            rule("start", FaultResponse(status=502, body="html"), 1),
            rule("start", LOST, 1),
        ),
        posts=6,
        waits=75 + 60 + 120 + 300 + 300,
    ),
    Row("post lost after its effect", (rule("start", LOST_ANSWER, 1),), posts=2, made=2, waits=30),
    Row(
        "accepted without a Location",
        (rule("start", FaultResponse(without_headers=("Location",)), 1),),
        posts=2,
        made=2,
    ),
    Row(
        "post refused after a lost one",
        (rule("start", LOST_ANSWER, 1), rule("start", FaultResponse(status=403), 1)),
        posts=2,
        operations=0,
        made=1,
        outcome="failed",
        code="graph_forbidden",
        rounds=0,
    ),
    # waiting
    Row(
        "looks throttled",
        (
            rule("poll", FaultResponse(status=429, headers=wait(240)), 1),
            rule("poll", FaultResponse(status=429), 1),
            rule(
                "poll",
                FaultResponse(status=429, headers={"Retry-After": "Sun, 01 Nov 2026 00:00:00 GMT"}),
                1,
            ),
        ),
        waits=240 + 60,
    ),
    Row(
        "looks not answered well",
        (
            *(rule("poll", FaultResponse(status=status), 1) for status in (500, 502, 503, 504)),
            rule("poll", LOST, 1),
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
        waits=30 + 60 + 120 + 7 * 300,
    ),
    Row(
        "operation not found midway, the next one gone",
        (rule("poll", FaultResponse(status=404), 2), rule("poll", FaultResponse(status=410), 2)),
        posts=3,
        operations=3,
    ),
    Row(
        "operations forgotten midway",
        wrap_function=forgotten_before("check_operation", 2),
        posts=2,
        operations=2,
        made=FORGOTTEN,
    ),
    Row(
        "operation failed twice",
        behaviour={"operation_end": "failed_other", "ready_after_polls": 0},
        wrap_function=switched("check_operation", 3, ready_after_polls=0),
        posts=3,
        operations=3,
    ),
    # the manifest
    Row(
        "manifest linked, and unreadable at first",
        tuple(
            rule("manifest", FaultResponse(status=200, body=body), 1)  # type: ignore[arg-type]
            for body in ("html", "json_list", "truncated")
        ),
        behaviour={"manifest": "link"},
    ),
    Row("manifest as a string", behaviour={"manifest": "string"}),
    Row(
        "manifest throttled while it is planned",
        (rule("manifest", FaultResponse(status=429, headers=wait(200)), 2),),
        behaviour={"manifest": "link"},
        rounds=1,
        waits=200,
    ),
    Row(
        "manifest not answered, then gone, while it is planned",
        (
            rule("manifest", FaultResponse(status=503), 2),
            rule("manifest", FaultResponse(status=404), 2),
        ),
        behaviour={"manifest": "link"},
        posts=2,
        operations=2,
        rounds=2,
    ),
    Row(
        "operations forgotten when it is planned",
        wrap_function=forgotten_before("plan_copy", 1),
        posts=2,
        operations=2,
        made=FORGOTTEN,
        rounds=2,
    ),
    # copying
    Row(
        "a signature refused for each blob",
        (read(FaultResponse(status=403), 1, per="path"),),
        dataset=SEVERAL,
    ),
    Row(
        "signatures expired for real in the first round",
        behaviour={"sas_lifetime_seconds": 0},
        wrap_function=switched("plan_copy", 2),
        dataset=SEVERAL,
        rounds=2,
    ),
    Row(
        "signatures always refused",
        (rule("blob", FaultResponse(status=403)),),
        dataset=SEVERAL,
        outcome="incomplete",
        code="blobs_missing",
        rounds=3,
    ),
    Row(
        "one blob refused for good",
        (rule("blob", FaultResponse(status=403, code="BlobImmutable"), path="*part-00001*"),),
        dataset=SEVERAL,
        outcome="incomplete",
        code="blobs_missing",
        rounds=3,
    ),
    Row(
        "storage busy, with a long wait",
        (read(FaultResponse(status=503, headers=wait(240)), 1),),
        dataset=SEVERAL,
        rounds=2,
        waits=240,
    ),
    Row(
        "storage busy for each blob",
        (read(FaultResponse(status=503), 1, per="path"),),
        dataset=SEVERAL,
    ),
    Row(
        "connection cut within each blob",
        (read(FaultResponse(drop_after=100), 1, per="path"),),
        dataset=SEVERAL,
    ),
    Row(
        "each blob with another answer that is not its range",
        (
            read(FaultResponse(cut_to=100), 1),
            read(FaultResponse(headers={"Content-Length": "5"}), 1),
            read(FaultResponse(without_headers=("Content-Range",)), 1),
            read(FaultResponse(headers={"ETag": '"0x1"'}), 1),
        ),
        dataset=SEVERAL,
        rounds=2,
    ),
    Row(
        "redirected to a foreign host, and missing",
        (
            rule(
                "blob",
                FaultResponse(status=302, headers={"Location": "http://198.51.100.7/"}),
                1,
                3,
            ),
            rule("blob", FaultResponse(status=404), 3),
        ),
        dataset=SEVERAL,
        rounds=2,
    ),
    Row(
        "a byte turned round in each blob",
        (read(FaultResponse(corrupt_at=400), 1, per="path"),),
        dataset=SEVERAL,
        rounds=2,
    ),
    Row(
        "a byte turned round, no MD5",
        (read(FaultResponse(corrupt_at=400), 1),),
        behaviour={"content_md5": "absent"},
        dataset=SEVERAL,
        rounds=2,
    ),
    Row(
        "restated before the copy, and the old signatures refused",
        (rule("blob", FaultResponse(status=403), 1, per="path"),),
        behaviour={"operation_data": "newest"},
        wrap_function=before("copy_blobs", lambda env, key: env.simulator.restate(key)),
        dataset=SEVERAL,
        rounds=2,
    ),
    # workers
    Row(
        "every activity twice",
        wrap_function=every_activity(lambda name: call_twice),
        dataset=SEVERAL,
    ),
    Row("every activity dies twice", wrap_function=every_activity(dying_twice), rounds=2),
    Row(
        "a worker dies in the fan-out",
        wrap_function=dying("copy_blobs", 2),
        dataset=SEVERAL,
        rounds=2,
    ),
    Row(
        "copying dies in every round",
        wrap_function=dying("copy_blobs", *range(1, 40)),
        dataset=SEVERAL,
        outcome="incomplete",
        code="blobs_missing",
        rounds=3,
    ),
    Row(
        "asking dies for good",
        wrap_function=dying("start_export", 1, 2, 3),
        outcome="failed",
        code="platform_fault",
        posts=0,
        operations=0,
        rounds=0,
    ),
    Row(
        "committing dies for good",
        wrap_function=dying("commit_version", 1, 2, 3),
        outcome="failed",
        code="platform_fault",
    ),
)


@pytest.fixture(scope="module", params=[True, False], ids=["locks", "no locks"])
def shared_env(
    azurite: Azurite, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AppEnvironment]:
    state = tmp_path_factory.mktemp("host")
    start = datetime(2026, 11, 9, 6, 0, tzinfo=UTC)  # long before the month's end
    with open_hooked_environment(
        azurite, locking=request.param, state_dir=state, start=start
    ) as env:
        yield env


@pytest.fixture
def env(shared_env: AppEnvironment) -> Iterator[AppEnvironment]:
    install(shared_env.app)
    yield shared_env
    reset_environment(shared_env)


def fresh(env: AppEnvironment, dataset: str) -> str:
    key = [key for key in env.simulator.export_keys() if key.startswith(dataset)][-1]
    env.simulator.restate(key)
    return key


@pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row in ROWS])
def test_fault(env: AppEnvironment, row: Row) -> None:
    env.simulator.behaviour = replace(BEHAVIOUR, **row.behaviour)
    key = fresh(env, row.dataset)
    env.simulator.faults = Faults(*row.rules)
    asked, made, start = (
        len(env.simulator.requests_of("start")),
        len(env.simulator.operations),
        env.clock.now(),
    )
    known = env.simulator.expected(key)
    with row.wrap_function(env, key) if row.wrap_function else ExitStack():
        run = env.land(**key_fields(key))
    assert_ended(env, run, row.outcome, row.code)
    assert (run["posts"], len(env.simulator.requests_of("start")) - asked) == (
        row.posts,
        row.posts,
    )
    assert run["operations"] == row.operations
    if row.made != FORGOTTEN:
        assert len(env.simulator.operations) - made == (
            row.operations if row.made is None else row.made
        )
    assert row.rounds is None or env.run_row(run["run_id"]).plan == row.rounds
    assert env.clock.now() - start >= timedelta(seconds=row.waits)
    assert parse_iso(run["ended_at"]) - start >= timedelta(seconds=row.waits)
    newest = env.simulator.expected(key)
    if row.outcome == "landed":
        assert run["version"] and run["blobs"] == {
            "total": len(newest.blobs),
            "landed": len(newest.blobs),
            "failed": 0,
        }
        assert_landed(env, key, newest)
        return
    assert_sound(env, key, known, newest)
    entry = get_catalogue_entry(env, key)
    assert entry is None or entry.manifest_etag not in (known.etag, newest.etag)
    env.simulator.behaviour, env.simulator.faults = BEHAVIOUR, Faults()
    healed = env.land(**key_fields(key))  # nothing stands in the way of the next run
    assert_ended(env, healed, "landed")
    assert_landed(env, key, newest)


@pytest.mark.parametrize("name", ACTIVITIES)
def test_the_host_is_killed(env: AppEnvironment, name: str) -> None:
    """In the middle of an activity, before or behind its work; another process goes on with what is on disk."""
    key = fresh(env, "unbilled_reconciliation")
    asked, reached = len(env.simulator.requests_of("start")), threading.Event()
    with wrap_function(
        env, name, block_call(env, reached, when="after" if env.locking else "before")
    ):
        run_id = env.start(**key_fields(key))
        env.host.run_until(reached.is_set)
        env.restart()
    run = env.finish(run_id)
    assert_ended(env, run, "landed")
    assert_landed(env, key, env.simulator.expected(key))
    assert (run["posts"], run["operations"], len(env.simulator.requests_of("start")) - asked) == (
        1,
        1,
        1,
    )


MOST_WRITES = 5  # of one activity


@pytest.mark.parametrize("nth", range(1, MOST_WRITES + 1))
def test_a_worker_dies_at_a_write(env: AppEnvironment, nth: int) -> None:
    """Every activity dies before its so-manieth write to tables or landing, is called again, and dies behind it."""
    key, current = fresh(env, "unbilled_reconciliation"), ContextVar("activity", default="")
    attempts, writes = Counter[str](), Counter[str]()
    killed: list[tuple[str, str]] = []

    def counted(name: str) -> Callable[[Call], Call]:
        def wrap(call: Call) -> Call:
            async def called(**arguments: Any) -> Any:
                current.set(name)
                attempts[name] += 1
                writes[name] = 0
                return await call(**arguments)

            return called

        return wrap

    def kill(at: str, kind: str, table: str) -> None:
        name = current.get()
        if at == "before":
            writes[name] += 1
        if name and writes[name] == nth and attempts[name] == (1 if at == "before" else 2):
            killed.append((name, at))
            raise WorkerKilledError

    get_hooked_tables(env).hook = kill
    with every_activity(counted)(env, key):
        run = env.land(**key_fields(key))
    assert killed  # else the number is beyond every activity's writes, and this tries nothing
    assert_ended(env, run, "landed")
    assert_landed(env, key, env.simulator.expected(key))
    assert run["operations"] == 1 and run["posts"] <= 3


def test_a_throttle_holds_for_the_whole_app(env: AppEnvironment) -> None:
    """One run is told to wait; another that starts meanwhile, and a third that is waiting already, leave Graph alone too."""
    env.simulator.behaviour = replace(BEHAVIOUR, retry_after_seconds=60, ready_after_polls=3)
    waiting, told, late = (
        fresh(env, dataset)
        for dataset in ("billed_reconciliation", "unbilled_reconciliation", "unbilled_usage")
    )
    first = env.start(**key_fields(waiting))
    env.host.run_until(lambda: env.run_row(first).polls >= 1)
    env.simulator.faults.add(
        Match(operation="start", nth=(1,)), FaultResponse(status=429, headers=wait(500))
    )
    second = env.start(**key_fields(told))
    env.host.run_until(lambda: env.run_row(second).last_code == "graph_throttled")
    since, asked = env.clock.now(), len(env.simulator.requests)
    third = env.start(**key_fields(late))
    runs = [env.finish(run_id) for run_id in (first, second, third)]
    assert [run["outcome"] for run in runs] == ["landed"] * 3
    next_asked = env.simulator.requests[asked].clock
    assert next_asked - since >= timedelta(seconds=499)
    assert [run["posts"] for run in runs] == [1, 2, 1]


def test_a_throttle_while_the_manifest_is_read_holds_for_the_whole_app_too(
    env: AppEnvironment,
) -> None:
    env.simulator.behaviour = replace(BEHAVIOUR, manifest="link")
    told, late = fresh(env, "unbilled_reconciliation"), fresh(env, "unbilled_usage")
    env.simulator.faults.add(
        Match(operation="manifest", nth=(2,)), FaultResponse(status=429, headers=wait(500))
    )
    first = env.start(**key_fields(told))
    env.host.run_until(lambda: env.run_row(first).last_code == "graph_throttled")
    since, asked = env.clock.now(), len(env.simulator.requests)
    second = env.start(**key_fields(late))
    assert [env.finish(run_id)["outcome"] for run_id in (first, second)] == ["landed", "landed"]
    assert env.simulator.requests[asked].clock - since >= timedelta(seconds=499)
