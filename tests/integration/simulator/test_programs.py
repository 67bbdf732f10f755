"""The simulator and the verification of totals, run as programs."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from azure.storage.blob import ContainerClient

from local.azurite import ROOT, Azurite
from local.simulator import BillingStorage, Simulator
from local.simulator.verify_totals import main
from tests.integration.simulator.caller import Caller
from tests.support.clocks import MidMonthClock


@contextmanager
def run_simulator(azurite: Azurite, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [
            sys.executable,
            "-W",
            "error",
            "-m",
            "local.simulator",
            "--storage-connection-string-env",
            "BILLING",
            *arguments,
        ],
        cwd=ROOT,
        env={**os.environ, "BILLING": azurite.billing.connection_string},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


# In a run of the whole suite, the process sometimes does not stop within 30 seconds.
@pytest.mark.long
async def test_simulator_applies_switches_and_faults_and_stops_on_sigterm(
    azurite: Azurite,
    tmp_path: Path,
    session: object,
) -> None:
    faults = tmp_path / "faults.json"
    faults.write_text(
        json.dumps(
            {
                "rules": [
                    {"match": {"operation": "invoices", "nth": [1]}, "response": {"status": 429}}
                ]
            }
        )
    )
    arguments = [
        "--port",
        "0",
        "--seed",
        "11",
        "--faults",
        str(faults),
        "--behaviour",
        "manifest=link",
        "gone=410",
    ]
    with run_simulator(azurite, *arguments) as process:
        assert process.stdout is not None
        partner, storage, listening = (process.stdout.readline() for _ in range(3))
        assert storage == f"Storage {azurite.blob_origin}\n"
        ids = re.findall(r"([GD]\d{9}) USD", partner)
        address = re.fullmatch(r"Listening on (http://127\.0\.0\.1:\d+)\n", listening)
        assert sorted(each[0] for each in ids) == ["D", "G", "G"] and address
        caller = Caller(session, address[1])
        assert [(await caller.call("GET", "/v1/invoices")).status for _ in range(2)] == [429, 200]
        assert (
            await caller.call("GET", "/v1.0/reports/partners/billing/operations/x")
        ).status == 410
        started = await caller.start(
            "billed_usage", {"invoiceId": next(each for each in ids if each[0] == "G")}
        )
        assert started.status == 202
        process.send_signal(signal.SIGTERM)
        out, error = process.communicate(timeout=30)
        assert (process.returncode, out, error) == (0, "", "")


@pytest.mark.parametrize(
    "arguments",
    [["--behaviour", "manifest=sideways"], ["--faults", "/nowhere.json"], ["--currencies", "XYZ"]],
)
def test_simulator_invalid_argument_is_reported(azurite: Azurite, arguments: list[str]) -> None:
    with run_simulator(azurite, *arguments) as process:
        _, error = process.communicate(timeout=60)
        assert (
            process.returncode == 2
            and arguments[1].partition("=")[2] in error
            and "Traceback" not in error
        )


def test_verify_totals_reads_landing_container(
    azurite: Azurite,
    container: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    simulator = Simulator(
        storage=BillingStorage(azurite.billing.connection_string), clock=MidMonthClock()
    )
    totals = [
        f"--invoice-total={invoice.invoice_id}={invoice.total}" for invoice in simulator.invoices()
    ]
    monkeypatch.setenv("LANDING", azurite.landing.connection_string)
    arguments = [
        "--connection-string-env",
        "LANDING",
        "--container",
        container,
        "--prefix",
        "some/where/",
        *totals,
    ]
    with ContainerClient.from_connection_string(
        azurite.landing.connection_string, container
    ) as landing:
        landing.create_container()
        assert main(arguments) == 2
        for key in simulator.export_keys():
            dataset, *scope, attribute_set = key.split("/")
            scope_path = (
                f"invoice_id={scope[0]}"
                if len(scope) == 1
                else f"billing_month={scope[0]}/currency_code={scope[1]}"
            )
            for file in simulator.expected(key).blobs:
                landing.upload_blob(
                    f"some/where/data/{dataset}/{scope_path}/attribute_set={attribute_set}"
                    f"/version=1/{file.name}",
                    file.content,
                )
        assert main(arguments) == 0
        assert "All 14 comparisons match." in capsys.readouterr().out
        landing.delete_blob(
            f"some/where/data/{dataset}/{scope_path}/attribute_set={attribute_set}"
            f"/version=1/{file.name}"
        )
        assert main(arguments) == 1
