"""Base URLs of the Microsoft services, and the rule for loopback addresses.

The app sends credentials only to these services. A loopback address belongs to the simulator on the
same computer and never receives a credential.
"""

import ipaddress
import re
from urllib.parse import urlsplit

GRAPH_URL = "https://graph.microsoft.com/v1.0"
GRAPH_URLS = (GRAPH_URL, "https://graph.microsoft.com/beta")
GRAPH_VERSIONS = ("/v1.0", "/beta")
PARTNER_CENTER_URL = "https://api.partnercenter.microsoft.com"
HOST = re.compile(r"https?://(?:\[([0-9a-fA-F:]+)\]|([^/:?#@\[\]]+))(?::\d+)?(?:/|$)")


def parse_graph_base_url(url: str) -> str:
    """Return `url` without a trailing slash.

    Raises ValueError unless it is Microsoft Graph (v1.0 or beta) or a loopback address that ends in
    one of the two versions. The error does not quote the URL, which may contain a secret.

    >>> parse_graph_base_url("https://graph.microsoft.com/v1.0/")
    'https://graph.microsoft.com/v1.0'
    >>> parse_graph_base_url("http://127.0.0.1:8700/beta")
    'http://127.0.0.1:8700/beta'
    """
    url = url.removesuffix("/")
    if url in GRAPH_URLS or (is_loopback_url(url) and url.endswith(GRAPH_VERSIONS)):
        return url
    raise ValueError(
        f"must be {' or '.join(GRAPH_URLS)}, or a loopback address that ends in /v1.0 or /beta"
    )


def parse_partner_center_base_url(url: str) -> str:
    """Return `url` without a trailing slash.

    Raises ValueError unless it is Partner Center or a loopback address without a path. The error
    does not quote the URL, which may contain a secret.

    >>> parse_partner_center_base_url("https://api.partnercenter.microsoft.com/")
    'https://api.partnercenter.microsoft.com'
    """
    url = url.removesuffix("/")
    if url == PARTNER_CENTER_URL or (is_loopback_url(url) and not urlsplit(url).path):
        return url
    raise ValueError(
        f"must be {PARTNER_CENTER_URL}, or a loopback address such as http://127.0.0.1:4010"
    )


def is_loopback_url(url: str) -> bool:
    """Return whether `url` has a loopback host and consists of scheme, host, port and path only.

    >>> is_loopback_url("http://[::1]:8700/v1.0"), is_loopback_url("http://user@127.0.0.1/v1.0")
    (True, False)
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    host = parts.hostname or ""
    authority = f"[{host}]" if ":" in host else host
    if port is not None:
        authority += f":{port}"
    return (
        parts.scheme in ("http", "https")
        and is_loopback_host(host)
        and url == f"{parts.scheme}://{authority}{parts.path}"
    )


def is_loopback_host(host: str) -> bool:
    """Return whether `host` is `localhost` or a loopback IP address; other names are not resolved.

    >>> hosts = ("127.0.0.1", "::1", "localhost", "127.0.0.1.example.org")
    >>> [is_loopback_host(host) for host in hosts]
    [True, True, True, False]
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def get_host(url: str) -> str:
    """Return the host of `url` in lower case, or "" if there is none. Never raises.

    >>> get_host("http://127.0.0.1:4000/v1.0"), get_host("nonsense")
    ('127.0.0.1', '')
    """
    match = HOST.match(url)
    return (match[1] or match[2]).lower() if match else ""
