"""What an import costs: nothing until the first request. In an interpreter of its own, where nothing is loaded yet."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
import sys, warnings
warnings.simplefilter("error")  # the SDK warns of itself while it is imported; nobody is to hear it
import shared.graph.client, shared.identity
heavy = ("msgraph", "msgraph_core", "kiota_http", "kiota_abstractions", "httpx", "azure.core", "azure.identity", "opentelemetry")
assert not [name for name in heavy if name in sys.modules], sorted(sys.modules)
from shared.clock import SystemClock
graph = shared.graph.client.GraphBillingClient(base_url="http://127.0.0.1:1/v1.0", credential=None, clock=SystemClock())
assert "msgraph" not in sys.modules
import asyncio
from shared.errors import UnavailableError
from shared.exports import ExportKey
async def ask():
    for key, word in (("billed_usage/G016907411/full", None), ("unbilled_reconciliation/2026-11/USD/full", "current")):
        try:
            await graph.start_export(ExportKey.parse(key), word)
        except UnavailableError:
            pass
    await graph.close()
asyncio.run(ask())
assert "msgraph" in sys.modules and "azure.identity" not in sys.modules
"""


def test_nothing_heavy_is_imported_before_the_first_request() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
