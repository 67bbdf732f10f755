"""Whether this process goes through a proxy: asked once for a client, not at every request."""

from urllib.request import getproxies_environment


def use_env_settings() -> bool:
    """For the SDK's option of that name. With it, its HTTP library looks for a proxy and for ~/.netrc at every request, in a
    thread each: a fifth of what a small request costs (observed), and a password in a file there has no business here.
    """
    return bool(getproxies_environment())
