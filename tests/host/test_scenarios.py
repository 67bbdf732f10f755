"""The scenarios of durable-protocol section 9, over real HTTP with the unmodified SDK, on virtual time.

Number 34 (a timer trigger in real time) and 36 (kill -9) are in test_process.py.
"""

import threading
import time
from typing import Any

import azure.durable_functions as df
import pytest

from local.host import InstanceExistsError, LocalHost, UnknownOrchestratorError
from local.host.engine import EPISODE_THREADS
from local.host.history import EventType

from .conftest import Web, sample_host


def run(host: LocalHost, web: Web, name: str, content: Any = None) -> dict[str, Any]:
    return host.wait(web.start(name, content))


def completed(host: LocalHost, web: Web, name: str, content: Any = None) -> Any:
    status = run(host, web, name, content)
    assert status["runtimeStatus"] == "Completed", status
    return status["output"]


def failed(host: LocalHost, web: Web, name: str, content: Any = None) -> str:
    status = run(host, web, name, content)
    assert status["runtimeStatus"] == "Failed", status
    return str(status["output"])


def test_01_chain(host: LocalHost, web: Web) -> None:
    assert completed(host, web, "chain", 5) == 5


@pytest.mark.parametrize("name", ["fan_async", "fan_sync"])
def test_02_03_fan_out(host: LocalHost, web: Web, name: str) -> None:
    assert completed(host, web, name, 200) == sum(range(1, 201))


def test_04_retry(host: LocalHost, web: Web) -> None:
    assert completed(host, web, "retry", {"key": "r4", "fail": 2, "attempts": 4}) == 4


def test_05_retry_exhausted(host: LocalHost, web: Web) -> None:
    output = failed(host, web, "retry", {"key": "r5", "fail": 9, "attempts": 3})
    assert output.startswith(
        "Orchestrator function 'retry' failed: Activity function 'flaky' failed:  ValueError: boom 3 \n {"
    )


def test_06_retries_in_parallel(host: LocalHost, web: Web) -> None:
    assert completed(host, web, "retry_all") == [1, 2, 3, 1, 2, 3, 1, 2, 3, 1]


def test_07_timer(host: LocalHost, web: Web) -> None:
    assert 1 <= completed(host, web, "timer", 1) < 2


def test_08_timer_wins(host: LocalHost, web: Web) -> None:
    assert completed(host, web, "race", {"s": 5}) == {"won": "timer"}


def test_09_event_by_webhook_wins(host: LocalHost, web: Web) -> None:
    iid = web.start("race", {"s": 500})
    assert web.event(iid, "go", {"a": 1}) == 202
    assert host.wait(iid)["output"] == {"won": "event", "data": {"a": 1}, "type": "dict"}


def test_10_event_by_the_sdk_arrives_as_text(host: LocalHost, web: Web) -> None:
    iid = web.start("race", {"s": 500})
    assert web.call("POST", f"/api/raise/{iid}/go", {"a": 1}).status == 202
    assert host.wait(iid)["output"] == {"won": "event", "data": '{"a": 1}', "type": "str"}


def test_11_uncancelled_timer_keeps_it_running(host: LocalHost, web: Web) -> None:
    iid = web.start("race", {"s": 4, "cancel": False})
    host.settle()
    assert web.event(iid, "go", 1) == 202
    host.settle()
    answer = web.manage("GET", f"instances/{iid}")
    assert (answer.status, answer.json()["runtimeStatus"]) == (202, "Running")
    assert host.wait(iid)["output"]["won"] == "event"


def test_12_three_events(host: LocalHost, web: Web) -> None:
    iid = web.start("events")
    host.settle()
    for n in range(3):
        assert web.event(iid, "e", n) == 202
        host.settle()
    assert host.wait(iid)["output"] == [0, 1, 2]


def test_13_sub_orchestrations(host: LocalHost, web: Web) -> None:
    iid = web.start("parent")
    assert host.wait(iid)["output"] == [[1, 2, 3], 2]
    child = web.status(f"{iid}:child")
    assert (child["name"], child["runtimeStatus"], child["output"]) == ("chain", "Completed", 2)


def test_14_failing_child_is_caught(host: LocalHost, web: Web) -> None:
    output = completed(host, web, "bad_sub")
    assert output.startswith(
        "caught: Orchestrator function 'fails' failed: Activity function 'flaky' failed:  ValueError: boom 1"
    )


def test_15_continue_as_new(host: LocalHost, web: Web) -> None:
    status = run(host, web, "eternal", 0)
    assert (status["output"], status["customStatus"], status["input"]) == (5, {"gen": 5}, "5")


def test_16_endless_loop(host: LocalHost, web: Web) -> None:
    assert completed(host, web, "monitor") == "second15"


def test_17_custom_status_is_seen(host: LocalHost, web: Web) -> None:
    iid, seen = web.start("statuses"), []

    def ended() -> bool:
        status = host.status(iid)
        assert status is not None
        if status["customStatus"] and status["customStatus"]["stage"] not in seen:
            seen.append(status["customStatus"]["stage"])
        return status["runtimeStatus"] == "Completed"

    host.run_until(ended)
    assert seen == ["one", "two", "three"]


def test_18_activity_fails(host: LocalHost, web: Web) -> None:
    assert "Activity function 'flaky' failed:  ValueError: boom 1" in failed(host, web, "fails")


def test_19_activity_failure_is_caught(host: LocalHost, web: Web) -> None:
    word, text = completed(host, web, "catches")
    assert word == "handled" and text.startswith(
        "Activity function 'flaky' failed:  ValueError: boom 1 \n {"
    )


def test_20_what_follows_a_failed_fan_out_waits_for_its_siblings(host: LocalHost, web: Web) -> None:
    before = time.monotonic()
    assert completed(host, web, "fail_fast") == "after"
    assert time.monotonic() - before > 1.4


def test_21_orchestrator_raises(host: LocalHost, web: Web) -> None:
    assert failed(host, web, "raises") == "Orchestrator function 'raises' failed: 'oops'"


def test_22_non_deterministic(host: LocalHost, web: Web) -> None:
    assert failed(host, web, "nondeterministic") == (
        "Non-Deterministic workflow detected: A previous execution of this orchestration scheduled an activity task with "
        "sequence number 0 named 'inc', but the current orchestration replay instead scheduled an activity task named 'echo' "
        "with this sequence number.  Was a change made to the orchestrator code after this instance had already started running?"
    )


def test_23_unknown_activity_fails_at_once(host: LocalHost, web: Web) -> None:
    text = "The function 'nope' doesn't exist, is disabled, or is not an activity function."
    assert text in failed(host, web, "unknown_activity")


def test_24_unknown_orchestrator(host: LocalHost, web: Web) -> None:
    assert web.call("POST", "/api/start/nobody").status == 500
    answer = web.manage("POST", "orchestrators/nobody")
    assert answer.status == 400
    assert answer.json()["ExceptionMessage"].startswith(
        "The function 'nobody' doesn't exist, is disabled, or is not an orchestr"
    )
    with pytest.raises(UnknownOrchestratorError):
        host.start_orchestration("inc")


def test_25_terminate(host: LocalHost, web: Web) -> None:
    iid = web.start("race", {"s": 500})
    assert web.manage("POST", f"instances/{iid}/terminate?reason=enough").status == 202
    status = host.wait(iid)
    assert (status["runtimeStatus"], status["output"]) == ("Terminated", "enough")
    assert web.manage("POST", f"instances/{iid}/terminate?reason=again").status == 410
    assert (
        web.call("POST", f"/api/sdk-manage/{iid}/terminate").status == 202
    )  # the SDK takes 410 for success


def test_26_suspend_and_resume(host: LocalHost, web: Web) -> None:
    iid = web.start("events")
    assert web.manage("POST", f"instances/{iid}/suspend?reason=pause").status == 202
    host.settle()
    status = web.status(iid)
    assert (status["runtimeStatus"], status["output"]) == ("Suspended", "pause")
    for n in range(3):
        assert web.event(iid, "e", n) == 202
    host.settle()
    assert web.status(iid)["runtimeStatus"] == "Suspended"
    again = web.manage("POST", f"instances/{iid}/suspend")
    assert again.status == 500
    assert again.json()["ExceptionMessage"] == (
        f"Cannot suspend the orchestration instance {iid} because instance is in the Suspended state."
    )
    assert web.call("POST", f"/api/sdk-manage/{iid}/resume").status == 202
    assert host.wait(iid)["output"] == [0, 1, 2]


def test_27_fixed_ids(host: LocalHost, web: Web) -> None:
    assert web.call("POST", "/api/start-once/race/fixed", {"s": 50}).status == 202
    assert web.call("POST", "/api/start-once/race/fixed", {"s": 50}).status == 409
    assert web.call("POST", "/api/start/race/fixed", {"s": 50}).status == 500
    answer = web.manage("POST", "orchestrators/race/fixed", "1")
    assert answer.status == 409
    assert (
        answer.json()["ExceptionMessage"]
        == "An Orchestration instance with the status Running already exists."
    )
    with pytest.raises(InstanceExistsError):
        host.start_orchestration("chain", 1, "fixed")
    assert host.wait("fixed")["output"] == {"won": "timer"}
    assert web.call("POST", "/api/start-once/chain/fixed", 2).status == 202
    assert host.wait("fixed")["output"] == 2


def test_28_purge(host: LocalHost, web: Web) -> None:
    iid = web.start("race", {"s": 5})
    assert web.manage("DELETE", f"instances/{iid}").status == 412
    host.wait(iid)
    assert web.manage("DELETE", f"instances/{iid}").json() == {"instancesDeleted": 1}
    assert web.manage("GET", f"instances/{iid}").status == 404
    assert web.manage("DELETE", f"instances/{iid}").status == 404
    assert web.call("POST", f"/api/sdk-manage/{iid}/purge").body == b"0"


def test_29_restart(host: LocalHost, web: Web) -> None:
    iid = web.start("chain", 3)
    host.wait(iid)
    answer = web.manage("POST", f"instances/{iid}/restart")
    assert answer.status == 202 and answer.json()["id"] != iid
    assert host.wait(answer.json()["id"])["output"] == 3
    assert (
        web.manage("POST", f"instances/{iid}/restart?restartWithNewInstanceId=false").json()["id"]
        == iid
    )
    assert host.wait(iid)["output"] == 3
    assert web.manage("POST", "instances/nobody/restart").status == 400


def test_30_wait_for_completion(web: Web) -> None:
    answer = web.call("POST", "/api/start-and-wait/chain", 2)
    assert (answer.status, answer.json()) == (200, 2)


def test_31_sdk_queries(host: LocalHost, web: Web) -> None:
    failed(host, web, "raises")
    iid = web.start("chain", 2)
    host.wait(iid)
    answer = web.call("GET", f"/api/sdk-status/{iid}").json()
    assert (answer["status"], answer["input"], answer["nobody"]) == ("Completed", "2", False)
    assert answer["all"] > 0 and answer["failed"] > 0


def test_32_plain_return(host: LocalHost, web: Web) -> None:
    iid = web.start("plain_return")
    assert host.wait(iid)["output"] == {"plain": True, "id": iid}


def test_33_clock_and_uuids(host: LocalHost, web: Web) -> None:
    assert completed(host, web, "clock") == [True, True, False]


def test_35_long_sub_orchestration(host: LocalHost, web: Web) -> None:
    assert completed(host, web, "slow_parent", 35) == 35
    assert completed(host, web, "slow_parent", 86400) == 86400


# -- additional checks ----------------------------------------------------------


def test_timers_of_an_earlier_generation_are_stale(host: LocalHost, web: Web) -> None:
    assert completed(host, web, "stale_timer") >= 3


def test_600_results_of_10_kb(host: LocalHost, web: Web) -> None:
    assert completed(host, web, "big_results") == 6_000_000


def test_300_timers_add_no_threads() -> None:
    with sample_host(clock=None) as host:  # real time: that is where something has to wait for them
        host.wait(host.start_orchestration("fan_sync", 50))
        host.settle()
        before = threading.active_count()
        iid = host.start_orchestration("many_timers", 300)
        host.run_until(
            lambda: (
                sum(event["EventType"] == EventType.TIMER_CREATED for event in host.history(iid))
                == 300
            )
        )
        host.settle()
        assert (
            threading.active_count() - before < EPISODE_THREADS
        )  # these come as they are needed, and stay
        host.terminate(iid)
        host.wait(iid)


def test_trap_t1_ids_out_of_step(host: LocalHost, web: Web) -> None:
    """Catching a failed fan-out while a sibling still retries: the next result is not the next activity's."""
    assert completed(host, web, "desync") is None


def test_trap_t2_nested_fan_out(
    host: LocalHost, web: Web, caplog: pytest.LogCaptureFixture
) -> None:
    """The SDK raises when the sibling ends; Azure shows a text about changed code, this host logs what the SDK said, too."""
    iid = web.start("nested_fan_out")
    host.settle()
    assert web.event(iid, "go", 1) == 202
    status = host.wait(iid)
    assert status["runtimeStatus"] == "Failed"
    assert status["output"].startswith(
        "Non-Deterministic workflow detected: A previous execution of this orchestration"
    )
    (hidden,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert hidden.startswith(
        f"{iid} nested_fan_out: an error that Azure hides: Exception: Parent Task -1 does not have pending"
    )


def test_trap_t2_spares_what_returns_at_once(host: LocalHost, web: Web) -> None:
    iid = web.start("nested_fan_out", "return")
    host.settle()
    web.event(iid, "go", 1)
    assert host.wait(iid)["output"] == "caught"


@pytest.mark.parametrize("name", ["early_events", "early_events_any"])
def test_trap_t3_early_events(host: LocalHost, web: Web, name: str) -> None:
    iid = web.start(name)
    host.settle()
    for n in (1, 2, 3):
        web.event(iid, "e", n)
        host.settle()
    assert host.wait(iid)["output"] == [3, 3, 3]


def test_one_event_around_continue_as_new_is_delivered_three_times(
    host: LocalHost, web: Web
) -> None:
    iid = web.start("event_once")
    host.settle()
    web.event(iid, "e", 1)
    assert host.wait(iid)["output"] == [1, 1, 1]


def test_custom_status_is_cleared_when_not_sent(host: LocalHost, web: Web) -> None:
    iid = web.start("status_cleared")
    host.settle()
    assert web.status(iid)["customStatus"] is None
    host.wait(iid)


def test_custom_status_above_16_kb_fails(host: LocalHost, web: Web) -> None:
    assert failed(host, web, "big_status", 9000) == (
        "Orchestrator function 'big_status' failed: The UTF-16 size of the JSON-serialized payload must not exceed 16 KB. "
        "The current payload size is 17 KB."
    )


def test_sanitizer_garbles_an_error_with_a_credential_word(host: LocalHost, web: Web) -> None:
    assert failed(host, web, "error_with_key").startswith(
        "Non-Deterministic workflow detected: A previous execution of this orchestration scheduled an activity task with "
        "sequence ID 0 and name 'inc' (version ''), but the current replay execution hasn't (yet?) scheduled this task."
    )


def test_unserialisable_activity_result(host: LocalHost, web: Web) -> None:
    assert completed(host, web, "bad_result_caught").startswith(
        "Activity function 'bad_result' failed:  ValueError: activity trigger output must be json serializable ({1, 2})"
    )


def test_dates_in_outputs_are_rewritten(host: LocalHost, web: Web) -> None:
    assert completed(host, web, "out_date") == {
        "when": "2026-01-02T01:04:05.123+00:00",
        "s": "2026-01-02T03:04:05Z",
    }


def test_own_id_and_live_id_for_a_child(host: LocalHost, web: Web) -> None:
    assert "must be different than the instance ID of a parent" in failed(host, web, "own_child")
    assert "is live already" in completed(host, web, "twins")


def test_default_version(host: LocalHost, web: Web) -> None:
    assert completed(host, web, "version") == ["1.0", "1.0"]


def test_client_and_context_in_an_activity(host: LocalHost, web: Web) -> None:
    assert completed(host, web, "activity_with_client") == [7, False, "own_status"]


def test_call_http_is_refused(host: LocalHost, web: Web) -> None:
    assert "does not support call_http" in failed(host, web, "http_call")


def test_rewind(host: LocalHost, web: Web) -> None:
    iid = web.start("fails_once")
    assert host.wait(iid)["runtimeStatus"] == "Failed"
    assert web.call("POST", f"/api/sdk-manage/{iid}/rewind").status == 202
    assert host.wait(iid)["output"] == [2, 2]
    assert web.manage("POST", f"instances/{iid}/rewind").status == 410
    assert web.manage("POST", "instances/nobody/rewind").status == 404


def test_rewind_after_a_retry_is_non_deterministic(host: LocalHost, web: Web) -> None:
    iid = web.start("retry", {"key": "rewound", "fail": 1, "attempts": 1})
    assert host.wait(iid)["runtimeStatus"] == "Failed"
    assert web.manage("POST", f"instances/{iid}/rewind").status == 202
    status = host.wait(iid)
    assert status["output"].startswith(
        "Non-Deterministic workflow detected: A previous execution of this orchestration scheduled a timer task with sequence "
        "number 1 but the current replay execution hasn't (yet?)"
    )


def test_replay_takes_at_most_half_of_a_fan_out() -> None:
    """An orchestrator that is slow to replay hears of several results at once; its activities go on meanwhile."""
    app, replay, episodes = df.DFApp(), 0.05, 0

    @app.activity_trigger(input_name="n")
    def work(n: int) -> int:
        time.sleep(0.01)
        return n

    @app.orchestration_trigger(context_name="context")
    def wide(context: Any) -> Any:
        nonlocal episodes
        episodes += 1
        time.sleep(replay)
        return sum((yield context.task_all([context.call_activity("work", n) for n in range(100)])))

    one_at_a_time = {
        "version": "2.0",
        "extensions": {"durableTask": {"maxConcurrentActivityFunctions": 1}},
    }
    with LocalHost(app, host_json=one_at_a_time) as host:
        began = time.monotonic()
        assert host.wait(host.start_orchestration("wide"))["output"] == sum(range(100))
        took = time.monotonic() - began
    assert 2 * episodes * replay < 1.4 * took, (episodes, took)
