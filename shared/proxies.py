"""Whether the environment configures an HTTP proxy."""

from urllib.request import getproxies_environment


def use_env_settings() -> bool:
    """Return the value for the `use_env_settings` option of the Azure SDK clients.

    With the option, the HTTP library of the SDK looks for a proxy and for ~/.netrc in a thread
    before every request, which takes a fifth of the time of a small request. The app checks once
    per client instead, and does not use passwords from ~/.netrc.
    """
    return bool(getproxies_environment())
