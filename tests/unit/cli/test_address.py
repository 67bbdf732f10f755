"""Where the app is found."""

from pathlib import Path

import pytest

from partner_billing.address import find
from partner_billing.errors import UsageError


def test_the_local_stack_is_found_from_any_folder_below_and_gets_no_key(tmp_path: Path) -> None:
    (tmp_path / ".state" / "run").mkdir(parents=True)
    (tmp_path / ".state" / "run" / "app-url").write_text("http://127.0.0.1:4321\n")
    (tmp_path / "a" / "b").mkdir(parents=True)
    address = find(None, {"PARTNER_BILLING_KEY": "secret"}, tmp_path / "a" / "b")
    assert (address.url, address.key) == ("http://127.0.0.1:4321", "")


def test_the_key_is_in_no_representation() -> None:
    address = find("https://app.example.org", {"PARTNER_BILLING_KEY": "secret"}, Path("/"))
    assert address.key == "secret" and "secret" not in repr(address)


def test_nowhere(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as nowhere:
        find(None, {}, tmp_path)
    assert "PARTNER_BILLING_URL" in nowhere.value.remedy and "make run" in nowhere.value.remedy
