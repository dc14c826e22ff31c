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
import itertools
import logging
import operator
import os
import sys
import threading
import time

from . import _notebook
from ._pickling import importing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Any, TextIO, TypeAlias

    from . import _native

    Piece: TypeAlias = tuple[int | None, int, str, bool, bytes]

_PATIENCE_SECONDS = 0.5
"""How long ``result()`` waits for a terminal or a pipe that takes no more, and how long the end of a pool does."""

_STUCK_SECONDS = 5.0
"""How long the end of a pool waits for a thread that shows its output and does not get on: it may stand in the `write`
of somebody's own stream, which nothing can end."""

_SLICE_BYTES = 4096
"""What a pipe takes without blocking once it says that it is writable (``PIPE_BUF``)."""

_POLL_MILLISECONDS = 100

_LINE = b"\n"

_text_wrapper = io.TextIOWrapper

_nowhere = contextlib.nullcontext()

_first = operator.itemgetter(0)


class Outlet:
    """Shows the output of one pool.

    Any step of this may be a thread's last: Ctrl-C can come between any two calls. So the lock is one whose holder lets
    go of it in the first step of a ``finally``, held or not; and what was taken from the pool, and how much of that was
    written, is noted within one call of C. Whoever comes next goes on from there.
    """

    def __init__(self, pool: _native.Pool) -> None:
        self._pool = pool
        self._lock = threading.RLock()  # whose `release` refuses where it is not held by this thread
        self._hand: list[Any] = []
        """The `Piece` that is being shown, if one is, and then how many bytes of it were written, and written (those of
        a record all at once)."""
        self._halves: dict[tuple[int, str], bytes] = {}
        """The beginning of a character, by pid and stream: what comes from a pipe may end in the middle of one."""
        self._steps = 0
        """Grows while it gets on."""
        self._slow = False
        self._give_up_at: float | None = None
        self._thread: threading.Thread | None = None
        self.cells: _notebook.Cells | None = None
        """In a notebook: where it is to be shown."""

    def start(self) -> None:
        """Show what comes, on a thread that sleeps while there is nothing."""
        thread = self._thread = threading.Thread(target=self._run, name="disttask-output", daemon=True)
        try:
            thread.start()
        except BaseException as exc:
            self._thread = None
            if not isinstance(exc, RuntimeError):
                raise
            # No more threads: `result()` shows it, and tries again.

    def join(self) -> None:
        """Show the rest; the pool must have gone. A reader that takes nothing is not waited for."""
        thread = self._thread
        if thread is threading.current_thread():
            return
        if thread is None:
            self.show_now()
            return
        self._give_up_at = time.monotonic() + _PATIENCE_SECONDS
        steps = None
        while thread.is_alive() and steps != self._steps:
            steps = self._steps
            thread.join(_STUCK_SECONDS)

    def is_done(self) -> bool:
        """Whether its thread has ended."""
        return self._thread is None or not self._thread.is_alive()

    def show_now(self) -> None:
        """Show what there is, on the calling thread. Somebody who is slow at it is not waited for twice."""
        if self._slow or self._lock._is_owned():  # type: ignore[attr-defined]
            return  # we are in the middle of it: a stream's `write`, or a signal handler, has called `result()`
        deadline = time.monotonic() + _PATIENCE_SECONDS
        try:
            if not self._lock.acquire(timeout=_PATIENCE_SECONDS):
                self._slow = True
                return
            if self._thread is None:
                self.start()
            self._slow = not self._show_all(deadline)
        finally:
            try:  # noqa: SIM105 - that would take a step more
                self._lock.release()
            except RuntimeError:  # it was not acquired
                pass

    def _run(self) -> None:
        there_is_more = True
        while there_is_more:
            there_is_more = self._pool.wait_output()
            with self._lock:
                if not self._show_all(None):
                    return
            self._slow = False

    def _show_all(self, deadline: float | None) -> bool:
        """With the lock held, show what there is. `False`: it took too long."""
        while (piece := self._piece()) is not None:
            with self._place(piece[0]):
                if not self._show(piece, deadline):
                    return False
            self._steps += 1
            self._hand.clear()
        return True

    def _piece(self) -> Piece | None:
        """The one in hand, or else the next; to take that says that the one before has been shown."""
        if not self._hand:
            self._hand.extend(itertools.islice(iter(self._pool.take_output, None), 1))
        return self._hand[0] if self._hand else None

    def _place(self, task: int | None) -> AbstractContextManager[None]:
        return _nowhere if self.cells is None else _notebook.parent(self.cells.header(task))

    def _show(self, piece: Piece, deadline: float | None) -> bool:
        """Show it. `False`: there was no time for all. What else goes wrong there is not the pool's trouble."""
        task, pid, stream, raw, data = piece
        try:
            if stream == "log":
                self._log(data, None if task is None else self._pool.id_text(task))
                return True
            target = sys.stdout if stream == "stdout" else sys.stderr
            if target is None:
                return True
            fd = descriptor(target)
            target.flush()
            if fd is not None:
                return self._write(fd, data, deadline)
            data = data[sum(self._hand[1:]) :]
            if data:
                text, halves = self._decoded((pid, stream), data, raw)
                written = map(target.write, (text,))
                kept = map(setattr, (self,), ("_halves",), (halves,))
                self._hand.extend(map(_first, zip((len(data),), written, kept, strict=True)))
            target.flush()
            return True
        except KeyboardInterrupt:
            raise
        except BaseException:
            return True  # closed, full, or somebody's own stream that raises

    def _decoded(self, source: tuple[int, str], data: bytes, raw: bool) -> tuple[str, dict[tuple[int, str], bytes]]:
        """The text, and what there will be of halves once it is written."""
        if not raw:
            return data.decode(errors="replace"), self._halves
        halves = {other: half for other, half in self._halves.items() if other != source}
        data = self._halves.get(source, b"") + data
        text, used = codecs.utf_8_decode(data, "replace", False)
        if used < len(data):
            halves[source] = data[used:]
        return text, halves

    def _log(self, data: bytes, task_id: str | None) -> None:
        """Hand a record to the logger of its name, as if it had been made here."""
        importing("json")
        import json

        length = int.from_bytes(data[:4], "little")
        fields: dict[str, Any] = json.loads(data[4 + length :])
        logger = logging.getLogger(fields["name"])
        if len(self._hand) == 1 and logger.isEnabledFor(fields["levelno"]):
            record = logging.makeLogRecord(fields)
            record.task_id = task_id
            self._hand.extend(map(_first, zip((len(data),), map(logger.handle, (record,)), strict=True)))

    def _write(self, fd: int, data: bytes, deadline: float | None) -> bool:
        """Write to a descriptor that may be stopped, or not block, without a lock of Python's. `False`: not all."""
        importing("select")
        import select

        poll = select.poll()
        poll.register(fd, select.POLLOUT)
        while (done := sum(self._hand[1:])) < len(data):
            if poll.poll(_POLL_MILLISECONDS):
                with contextlib.suppress(BlockingIOError):
                    self._hand.extend(map(os.write, (fd,), (_slice(data, done),)))
                    self._steps += 1
                    if self._give_up_at is not None:
                        self._give_up_at = time.monotonic() + _PATIENCE_SECONDS
            limits = [limit for limit in (deadline, self._give_up_at) if limit is not None]
            if limits and time.monotonic() > min(limits):
                break
        return not data[sum(self._hand[1:]) :]


def descriptor(stream: TextIO) -> int | None:
    """The descriptor of a stream that is the interpreter's own; ``None``: it is somebody's, and to be used as it is."""
    if type(stream) is not _text_wrapper:
        return None
    buffer = stream.buffer  # with `python -u` there is none
    if type(getattr(buffer, "raw", buffer)) is not io.FileIO:
        return None
    return stream.fileno()


def _slice(data: bytes, at: int) -> bytes:
    """From there what a pipe takes at once, in whole lines where they are not too long."""
    end = at + _SLICE_BYTES
    if end < len(data):
        end = (data.rfind(_LINE, at, end) + 1) or end
    return data[at:end]


def log_levels() -> dict[str, int]:
    """The levels that loggers of this process have now; workers drop what would be dropped here."""
    manager = logging.Logger.manager
    levels = {
        name: logger.level
        for name, logger in list(manager.loggerDict.items())
        if isinstance(logger, logging.Logger) and logger.level
    }
    return levels | {"": manager.root.level, "disable": manager.disable}
