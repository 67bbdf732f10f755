"""What travels between host and worker process: a JSON header and a body of bytes, both with their lengths before them."""

import json
import socket
import struct
import threading
from collections.abc import Generator
from queue import SimpleQueue
from typing import Any

_LENGTHS = struct.Struct("!IQ")
Header = dict[str, Any]


def pack_frame(header: Header, body: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return b"".join((_LENGTHS.pack(len(text), len(body)), text, body))


def receive_frames(connection: socket.socket) -> Generator[tuple[Header, bytes], None, None]:
    """Frame after frame until the other side is gone. What it had begun to say when it went is dropped."""
    try:
        with connection.makefile("rb") as stream:
            while len(lengths := stream.read(_LENGTHS.size)) == _LENGTHS.size:
                header_size, body_size = _LENGTHS.unpack(lengths)
                header, body = stream.read(header_size), stream.read(body_size)
                if len(header) < header_size or len(body) < body_size:
                    return
                yield json.loads(header), body
    except OSError:  # reset: the other side was killed
        return


class FrameSender:
    """Sends from a thread of its own, so that nobody waits for a slow reader; what has gathered goes out at once."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="sender", daemon=True)
        self._thread.start()

    def send(self, frame: bytes) -> None:
        self._queue.put(frame)

    def close(self) -> None:
        """What was sent before still goes out."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (frame := self._queue.get()) is not None:
            gathered = [frame]
            while len(gathered) < 64 and not self._queue.empty():
                following = self._queue.get()
                if following is None:
                    self._write(gathered)
                    return
                gathered.append(following)
            if not self._write(gathered):
                return

    def _write(self, frames: list[bytes]) -> bool:
        try:
            self._connection.sendall(b"".join(frames))
        except OSError:  # the other side is gone; its reader is told so
            return False
        return True
