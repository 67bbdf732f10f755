"""The URL and the key of the app.

The URL comes from the `--url` option, the environment, or the stack of `make run`, in this order.
The key comes only from the environment, so that it does not appear in the shell history or in
process lists. The client does not send the key over HTTP to another machine or to the local stack,
which does not need it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

import httpx

from partner_billing.errors import UsageError

URL, KEY = "PARTNER_BILLING_URL", "PARTNER_BILLING_KEY"
LOCAL_URL_FILE = Path(".state") / "run" / "app-url"  # written by the local stack


@dataclass(frozen=True)
class Address:
    """The address of an app.

    Attributes:
        url: An origin with an optional path, without `/api` and without a trailing slash.
        key: A function key, or an empty string.
    """

    url: str
    key: str = field(default="", repr=False)


def find_address(option: str | None, environment: Mapping[str, str], folder: Path) -> Address:
    """Return the address that the option, the environment or the local stack specifies.

    Args:
        option: The value of `--url`.
        environment: The environment variables.
        folder: The folder in which the search for a local stack starts. It continues in the parent
            folders.

    Raises:
        UsageError: No URL is configured, or it is invalid. The message does not contain the URL,
            because the URL might contain a key.
    """
    url = (option or environment.get(URL, "")).strip()
    if url:
        return Address(normalize_url(url), environment.get(KEY, "").strip())
    for parent in (folder, *folder.parents):
        url_file = parent / LOCAL_URL_FILE
        if url_file.is_file():
            return Address(normalize_url(url_file.read_text(encoding="utf-8").strip()))
    raise UsageError(
        "No app URL configured.",
        f"Set {URL} (and {KEY}), use --url, or start a local stack with `make run`.",
    )


def normalize_url(text: str) -> str:
    """Validate a URL and remove `/api` and a trailing slash.

    >>> normalize_url("https://app.azurewebsites.net/api/"), normalize_url("http://127.0.0.1:4000")
    ('https://app.azurewebsites.net', 'http://127.0.0.1:4000')

    Raises:
        UsageError: The URL is invalid, contains credentials, or would send the key unencrypted.
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
    if url.scheme == "http" and not is_loopback(url.host):
        raise UsageError(
            "HTTP without TLS is allowed only for the local machine.",
            "Use https, because http would send the key unencrypted.",
        )
    return str(url).rstrip("/").removesuffix("/api")


def is_loopback(host: str) -> bool:
    """Return whether the host is the local machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
