"""Importing the client in a new interpreter loads no large package before the first request."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
import sys, warnings
warnings.simplefilter("error")  # the client must suppress the warnings of the SDK
import shared.graph.client, shared.identity
heavy = ("msgraph", "msgraph_core", "kiota_http", "kiota_abstractions", "httpx")
heavy += ("azure.core", "azure.identity", "opentelemetry")
assert not [name for name in heavy if name in sys.modules], sorted(sys.modules)
from shared.clock import SystemClock
graph = shared.graph.client.GraphBillingClient(
    base_url="http://127.0.0.1:1/v1.0", credential=None, clock=SystemClock()
)
assert "msgraph" not in sys.modules
import asyncio
from shared.errors import UnavailableError
from shared.exports import ExportKey
async def start_exports():
    for key, period in (
        ("billed_usage/G016907411/full", None),
        ("unbilled_reconciliation/2026-11/USD/full", "current"),
    ):
        try:
            await graph.start_export(ExportKey.parse(key), period)
        except UnavailableError:
            pass
    await graph.close()
asyncio.run(start_exports())
assert "msgraph" in sys.modules and "azure.identity" not in sys.modules
"""


def test_import_of_client_loads_no_heavy_package() -> None:
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert process.returncode == 0, process.stderr
