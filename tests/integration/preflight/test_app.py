"""The preflight of the app: the HTTP endpoint, the timer and the check for server-side copy."""

import json
import logging
from typing import Any

import pytest

from local.azurite import Azurite
from local.simulator import Behaviour
from tests.integration.preflight.contexts import get_problems
from tests.support.app_environment import AppEnvironment


def by_name(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in report["checks"]}


def test_preflight_before_and_after_first_run_reports_missing_container_then_ok(
    azurite: Azurite, caplog: pytest.LogCaptureFixture
) -> None:
    with AppEnvironment(azurite, COPY_MODE="server", PROOF="transfer") as env:
        before = env.get("/api/preflight")
        assert (
            get_problems(before) == {"landing": "container_missing"} and before["status"] == "warn"
        )
        assert by_name(before)["copy_from_url"]["code"] == "copy_untried"
        assert set(before["checks"][0]) == {
            "name",
            "status",
            "code",
            "cause",
            "remedy",
            "seconds",
            "facts",
        }

        env.land()
        files = set(env.landed_files())
        after = env.get("/api/preflight")
        assert after["status"] == "ok" and by_name(after)["copy_from_url"]["status"] == "ok"
        assert set(env.landed_files()) == files

        env.simulator.behaviour = Behaviour(permission="denied")
        with caplog.at_level(logging.INFO, logger="partner_billing"):
            env.host.fire_timer("run_daily_preflight")
        events = [
            json.loads(record.message)
            for record in caplog.records
            if record.name == "partner_billing.events"
        ]
        assert events == [
            {
                "event": "preflight",
                "event_id": f"preflight/{env.clock.now():%Y%m%d}",
                "status": "fail",
                "checks": 12,
                "failed": "graph",
                "codes": "graph_forbidden",
                "app_version": events[0]["app_version"],
            }
        ]
        records = [
            record for record in caplog.records if record.name == "partner_billing.preflight"
        ]
        assert (
            len(records) == 1
            and records[0].levelno == logging.ERROR
            and "PartnerBilling.Read.All" in records[0].message
        )


def test_preflight_with_unreachable_copy_source_warns(azurite: Azurite) -> None:
    """The emulator copies only from itself, so it cannot read a source behind the proxy."""
    with AppEnvironment(azurite, COPY_MODE="server", PROOF="transfer", storage_proxy=True) as env:
        assert env.land()["outcome"] == "landed"
        report = env.get("/api/preflight")
        assert get_problems(report) == {"copy_from_url": "copy_refused"}
        assert report["status"] == "warn" and "sig=" not in json.dumps(report)
