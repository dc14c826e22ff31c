"""The rest of a map's input: what becomes of it where nobody asks for results, or only after `shutdown`.

`ProcessPoolExecutor.map` has submitted everything when it returns. Ours reads as it goes, so it submits the rest when
the executor is about to take nothing more, or when nobody holds the results, provided that the input is known to end.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import warnings
from concurrent import futures as cf

from ._exceptions import SerializationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable
    from typing import Any
    from weakref import WeakValueDictionary

    from ._native import Function, Pool
    from ._submitter import Tasks

    LiveMaps = WeakValueDictionary[int, "Rest"]
    """The maps of an executor, by `id`, that have not read all of their input and were not ended."""

_PATIENCE_SECONDS = 1.0
"""How long `shutdown` waits for another thread that is reading the input. It reads milliseconds of work at a time,
unless the input is slow, or waits for the very thread that is in `shutdown`."""

_LOOK_SECONDS = 0.02
"""How often a thread that has all results so far looks whether another one has submitted more."""

_ITEMS_AT_ONCE = 512
"""Items of the rest that are read and then submitted together. The first ones are fewer: the input may be slow."""

_NOWHERE = 1000
"""A `stacklevel` beyond all callers: such a warning is shown without a place."""

_CUT_OFF = (
    "cannot schedule new futures after shutdown, and this map had not read all of its input: take its results before, "
    "inside the with block, or give it an iterable with a len(), no buffersize, no max_pending: then shutdown reads all"
)


class Rest:
    """The part of a map that this is about. Input is read, and calls are submitted, by one thread at a time."""

    _tasks: Tasks
    _function: Function
    _spread: bool
    _ends: bool
    """Whether all of the input may be read: it comes to an end, and has no bound."""
    _unsent: list[Any]
    _under_way: deque[Any]
    _out: list[Any]
    _apart = 1
    """Items of the rest that make one task."""

    def __init__(self, live: LiveMaps) -> None:
        self._live, self._is_live = live, False
        self._lock = threading.RLock()  # as a signal handler may come back here; and its `release` says who has it not
        self.failed: Exception | None = None
        """Why nothing more is read: raised after the values of what was read."""
        self.asked = False
        """Somebody has wanted a result, or has said that nobody does."""
        self._exhausted = self._is_refused = False
        self._ended = False
        """Nobody wants the rest."""
        self.sends_all = False
        """All that is left is being submitted, or was."""
        self._cut_off: Exception | None = None
        """What is raised where a call can no longer be submitted, because the executor was shut down."""

    if TYPE_CHECKING:  # what each kind of map has

        def _fill(self) -> None: ...
        def _take(self, items: list[Any], count: int) -> None: ...
        def _send_apart(self, items: list[Any]) -> None:
            """Submit items of the rest. None is to fail because of another: it could not be sent again."""

        def remember(self) -> None: ...
        def end(self) -> None: ...

    # --- what it relies on ---

    def register(self) -> None:
        """Have `shutdown` know of this one, if there is more to read. Raises what kept it from submitting anything."""
        if self._is_refused and not self._under_way and self.failed is not None:
            raise self.failed
        if not (self._exhausted or self._ended):
            self._is_live = True
            self._live[id(self)] = self

    def _forget(self) -> None:
        if self._is_live:  # most are too short for it
            self._live.pop(id(self), None)

    def _has_read_all(self) -> None:
        self._exhausted = True
        self._forget()

    def fill(self) -> None:
        """Have enough calls with the workers, unless too many results wait for their turn."""
        if self.sends_all or self._lock._is_owned():  # type: ignore[attr-defined]
            return  # (this thread is in the middle of it: a signal handler, or the input itself, wants results)
        try:
            # Whoever else has it submits all that is left; and its input may wait for us to take results.
            if self._lock.acquire(blocking=False) and not self.sends_all:
                self._fill()
        finally:
            try:  # noqa: SIM105 - that would take a step more, at which Ctrl-C may come
                self._lock.release()
            except RuntimeError:  # it was not acquired
                pass

    def is_over(self) -> bool:
        """Whether nothing is under way, nor will be. Waits for what another thread is submitting."""
        if self._lock._is_owned():  # type: ignore[attr-defined]
            raise RuntimeError("no more results of this map can be had while its own input is being read")
        while not self._under_way:
            try:
                if self._lock.acquire(timeout=_LOOK_SECONDS):
                    if not (self._under_way or self._exhausted or self._ended) and self.failed is None:
                        self._fill()  # the other thread wants to, and has not begun
                    return not self._under_way
            finally:
                try:  # noqa: SIM105 - that would take a step more, at which Ctrl-C may come
                    self._lock.release()
                except RuntimeError:  # it was not acquired
                    pass
        return False

    def _stop(self, exc: Exception) -> None:
        """A call could not be submitted. Read nothing more, and raise this after the values of what was read."""
        self._is_refused = not isinstance(exc, SerializationError)
        self.failed = self._cut_off if self._cut_off is not None and type(exc) is RuntimeError else exc

    # --- its end ---

    def close_input(self, cancel: bool) -> None:
        """The executor is about to take nothing more: submit what is left, unless it may be endless or is cancelled."""
        self._forget()
        self._cut_off = cf.CancelledError() if cancel else RuntimeError(_CUT_OFF)
        if cancel or not self._ends or self._lock._is_owned():  # type: ignore[attr-defined]
            return
        begun = done = False
        try:
            self.sends_all = True
            if self._lock.acquire(timeout=_PATIENCE_SECONDS):
                begun = True
                self._out = []
                self._send_rest(self._send_apart)
                done = True
                if self._ended:  # meanwhile, by another thread
                    self.end()
        finally:
            if begun and not done:
                self.failed = self._cut_off  # by Ctrl-C, which may have ended the input as well
            self.sends_all = begun
            try:  # noqa: SIM105 - that would take a step more, at which Ctrl-C may come
                self._lock.release()
            except RuntimeError:  # it was not acquired
                pass

    def close_at_exit(self) -> None:
        """The interpreter ends, and somebody holds the results. Those that nobody has asked for were for the effect."""
        self.close_input(cancel=False)
        if self._ends or self.asked or self.failed is not None:
            return
        try:
            self._warn("the rest of its input was not read", _NOWHERE)
        except Exception as exc:  # warnings are errors, or stderr is closed, say: nobody is there to catch one
            with contextlib.suppress(Exception):
                print(f"disttask: {exc}", file=sys.stderr)

    def _send_rest(self, send: Callable[[list[Any]], None]) -> None:
        """Submit all that is left. What the input raises is raised in its turn."""
        items, self._unsent, count = self._unsent, [], 1
        if items:
            self.failed = None  # it is among them, and met again in its place
        send(items)
        while self.failed is None and not self._ended:
            items, error = [], None
            try:
                self._take(items, count * self._apart)
            except Exception as exc:
                error = exc
            if not items and error is None:
                self._exhausted = True
                return
            send(items)
            if self.failed is None:
                self.failed = error
            count = min(2 * count, max(_ITEMS_AT_ONCE // self._apart, 1))

    def let_go(self) -> None:
        """Nobody holds the results any more."""
        unwanted = self.asked or isinstance(self._cut_off, cf.CancelledError)
        if unwanted or sys.is_finalizing() or self._tasks._pool.is_foreign():  # a forked child shares the input
            self.end()
        elif not self._run_to_end():
            self.end()
            self._warn("what had not begun was cancelled", stacklevel=4)  # where the last reference went

    def _run_to_end(self) -> bool:
        """Make all calls though nobody has asked for a result, as `ProcessPoolExecutor` does, if the input ends."""
        if self.sends_all:
            self.remember()
            return self.failed is not self._cut_off
        with self._lock:
            if not self._ends or not (self.failed is None or self._unsent):
                return not (self._under_way or self.failed)  # there are none
            self._forget()
            self.remember()
            with contextlib.suppress(Exception):  # the pool takes no more
                self._send_rest(self._send_unheld)
                return True
        return False

    def _send_unheld(self, items: list[Any]) -> None:
        """One by one: nobody is there to send those again that were in a chunk with one that kills its worker."""
        while items:
            calls, exc = self._tasks._submit_calls(self._function, self._spread, items, 1)
            if exc is not None and not isinstance(exc, SerializationError):
                raise exc
            items = items[len(calls) + (exc is not None) :]

    def _warn(self, fate: str, stacklevel: int) -> None:
        """Of calls that are not made, though who wrote them may have meant them for their effect."""
        name = self._function.name
        text = (
            f"nobody has taken a result of map({name}, ...), so {fate}: write list(executor.map({name}, ...)), or use "
            "submit"
        )
        warnings.warn(text, RuntimeWarning, stacklevel=stacklevel)


def unread(pool: Pool, live: LiveMaps) -> list[Rest]:
    """Maps that have more to read, while the pool takes it."""
    maps = [found for reference in live.valuerefs() if (found := reference()) is not None]
    return maps if maps and pool.status()["accepting"] else []
