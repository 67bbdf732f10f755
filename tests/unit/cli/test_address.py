"""How the command finds the URL and the key."""

from pathlib import Path

import pytest

from partner_billing.address import find_address
from partner_billing.errors import UsageError


def test_find_address_in_subfolder_returns_local_stack_without_key(tmp_path: Path) -> None:
    (tmp_path / ".state" / "run").mkdir(parents=True)
    (tmp_path / ".state" / "run" / "app-url").write_text("http://127.0.0.1:4321\n")
    (tmp_path / "a" / "b").mkdir(parents=True)
    address = find_address(None, {"PARTNER_BILLING_KEY": "secret"}, tmp_path / "a" / "b")
    assert (address.url, address.key) == ("http://127.0.0.1:4321", "")


def test_address_repr_does_not_contain_key() -> None:
    address = find_address("https://app.example.org", {"PARTNER_BILLING_KEY": "secret"}, Path("/"))
    assert address.key == "secret" and "secret" not in repr(address)


def test_find_address_without_url_raises_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        find_address(None, {}, tmp_path)
    assert "PARTNER_BILLING_URL" in error.value.remedy and "make run" in error.value.remedy
