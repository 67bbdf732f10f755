"""The random plans as an app in a folder, for hosts that are processes."""

from tests.host.plans import app

__all__ = ["app"]
