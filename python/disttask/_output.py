"""What tasks print and log, shown by the process that submitted them.

Native threads gather it and never take the GIL. One Python thread per pool takes it and writes it to `sys.stdout` and
`sys.stderr` as they are at that moment, so that a notebook, a test runner or ``contextlib.redirect_stdout`` sees it.
Whoever calls ``result()`` while there is something unshown shows it first: what a task has printed comes before what
its caller prints next.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import logging
import os
import sys
import threading
import time

from . import _notebook

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Any, TextIO, TypeAlias

    from . import _native

    Piece: TypeAlias = tuple[int | None, int, str, bool, bytes]

_PATIENCE_SECONDS = 0.5
"""How long ``result()`` waits for a terminal or a pipe that takes no more, and how long the end of a pool does."""

_SLICE_BYTES = 4096
"""What a pipe takes without blocking once it says that it is writable (``PIPE_BUF``)."""

_POLL_MILLISECONDS = 100

_LINE = b"\n"

_text_wrapper = io.TextIOWrapper

_nowhere = contextlib.nullcontext()


class Outlet:
    """Shows the output of one pool."""

    def __init__(self, pool: _native.Pool) -> None:
        self._pool = pool
        self._lock = threading.Lock()
        self._owner: int | None = None
        self._decoders: dict[tuple[int, str], codecs.IncrementalDecoder] = {}
        self._rest: Piece | None = None
        self._slow = False
        self._give_up_at: float | None = None
        self._thread: threading.Thread | None = None
        self.cells: _notebook.Cells | None = None
        """In a notebook: where it is to be shown."""

    def start(self) -> None:
        """Show what comes, on a thread that sleeps while there is nothing."""
        thread = threading.Thread(target=self._run, name="disttask-output", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads: `result()` shows it
            return
        self._thread = thread

    def join(self) -> None:
        """Show the rest; the pool must have gone. A reader that takes nothing is not waited for."""
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return
        self._give_up_at = time.monotonic() + _PATIENCE_SECONDS
        thread.join()

    def is_done(self) -> bool:
        """Whether its thread has ended."""
        return self._thread is None or not self._thread.is_alive()

    def show_now(self) -> None:
        """Show what there is, on the calling thread. Somebody who is slow at it is not waited for twice."""
        if self._owner == threading.get_ident() or self._slow:
            return  # we are in the middle of it: a stream's `write`, or a signal handler, has called `result()`
        deadline = time.monotonic() + _PATIENCE_SECONDS
        if not self._lock.acquire(timeout=_PATIENCE_SECONDS):
            self._slow = True
            return
        try:
            self._slow = not self._show_all(deadline)
        finally:
            self._lock.release()

    def _run(self) -> None:
        while self._pool.wait_output():
            with self._lock:
                if not self._show_all(None):
                    return
            self._slow = False

    def _show_all(self, deadline: float | None) -> bool:
        """With the lock held, show what there is. `False`: it took too long."""
        self._owner = threading.get_ident()
        try:
            while (piece := self._rest or self._pool.take_output()) is not None:
                self._rest = None
                left = 0
                try:
                    with self._place(piece[0]):
                        left = self._show(piece, deadline)
                    if left:
                        self._rest = (*piece[:-1], piece[-1][-left:])
                        return False
                finally:
                    self._pool.output_shown(len(piece[-1]) - left)
            return True
        finally:
            self._owner = None

    def _place(self, task: int | None) -> AbstractContextManager[None]:
        return _nowhere if self.cells is None else _notebook.parent(self.cells.header(task))

    def _show(self, piece: Piece, deadline: float | None) -> int:
        """Show it; how many bytes are left, for want of time. What else goes wrong there is not the pool's trouble."""
        task, pid, stream, raw, data = piece
        try:
            if stream == "log":
                _log(data, None if task is None else self._pool.id_text(task))
                return 0
            target = sys.stdout if stream == "stdout" else sys.stderr
            if target is None:
                return 0
            fd = _descriptor(target)
            target.flush()
            if fd is not None:
                return self._write(fd, data, deadline)
            target.write(self._decode(pid, stream, data) if raw else data.decode(errors="replace"))
            target.flush()
            return 0
        except KeyboardInterrupt:
            raise
        except BaseException:
            return 0  # closed, full, or somebody's own stream that raises

    def _decode(self, pid: int, stream: str, data: bytes) -> str:
        """What came from a pipe may end in the middle of a character."""
        decoder = self._decoders.pop((pid, stream), None) or codecs.getincrementaldecoder("utf-8")("replace")
        text = decoder.decode(data)
        if decoder.getstate()[0]:
            self._decoders[pid, stream] = decoder
        return text

    def _write(self, fd: int, data: bytes, deadline: float | None) -> int:
        """Write to a descriptor that may be stopped, or not block, without a lock of Python's. What is left."""
        import select

        poll = select.poll()
        poll.register(fd, select.POLLOUT)
        done = 0
        while done < len(data):
            if poll.poll(_POLL_MILLISECONDS):
                with contextlib.suppress(BlockingIOError):
                    done += os.write(fd, _slice(data, done))
                    if self._give_up_at is not None:
                        self._give_up_at = time.monotonic() + _PATIENCE_SECONDS
            limits = [limit for limit in (deadline, self._give_up_at) if limit is not None]
            if limits and time.monotonic() > min(limits):
                break
        return len(data) - done


def _descriptor(stream: TextIO) -> int | None:
    """The descriptor of a stream that is the interpreter's own; ``None``: it is somebody's, and to be used as it is."""
    if type(stream) is not _text_wrapper or type(getattr(stream.buffer, "raw", None)) is not io.FileIO:
        return None
    return stream.fileno()


def _slice(data: bytes, at: int) -> bytes:
    """From there what a pipe takes at once, in whole lines where they are not too long."""
    end = at + _SLICE_BYTES
    if end < len(data):
        end = (data.rfind(_LINE, at, end) + 1) or end
    return data[at:end]


def _log(data: bytes, task_id: str | None) -> None:
    """Hand a record to the logger of its name, as if it had been made here."""
    import json

    length = int.from_bytes(data[:4], "little")
    fields: dict[str, Any] = json.loads(data[4 + length :])
    logger = logging.getLogger(fields["name"])
    if logger.isEnabledFor(fields["levelno"]):
        record = logging.makeLogRecord(fields)
        record.task_id = task_id
        logger.handle(record)


def log_levels() -> dict[str, int]:
    """The levels that loggers of this process have now; workers drop what would be dropped here."""
    manager = logging.Logger.manager
    levels = {
        name: logger.level
        for name, logger in list(manager.loggerDict.items())
        if isinstance(logger, logging.Logger) and logger.level
    }
    return levels | {"": manager.root.level, "disable": manager.disable}
