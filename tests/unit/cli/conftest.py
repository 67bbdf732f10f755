"""Fixtures for the tests of the command line."""

import httpx
import pytest

from partner_billing import commands, common
from tests.unit.cli.fake_api import KEY, URL, CommandResult, FakeApi, RunCommand


@pytest.fixture
def fake_api(monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    """Replace the network and `sleep`."""
    fake_api = FakeApi()
    monkeypatch.setenv("PARTNER_BILLING_URL", URL)
    monkeypatch.setenv("PARTNER_BILLING_KEY", KEY)
    monkeypatch.setattr(common, "sleep", fake_api.sleeps.append)
    monkeypatch.setattr(common, "transport", httpx.MockTransport(fake_api))
    return fake_api


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> RunCommand:
    """Return a function that runs a command and verifies that its output contains no key."""

    def run_command(*arguments: str) -> CommandResult:
        with pytest.raises(SystemExit) as exit_info:
            commands.main(list(arguments))
        output = capsys.readouterr()
        assert KEY not in output.out + output.err
        return CommandResult(int(exit_info.value.code or 0), output.out, output.err)

    return run_command
