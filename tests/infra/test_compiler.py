"""Where the Bicep compiler is at hand, it has the last word; where it is not, the other tests have to do."""

import shutil
import subprocess

import pytest

from tests.infra.bicep import INFRA


@pytest.mark.skipif(shutil.which("bicep") is None, reason="the Bicep compiler is not on PATH")
@pytest.mark.parametrize("command", [("build", "main.bicep", "--stdout"), ("lint", "main.bicep")])
def test_it_compiles(command: tuple[str, ...]) -> None:
    done = subprocess.run(
        ["bicep", *command], cwd=INFRA, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
