"""The app of the random plans in a folder, for hosts that run in a separate process."""

from tests.host.plans import app

__all__ = ["app"]
