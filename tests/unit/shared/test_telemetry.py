"""Events are valid, redacted lines of JSON."""

import json
import logging
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from shared.redaction import TRACE_ID, install_log_redaction
from shared.telemetry import APP_VERSION, emit_event

ROOT = Path(__file__).resolve().parents[3]


def emit(
    caplog: pytest.LogCaptureFixture, name: str, event_id: str, **facts: Any
) -> dict[str, Any]:
    caplog.clear()
    with caplog.at_level(logging.INFO, "partner_billing.events"):
        emit_event(name, event_id, **facts)
    [record] = caplog.records
    line = record.getMessage()
    assert "\n" not in line
    assert (record.name, record.levelno) == ("partner_billing.events", logging.INFO)
    return dict(json.loads(line))


def test_emit_event_writes_facts_without_empty_values(caplog: pytest.LogCaptureFixture) -> None:
    assert emit(
        caplog,
        "run_ended",
        "r/ended/1",
        run_id="r",
        rows=0,
        seconds=1.5,
        ok=False,
        code="",
        version=None,
    ) == {
        "event": "run_ended",
        "event_id": "r/ended/1",
        "app_version": APP_VERSION,
        "instance_id": "r",
        "run_id": "r",
        "rows": 0,
        "seconds": 1.5,
        "ok": False,
    }


def test_emit_event_adds_instance_id_and_trace_id(caplog: pytest.LogCaptureFixture) -> None:
    token = TRACE_ID.set("4bf92f3577b34da6a3ce929d0e0e4736")
    try:
        line = emit(caplog, "run_started", "r/started/1", run_id="r", cycle_id="c")
    finally:
        TRACE_ID.reset(token)
    assert (line["instance_id"], line["trace_id"]) == ("r", "4bf92f3577b34da6a3ce929d0e0e4736")
    assert emit(caplog, "cycle_ended", "c/ended/1", cycle_id="c")["instance_id"] == "c"
    assert emit(caplog, "backfill_ended", "b/ended/1", backfill_id="b")["instance_id"] == "b"
    assert {"instance_id", "trace_id"}.isdisjoint(emit(caplog, "preflight", "preflight/20261121"))


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(max_size=30),
    secret=st.text("abcdef0123456789", min_size=8, max_size=20),
    word=st.sampled_from(["sig=", "&sig=", "Bearer ", "AccountKey=", "token="]),
)
def test_emit_event_with_secrets_writes_valid_json_without_them(
    caplog: pytest.LogCaptureFixture, text: str, secret: str, word: str
) -> None:
    install_log_redaction()
    line = emit(
        caplog,
        "e",
        f"{word}{secret}",
        reason=f"{text} {word}{secret}",
        other=f'{word}{secret}"{text}\\',
    )
    assert secret not in json.dumps(line).replace(json.dumps(text)[1:-1], "")
    assert line["event"] == "e" and {"reason", "other"} <= set(line)


def test_app_version_equals_project_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["version"] == APP_VERSION
