"""The app for the random plans, in its own folder for hosts that run in a separate process."""

from tests.host.plans import app

__all__ = ["app"]
