"""The Durable Functions scenarios, over HTTP with the unmodified SDK, in virtual time.

`test_process.py` contains the scenarios that need a separate process: a timer trigger in real time
and a killed host.
"""

import threading
import time
from typing import Any

import azure.durable_functions as df
import pytest

from local.host import InstanceExistsError, LocalHost, UnknownOrchestratorError
from local.host.engine import EPISODE_THREADS
from local.host.history import EventType

from .sample_host import HostClient, create_sample_host


def run_orchestration(
    host: LocalHost, client: HostClient, name: str, content: Any = None
) -> dict[str, Any]:
    return host.wait(client.start_orchestration(name, content))


def get_output(host: LocalHost, client: HostClient, name: str, content: Any = None) -> Any:
    status = run_orchestration(host, client, name, content)
    assert status["runtimeStatus"] == "Completed", status
    return status["output"]


def get_failure(host: LocalHost, client: HostClient, name: str, content: Any = None) -> str:
    status = run_orchestration(host, client, name, content)
    assert status["runtimeStatus"] == "Failed", status
    return str(status["output"])


def test_chain_of_activities_completes(host: LocalHost, client: HostClient) -> None:
    assert get_output(host, client, "chain", 5) == 5


@pytest.mark.parametrize("name", ["fan_out_async", "fan_out_sync"])
def test_fan_out_completes(host: LocalHost, client: HostClient, name: str) -> None:
    assert get_output(host, client, name, 200) == sum(range(1, 201))


def test_retry_after_two_failures_completes(host: LocalHost, client: HostClient) -> None:
    assert get_output(host, client, "retry", {"key": "r4", "fail": 2, "attempts": 4}) == 4


def test_retry_exhausted_fails(host: LocalHost, client: HostClient) -> None:
    output = get_failure(host, client, "retry", {"key": "r5", "fail": 9, "attempts": 3})
    assert output.startswith(
        "Orchestrator function 'retry' failed: Activity function 'flaky' failed:  ValueError: boom "
        "3 \n {"
    )


def test_retry_in_parallel_completes(host: LocalHost, client: HostClient) -> None:
    assert get_output(host, client, "retry_all") == [1, 2, 3, 1, 2, 3, 1, 2, 3, 1]


def test_timer_delays_orchestration(host: LocalHost, client: HostClient) -> None:
    assert 1 <= get_output(host, client, "timer", 1) < 2


def test_race_without_event_returns_timer(host: LocalHost, client: HostClient) -> None:
    assert get_output(host, client, "race", {"s": 5}) == {"won": "timer"}


def test_event_raised_through_management_api_is_parsed(host: LocalHost, client: HostClient) -> None:
    instance_id = client.start_orchestration("race", {"s": 500})
    assert client.raise_event(instance_id, "go", {"a": 1}) == 202
    assert host.wait(instance_id)["output"] == {"won": "event", "data": {"a": 1}, "type": "dict"}


def test_event_raised_through_sdk_arrives_as_string(host: LocalHost, client: HostClient) -> None:
    instance_id = client.start_orchestration("race", {"s": 500})
    assert client.request("POST", f"/api/raise/{instance_id}/go", {"a": 1}).status == 202
    assert host.wait(instance_id)["output"] == {"won": "event", "data": '{"a": 1}', "type": "str"}


def test_uncancelled_timer_keeps_instance_running(host: LocalHost, client: HostClient) -> None:
    instance_id = client.start_orchestration("race", {"s": 4, "cancel": False})
    host.settle()
    assert client.raise_event(instance_id, "go", 1) == 202
    host.settle()
    response = client.manage("GET", f"instances/{instance_id}")
    assert (response.status, response.json()["runtimeStatus"]) == (202, "Running")
    assert host.wait(instance_id)["output"]["won"] == "event"


def test_events_are_delivered_in_order(host: LocalHost, client: HostClient) -> None:
    instance_id = client.start_orchestration("events")
    host.settle()
    for n in range(3):
        assert client.raise_event(instance_id, "e", n) == 202
        host.settle()
    assert host.wait(instance_id)["output"] == [0, 1, 2]


def test_sub_orchestrations_complete(host: LocalHost, client: HostClient) -> None:
    instance_id = client.start_orchestration("parent")
    assert host.wait(instance_id)["output"] == [[1, 2, 3], 2]
    child = client.get_status(f"{instance_id}:child")
    assert (child["name"], child["runtimeStatus"], child["output"]) == ("chain", "Completed", 2)


def test_sub_orchestration_failure_is_caught(host: LocalHost, client: HostClient) -> None:
    output = get_output(host, client, "failing_child")
    assert output.startswith(
        "caught: Orchestrator function 'failing' failed: Activity function 'flaky' failed:  "
        "ValueError: boom 1"
    )


def test_continue_as_new_keeps_custom_status_and_last_input(
    host: LocalHost, client: HostClient
) -> None:
    status = run_orchestration(host, client, "eternal", 0)
    assert (status["output"], status["customStatus"], status["input"]) == (5, {"gen": 5}, "5")


def test_continue_as_new_in_loop_completes(host: LocalHost, client: HostClient) -> None:
    assert get_output(host, client, "monitor") == "second15"


def test_custom_status_is_visible_while_running(host: LocalHost, client: HostClient) -> None:
    instance_id, stages = client.start_orchestration("custom_statuses"), []

    def has_completed() -> bool:
        status = host.status(instance_id)
        assert status is not None
        if status["customStatus"] and status["customStatus"]["stage"] not in stages:
            stages.append(status["customStatus"]["stage"])
        return status["runtimeStatus"] == "Completed"

    host.run_until(has_completed)
    assert stages == ["one", "two", "three"]


def test_activity_failure_fails_orchestration(host: LocalHost, client: HostClient) -> None:
    assert "Activity function 'flaky' failed:  ValueError: boom 1" in get_failure(
        host, client, "failing"
    )


def test_activity_failure_is_caught(host: LocalHost, client: HostClient) -> None:
    result, error_text = get_output(host, client, "catches_failure")
    assert result == "handled" and error_text.startswith(
        "Activity function 'flaky' failed:  ValueError: boom 1 \n {"
    )


def test_activity_after_failed_fan_out_waits_for_siblings(
    host: LocalHost, client: HostClient
) -> None:
    started_at = time.monotonic()
    assert get_output(host, client, "fail_fast") == "after"
    assert time.monotonic() - started_at > 1.4


def test_orchestrator_exception_fails_orchestration(host: LocalHost, client: HostClient) -> None:
    assert get_failure(host, client, "raises") == "Orchestrator function 'raises' failed: 'oops'"


def test_nondeterministic_orchestrator_fails(host: LocalHost, client: HostClient) -> None:
    assert get_failure(host, client, "nondeterministic") == (
        "Non-Deterministic workflow detected: A previous execution of this orchestration scheduled "
        "an activity task with "
        "sequence number 0 named 'inc', but the current orchestration replay instead scheduled an "
        "activity task named 'echo' "
        "with this sequence number.  Was a change made to the orchestrator code after this "
        "instance had already started running?"
    )


def test_unknown_activity_fails_immediately(host: LocalHost, client: HostClient) -> None:
    expected = "The function 'nope' doesn't exist, is disabled, or is not an activity function."
    assert expected in get_failure(host, client, "unknown_activity")


def test_unknown_orchestrator_is_rejected(host: LocalHost, client: HostClient) -> None:
    assert client.request("POST", "/api/start/unknown").status == 500
    response = client.manage("POST", "orchestrators/unknown")
    assert response.status == 400
    assert response.json()["ExceptionMessage"].startswith(
        "The function 'unknown' doesn't exist, is disabled, or is not an orchestr"
    )
    with pytest.raises(UnknownOrchestratorError):
        host.start_orchestration("inc")


def test_terminate_running_instance_sets_reason_as_output(
    host: LocalHost, client: HostClient
) -> None:
    instance_id = client.start_orchestration("race", {"s": 500})
    assert client.manage("POST", f"instances/{instance_id}/terminate?reason=enough").status == 202
    status = host.wait(instance_id)
    assert (status["runtimeStatus"], status["output"]) == ("Terminated", "enough")
    assert client.manage("POST", f"instances/{instance_id}/terminate?reason=again").status == 410
    # The SDK treats 410 as success.
    assert client.request("POST", f"/api/sdk-manage/{instance_id}/terminate").status == 202


def test_suspend_delays_events_until_resume(host: LocalHost, client: HostClient) -> None:
    instance_id = client.start_orchestration("events")
    assert client.manage("POST", f"instances/{instance_id}/suspend?reason=pause").status == 202
    host.settle()
    status = client.get_status(instance_id)
    assert (status["runtimeStatus"], status["output"]) == ("Suspended", "pause")
    for n in range(3):
        assert client.raise_event(instance_id, "e", n) == 202
    host.settle()
    assert client.get_status(instance_id)["runtimeStatus"] == "Suspended"
    response = client.manage("POST", f"instances/{instance_id}/suspend")
    assert response.status == 500
    assert response.json()["ExceptionMessage"] == (
        f"Cannot suspend the orchestration instance {instance_id} because instance is in the "
        "Suspended state."
    )
    assert client.request("POST", f"/api/sdk-manage/{instance_id}/resume").status == 202
    assert host.wait(instance_id)["output"] == [0, 1, 2]


def test_start_with_id_of_running_instance_is_rejected(host: LocalHost, client: HostClient) -> None:
    assert client.request("POST", "/api/start-once/race/fixed", {"s": 50}).status == 202
    assert client.request("POST", "/api/start-once/race/fixed", {"s": 50}).status == 409
    assert client.request("POST", "/api/start/race/fixed", {"s": 50}).status == 500
    response = client.manage("POST", "orchestrators/race/fixed", "1")
    assert response.status == 409
    assert (
        response.json()["ExceptionMessage"]
        == "An Orchestration instance with the status Running already exists."
    )
    with pytest.raises(InstanceExistsError):
        host.start_orchestration("chain", 1, "fixed")
    assert host.wait("fixed")["output"] == {"won": "timer"}
    assert client.request("POST", "/api/start-once/chain/fixed", 2).status == 202
    assert host.wait("fixed")["output"] == 2


def test_purge_deletes_only_ended_instances(host: LocalHost, client: HostClient) -> None:
    instance_id = client.start_orchestration("race", {"s": 5})
    assert client.manage("DELETE", f"instances/{instance_id}").status == 412
    host.wait(instance_id)
    assert client.manage("DELETE", f"instances/{instance_id}").json() == {"instancesDeleted": 1}
    assert client.manage("GET", f"instances/{instance_id}").status == 404
    assert client.manage("DELETE", f"instances/{instance_id}").status == 404
    assert client.request("POST", f"/api/sdk-manage/{instance_id}/purge").body == b"0"


def test_restart_repeats_orchestration(host: LocalHost, client: HostClient) -> None:
    instance_id = client.start_orchestration("chain", 3)
    host.wait(instance_id)
    response = client.manage("POST", f"instances/{instance_id}/restart")
    assert response.status == 202 and response.json()["id"] != instance_id
    assert host.wait(response.json()["id"])["output"] == 3
    assert (
        client.manage(
            "POST", f"instances/{instance_id}/restart?restartWithNewInstanceId=false"
        ).json()["id"]
        == instance_id
    )
    assert host.wait(instance_id)["output"] == 3
    assert client.manage("POST", "instances/unknown/restart").status == 400


def test_wait_for_completion_returns_output(client: HostClient) -> None:
    response = client.request("POST", "/api/start-and-wait/chain", 2)
    assert (response.status, response.json()) == (200, 2)


def test_sdk_client_queries_instances(host: LocalHost, client: HostClient) -> None:
    get_failure(host, client, "raises")
    instance_id = client.start_orchestration("chain", 2)
    host.wait(instance_id)
    result = client.request("GET", f"/api/sdk-status/{instance_id}").json()
    assert (result["status"], result["input"], result["unknown"]) == ("Completed", "2", False)
    assert result["all"] > 0 and result["failed"] > 0


def test_orchestrator_without_yield_completes(host: LocalHost, client: HostClient) -> None:
    instance_id = client.start_orchestration("plain_return")
    assert host.wait(instance_id)["output"] == {"plain": True, "id": instance_id}


def test_orchestration_clock_and_uuids_are_deterministic(
    host: LocalHost, client: HostClient
) -> None:
    assert get_output(host, client, "clock") == [True, True, False]


def test_long_sub_orchestration_completes(host: LocalHost, client: HostClient) -> None:
    assert get_output(host, client, "parent_of_timer", 35) == 35
    assert get_output(host, client, "parent_of_timer", 86400) == 86400


# -- further behavior ----------------------------------------------------------


def test_timer_of_previous_generation_is_ignored(host: LocalHost, client: HostClient) -> None:
    assert get_output(host, client, "stale_timer") >= 3


def test_fan_out_with_large_results_completes(host: LocalHost, client: HostClient) -> None:
    assert get_output(host, client, "large_results") == 6_000_000


def test_many_timers_start_no_threads() -> None:
    with create_sample_host(clock=None) as host:  # the host waits for timers only in real time
        host.wait(host.start_orchestration("fan_out_sync", 50))
        host.settle()
        thread_count = threading.active_count()
        instance_id = host.start_orchestration("many_timers", 300)
        host.run_until(
            lambda: (
                sum(
                    event["EventType"] == EventType.TIMER_CREATED
                    for event in host.history(instance_id)
                )
                == 300
            )
        )
        host.settle()
        # The host starts threads for episodes on demand and keeps them.
        assert threading.active_count() - thread_count < EPISODE_THREADS
        host.terminate(instance_id)
        host.wait(instance_id)


def test_activity_after_caught_failure_receives_result_of_retried_sibling(
    host: LocalHost, client: HostClient
) -> None:
    """The orchestrator catches a failure in a fan-out while a sibling is still being retried.

    The sequence numbers then no longer match, and the next activity receives the wrong result.
    """
    assert get_output(host, client, "sequence_mismatch") is None


def test_nested_fan_out_failure_logs_error_that_azure_hides(
    host: LocalHost, client: HostClient, caplog: pytest.LogCaptureFixture
) -> None:
    """The SDK raises an exception when the sibling ends.

    Azure reports only that the code has changed. The local host also logs the exception.
    """
    instance_id = client.start_orchestration("nested_fan_out")
    host.settle()
    assert client.raise_event(instance_id, "go", 1) == 202
    status = host.wait(instance_id)
    assert status["runtimeStatus"] == "Failed"
    assert status["output"].startswith(
        "Non-Deterministic workflow detected: A previous execution of this orchestration"
    )
    (log_message,) = [
        record.getMessage() for record in caplog.records if record.levelname == "ERROR"
    ]
    assert log_message.startswith(
        f"{instance_id} nested_fan_out: an error that Azure hides: Exception: Parent Task -1 does "
        "not have pending"
    )


def test_nested_fan_out_failure_with_immediate_return_completes(
    host: LocalHost, client: HostClient
) -> None:
    instance_id = client.start_orchestration("nested_fan_out", "return")
    host.settle()
    client.raise_event(instance_id, "go", 1)
    assert host.wait(instance_id)["output"] == "caught"


@pytest.mark.parametrize("name", ["early_events", "early_events_any"])
def test_early_events_deliver_last_event_repeatedly(
    host: LocalHost, client: HostClient, name: str
) -> None:
    instance_id = client.start_orchestration(name)
    host.settle()
    for n in (1, 2, 3):
        client.raise_event(instance_id, "e", n)
        host.settle()
    assert host.wait(instance_id)["output"] == [3, 3, 3]


def test_event_before_continue_as_new_is_delivered_to_each_generation(
    host: LocalHost, client: HostClient
) -> None:
    instance_id = client.start_orchestration("event_once")
    host.settle()
    client.raise_event(instance_id, "e", 1)
    assert host.wait(instance_id)["output"] == [1, 1, 1]


def test_custom_status_none_clears_status(host: LocalHost, client: HostClient) -> None:
    instance_id = client.start_orchestration("cleared_custom_status")
    host.settle()
    assert client.get_status(instance_id)["customStatus"] is None
    host.wait(instance_id)


def test_custom_status_above_16_kb_fails(host: LocalHost, client: HostClient) -> None:
    assert get_failure(host, client, "large_custom_status", 9000) == (
        "Orchestrator function 'large_custom_status' failed: The UTF-16 size of the "
        "JSON-serialized payload must not exceed 16 KB. "
        "The current payload size is 17 KB."
    )


def test_error_text_with_credential_word_is_reported_as_nondeterminism(
    host: LocalHost, client: HostClient
) -> None:
    assert get_failure(host, client, "error_with_key").startswith(
        "Non-Deterministic workflow detected: A previous execution of this orchestration scheduled "
        "an activity task with "
        "sequence ID 0 and name 'inc' (version ''), but the current replay execution hasn't (yet?) "
        "scheduled this task."
    )


def test_activity_result_not_serializable_fails_activity(
    host: LocalHost, client: HostClient
) -> None:
    assert get_output(host, client, "catches_bad_result").startswith(
        "Activity function 'bad_result' failed:  ValueError: activity trigger output must be json "
        "serializable ({1, 2})"
    )


def test_output_with_dates_normalizes_them(host: LocalHost, client: HostClient) -> None:
    assert get_output(host, client, "dates_in_output") == {
        "when": "2026-01-02T01:04:05.123+00:00",
        "s": "2026-01-02T03:04:05Z",
    }


def test_child_with_id_of_parent_or_running_instance_fails(
    host: LocalHost, client: HostClient
) -> None:
    assert "must be different than the instance ID of a parent" in get_failure(
        host, client, "child_with_own_id"
    )
    assert "is live already" in get_output(host, client, "children_with_same_id")


def test_default_version_applies_to_children(host: LocalHost, client: HostClient) -> None:
    assert get_output(host, client, "version") == ["1.0", "1.0"]


def test_activity_receives_client_and_context(host: LocalHost, client: HostClient) -> None:
    assert get_output(host, client, "activity_with_client") == [7, False, "client_status"]


def test_call_http_fails_as_unsupported(host: LocalHost, client: HostClient) -> None:
    assert "does not support call_http" in get_failure(host, client, "http_call")


def test_rewind_failed_instance_completes(host: LocalHost, client: HostClient) -> None:
    instance_id = client.start_orchestration("fails_once")
    assert host.wait(instance_id)["runtimeStatus"] == "Failed"
    assert client.request("POST", f"/api/sdk-manage/{instance_id}/rewind").status == 202
    assert host.wait(instance_id)["output"] == [2, 2]
    assert client.manage("POST", f"instances/{instance_id}/rewind").status == 410
    assert client.manage("POST", "instances/unknown/rewind").status == 404


def test_rewind_after_retry_fails_as_nondeterministic(host: LocalHost, client: HostClient) -> None:
    instance_id = client.start_orchestration("retry", {"key": "rewound", "fail": 1, "attempts": 1})
    assert host.wait(instance_id)["runtimeStatus"] == "Failed"
    assert client.manage("POST", f"instances/{instance_id}/rewind").status == 202
    status = host.wait(instance_id)
    assert status["output"].startswith(
        "Non-Deterministic workflow detected: A previous execution of this orchestration scheduled "
        "a timer task with sequence "
        "number 1 but the current replay execution hasn't (yet?)"
    )


def test_fan_out_with_slow_replay_batches_results() -> None:
    """An orchestrator that replays slowly receives several results per episode.

    Its activities continue to run during the replay.
    """
    app, replay_seconds, episodes = df.DFApp(), 0.05, 0

    @app.activity_trigger(input_name="n")
    def work(n: int) -> int:
        time.sleep(0.01)
        return n

    @app.orchestration_trigger(context_name="context")
    def fan_out(context: Any) -> Any:
        nonlocal episodes
        episodes += 1
        time.sleep(replay_seconds)
        return sum((yield context.task_all([context.call_activity("work", n) for n in range(100)])))

    host_json = {
        "version": "2.0",
        "extensions": {"durableTask": {"maxConcurrentActivityFunctions": 1}},
    }
    with LocalHost(app, host_json=host_json) as host:
        started_at = time.monotonic()
        assert host.wait(host.start_orchestration("fan_out"))["output"] == sum(range(100))
        seconds = time.monotonic() - started_at
    assert 2 * episodes * replay_seconds < 1.4 * seconds, (episodes, seconds)
