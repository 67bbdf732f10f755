"""The copy activity: a call of an earlier plan copies nothing."""

from types import SimpleNamespace
from typing import Any

import pytest

from activities import copy_blobs as module
from shared.ledger.runs import Run


async def test_copy_blobs_of_other_version_than_the_run_copies_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The run has planned a newer version since this call was scheduled."""
    run = Run(
        "billed-usage-g016907411-full-20261121t060000z",
        "billed_usage/G016907411/full",
        version="20261108T093700Z-22222222",
    )

    async def holding(run_id: str) -> Run:
        return run

    # Any use of the copier or of the blob rows raises an AttributeError.
    app = SimpleNamespace(ledger=SimpleNamespace(holding=holding))
    monkeypatch.setattr(module, "services", lambda: app)
    copy_blobs: Any = module.copy_blobs
    result = await copy_blobs._function.get_user_function().__wrapped__(
        request={
            "run_id": run.run_id,
            "plan": 1,
            "version": "20261108T093700Z-11111111",
            "names": ["a", "b"],
        }
    )
    assert result == {"landed": 0, "failed": 2, "retry_after_seconds": 0}
