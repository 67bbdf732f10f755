"""The state folder contains the databases and a lock that prevents its use by a second host."""

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from .errors import HostError, StateInUseError


class StateDir:
    """A locked state folder.

    The constructor acquires the lock. `release` or the end of the process releases it.
    """

    def __init__(self, path: Path) -> None:
        """Create the folder if necessary and lock it.

        Raises:
            HostError: If the folder cannot be created or is not writable.
            StateInUseError: If another local host uses the folder.
        """
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._file: IO[str] | None = (path / "host.lock").open("a+", encoding="utf-8")
        except OSError as error:
            raise HostError(
                f"The state folder {path} cannot be used: {error.strerror or error}."
            ) from None
        if not _lock(self._file):
            holder = self._holder()
            self._file.close()
            raise StateInUseError(
                f"The state folder {path} is in use by another local host: {holder}."
            )
        self.announce(None)

    def database(self, hub: str) -> Path:
        """Return the path of the database for a task hub. Task hubs do not share data."""
        return self.path / f"{hub.lower()}.sqlite3"

    def announce(self, base_url: str | None) -> None:
        """Write the process ID and URL of this host, for the error message of a second host."""
        assert self._file is not None
        self._file.seek(0)
        self._file.truncate()
        json.dump(
            {
                "pid": os.getpid(),
                "url": base_url,
                "since": datetime.now(UTC).isoformat(timespec="seconds"),
            },
            self._file,
        )
        self._file.flush()

    def _holder(self) -> str:
        assert self._file is not None
        self._file.seek(0)
        try:
            holder = json.loads(self._file.read())
            url = f", {holder['url']}" if holder.get("url") else ""
            return f"process {holder['pid']}{url}, since {holder['since']}"
        except (ValueError, KeyError):
            return "an unknown process"

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[str]) -> bool:
        try:
            # Lock a byte far after the text because other processes must be able to read the text.
            file.seek(1 << 20)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _lock(file: IO[str]) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
