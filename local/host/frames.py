"""Frames of the protocol between the host and a worker process.

A frame contains the lengths of the header and the body, a JSON header, and a binary body.
"""

import json
import socket
import struct
import threading
from collections.abc import Generator
from queue import SimpleQueue
from typing import Any

_LENGTHS = struct.Struct("!IQ")
Header = dict[str, Any]
MAX_FRAMES_PER_SEND = 64


def pack_frame(header: Header, body: bytes = b"") -> bytes:
    """Serialize a frame."""
    text = json.dumps(header).encode()
    return b"".join((_LENGTHS.pack(len(text), len(body)), text, body))


def receive_frames(connection: socket.socket) -> Generator[tuple[Header, bytes], None, None]:
    """Yield the received frames until the peer disconnects; an incomplete last frame is dropped."""
    try:
        with connection.makefile("rb") as stream:
            while len(lengths := stream.read(_LENGTHS.size)) == _LENGTHS.size:
                header_size, body_size = _LENGTHS.unpack(lengths)
                header, body = stream.read(header_size), stream.read(body_size)
                if len(header) < header_size or len(body) < body_size:
                    return
                yield json.loads(header), body
    except OSError:  # connection reset: the peer was killed
        return


class FrameSender:
    """A queue of frames with its own thread, so that a slow reader does not block the callers.

    The thread sends up to `MAX_FRAMES_PER_SEND` queued frames together.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="sender", daemon=True)
        self._thread.start()

    def send(self, frame: bytes) -> None:
        """Queue a frame."""
        self._queue.put(frame)

    def close(self) -> None:
        """Send the queued frames, then stop the thread."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (frame := self._queue.get()) is not None:
            frames = [frame]
            while len(frames) < MAX_FRAMES_PER_SEND and not self._queue.empty():
                next_frame = self._queue.get()
                if next_frame is None:
                    self._write(frames)
                    return
                frames.append(next_frame)
            if not self._write(frames):
                return

    def _write(self, frames: list[bytes]) -> bool:
        try:
            self._connection.sendall(b"".join(frames))
        except OSError:  # the peer has disconnected; `receive_frames` also ends
            return False
        return True
