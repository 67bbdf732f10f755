"""The functions that function_app.py registers, indexed in a separate process.

The process uses the settings of local.settings.sample.json; it starts no function.
"""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SLOW_IMPORTS = (
    "msgraph",
    "kiota_http",
    "azure.storage.blob",
    "azure.data.tables",
    "azure.identity",
    "isal",
    "triggers.models.base",
    "triggers.openapi",
)
INDEX = """
import json, sys
import function_app
loaded = sorted(sys.modules)
functions = {
    function.get_function_name(): function.get_trigger().get_binding_name()
    for function in function_app.app.get_functions()
}
print(json.dumps({"functions": functions, "loaded": loaded}))
"""


def sample_settings() -> dict[str, str]:
    return dict(
        json.loads((ROOT / "local.settings.sample.json").read_text(encoding="utf-8"))["Values"]
    )


def run_python(program: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    environment = {"PATH": os.environ["PATH"], **sample_settings(), **settings}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


@cache
def index_app() -> dict[str, Any]:
    """Return the registered functions with their triggers, and the modules that were loaded."""
    process = run_python(INDEX)
    assert process.returncode == 0, process.stderr[-2000:]
    return dict(json.loads(process.stdout))


@pytest.mark.parametrize("package", SLOW_IMPORTS)
def test_indexing_does_not_import_slow_package(package: str) -> None:
    loaded = [name for name in index_app()["loaded"] if f"{name}.".startswith(f"{package}.")]
    assert loaded == []


def test_indexing_invalid_settings_fails_without_showing_secret() -> None:
    process = run_python(
        INDEX,
        LANDING_STORAGE="AccountKey=c2VjcmV0LXZhbHVl",
        EXPORT_PARALLELISM="none",
        COPY_MODE="teleport",
    )
    assert process.returncode != 0
    assert all(
        name in process.stderr for name in ("LANDING_STORAGE", "EXPORT_PARALLELISM", "COPY_MODE")
    )
    assert "c2VjcmV0" not in process.stdout + process.stderr
