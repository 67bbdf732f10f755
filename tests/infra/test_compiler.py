"""The templates compile. The test requires the Bicep compiler, which is optional."""

import shutil
import subprocess

import pytest

from tests.support.bicep import INFRA


@pytest.mark.skipif(shutil.which("bicep") is None, reason="the Bicep compiler is not on PATH")
@pytest.mark.parametrize("command", [("build", "main.bicep", "--stdout"), ("lint", "main.bicep")])
def test_main_template_compiles(command: tuple[str, ...]) -> None:
    process = subprocess.run(
        ["bicep", *command], cwd=INFRA, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
