"""The folder that holds the host's database, and the lock that keeps it to one host."""

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from .errors import HostError, StateInUseError


class StateDir:
    """Held from construction until `release`. The lock ends with the process, however that ends."""

    def __init__(self, path: Path) -> None:
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
        """One file for each task hub, as hubs share nothing in Azure either."""
        return self.path / f"{hub.lower()}.sqlite3"

    def announce(self, base_url: str | None) -> None:
        """Writes who holds the folder, for the message that a second host prints."""
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
            found = json.loads(self._file.read())
            where = f", {found['url']}" if found.get("url") else ""
            return f"process {found['pid']}{where}, since {found['since']}"
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
            file.seek(1 << 20)  # a byte far behind the text, which others must be able to read
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
