"""Where the app is, and with which key: the option, else the environment, else the stack that `make run` keeps up.

The key comes from the environment only, so that no shell history and no list of processes shows it. It never goes
over plain http to another machine, and never to the local stack, which needs none.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

import httpx

from partner_billing.errors import UsageError

URL, KEY = "PARTNER_BILLING_URL", "PARTNER_BILLING_KEY"
LOCAL = Path(".state") / "run" / "app-url"  # written by the local stack when it is up


@dataclass(frozen=True)
class Address:
    """`url` is an origin, perhaps with a path, without `/api` and without a slash at its end."""

    url: str
    key: str = field(default="", repr=False)


def find(option: str | None, environment: Mapping[str, str], folder: Path) -> Address:
    """Raises UsageError, which never quotes what was given: it may hold a key."""
    given = (option or environment.get(URL, "")).strip()
    if given:
        return Address(checked(given), environment.get(KEY, "").strip())
    for above in (folder, *folder.parents):
        if (above / LOCAL).is_file():
            return Address(checked((above / LOCAL).read_text(encoding="utf-8").strip()))
    raise UsageError(
        "No app URL configured.",
        f"Set {URL} (and {KEY}), give --url, or start a local stack with `make run`.",
    )


def checked(text: str) -> str:
    """>>> checked("https://app.azurewebsites.net/api/"), checked("http://127.0.0.1:4000")
    ('https://app.azurewebsites.net', 'http://127.0.0.1:4000')
    """
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host:
        raise UsageError(
            "The URL does not start with http:// or https://.",
            "Use a URL such as https://APP.azurewebsites.net.",
        )
    if url.query or url.userinfo or url.fragment:
        raise UsageError(
            "The URL contains more than a host and a path.",
            f"Remove the key from the URL and set {KEY} instead.",
        )
    if url.scheme == "http" and not is_this_machine(url.host):
        raise UsageError(
            "HTTP without TLS is allowed only for the local machine.",
            "Use https, because http would send the key unencrypted.",
        )
    return str(url).rstrip("/").removesuffix("/api")


def is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
