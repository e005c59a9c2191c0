"""What is made while it is sent: a thread writes, the answer reads, and neither runs away from the other.

Downloads have threads of their own, so that a client that is slow holds up no other work; one that takes nothing for a
minute is given up.
"""

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, BinaryIO, Final

__all__ = ["made_by"]

_AT_ONCE: Final = 4
"""Downloads that are made at a time; others wait."""
_PIECE: Final = 128 << 10
_PIECES: Final = 4
"""That are made ahead."""
_PATIENCE: Final = 60.0

_threads: Final = ThreadPoolExecutor(_AT_ONCE, "runstream-download")


async def made_by(write: Callable[[BinaryIO], None]) -> AsyncIterator[bytes]:
    """What ``write`` writes to the file that it is given, piece by piece.  Raises what it raises."""
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[bytes | None] = asyncio.Queue(_PIECES)
    pipe = _Pipe(loop, pieces)
    making = loop.run_in_executor(_threads, _make, write, pipe)
    try:
        while (piece := await pieces.get()) is not None:
            yield piece
        await making
    finally:
        pipe.given_up = True
        while not pieces.empty():
            pieces.get_nowait()
        making.add_done_callback(_forget)
        making.cancel()  # if it has not begun


def _make(write: Callable[[BinaryIO], None], pipe: "_Pipe") -> None:
    try:
        with io.BufferedWriter(pipe, _PIECE) as file:
            write(file)
    finally:
        pipe.end()


def _forget(making: "asyncio.Future[None]") -> None:
    """Nobody waits for it any more: what it raised concerns nobody."""
    if not making.cancelled():
        making.exception()


class _Pipe(io.RawIOBase):
    """Hands what is written to the event loop, and waits while that has enough."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pieces: "asyncio.Queue[bytes | None]") -> None:
        super().__init__()
        self._loop = loop
        self._pieces = pieces
        self._written = 0
        self.given_up = False

    def writable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """How many bytes were written."""
        return self._written

    def write(self, data: Any) -> int:
        """Hand bytes on.  Raises BrokenPipeError if nobody takes them."""
        piece = bytes(data)
        self._put(piece)
        self._written += len(piece)
        return len(piece)

    def end(self) -> None:
        """Nothing follows."""
        if not self.given_up:
            self._put(None)

    def _put(self, piece: bytes | None) -> None:
        if self.given_up or self._loop.is_closed():
            raise BrokenPipeError("nobody takes the download")
        waiting = asyncio.run_coroutine_threadsafe(self._pieces.put(piece), self._loop)
        try:
            waiting.result(_PATIENCE)
        except FutureTimeoutError:
            waiting.cancel()
            raise BrokenPipeError("nobody takes the download") from None
