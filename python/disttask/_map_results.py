"""What `map` returns: an iterator whose every item costs no Python."""

from __future__ import annotations

import _thread
import contextlib
import itertools
import operator
import threading
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator
    from typing import Any

    from ._map import _Mapping


def _raise(exc: BaseException) -> Any:
    try:
        raise exc
    finally:
        del exc  # else it would be in a cycle with this frame


def _raising(exc: BaseException) -> Iterator[Any]:
    """A portion that raises in place of a value. What the source itself raises would end a `chain` for everybody.

    No generator: a thread that found another one in it would be told that it is executing already.
    """
    return map(_raise, (exc,))


class _Turns:
    """Portions of values for a `chain`, which several threads may go through together: each value goes to one of them.

    A `chain` knows nothing of threads. It asks for a portion in each thread that finds none, and forgets the one that
    another thread has got meanwhile. So that one is known here, too, and given out until nothing is left of it.

    What a `chain` forgets it does not release: for each time that threads meet at the end of a portion, that of a few
    hundred bytes stays. Not so the values that nobody has taken: see `let_go`.
    """

    __slots__ = ("_lock", "_mapping", "_portion", "_portions")

    def __init__(self, mapping: _Mapping, portions: Iterator[Iterable[Any]]) -> None:
        self._mapping = mapping
        self._portions = portions
        self._portion: Iterator[Any] = iter(())
        """The last one: it tells how many values are left, and nothing but C runs in its `next`."""
        self._lock = threading.RLock()  # whose `release` says who has it not

    def __iter__(self) -> _Turns:
        return self

    def __next__(self) -> Iterator[Any]:
        lock, mapping = self._lock, self._mapping
        if mapping._tasks._pool.is_foreign():
            return iter(next(self._portions))  # raises: in a forked child, nobody may be there to release the lock
        if lock._is_owned():  # type: ignore[attr-defined]
            return _raising(ValueError("this thread is in next() of this map already: a signal handler, or its input"))
        try:
            # Whoever reads the input for another thread must not wait for the one in here, which waits for that.
            if not lock.acquire(blocking=not mapping._lock._is_owned()):  # type: ignore[attr-defined]
                return _raising(ValueError("another thread is in next() of this map, and waits for its input"))
            if not operator.length_hint(self._portion):
                self._portion = iter(next(self._portions))
            return self._portion
        except BaseException as exc:
            if lock._is_owned():  # type: ignore[attr-defined]
                mapping.end()
                raise
            return _raising(exc)  # Ctrl-C, while another thread is in here
        finally:
            try:  # noqa: SIM105 - that would take a step more, at which Ctrl-C may come
                lock.release()
            except RuntimeError:  # it was not acquired
                pass

    def let_go(self) -> None:
        """Drop the values that nobody has taken."""
        deque(self._portion, maxlen=0)


class MapResults(itertools.chain):  # type: ignore[type-arg]
    """What `map` returns: closing it, or dropping it halfway, cancels what has not begun. Threads may share it."""

    mapping: _Mapping
    chunks: Generator[Iterable[Any]]
    turns: _Turns

    @classmethod
    def of(cls, mapping: _Mapping) -> MapResults:
        """Those of a mapping whose first chunks are under way."""
        chunks = mapping.chunks()
        turns = _Turns(mapping, chunks)
        results: Any = cls.from_iterable(turns)
        results.mapping, results.chunks, results.turns = mapping, chunks, turns
        return results  # type: ignore[no-any-return]

    def close(self) -> None:
        """Nobody wants the rest: what has not begun is cancelled, and there are no more results."""
        self.mapping.asked = True
        self.mapping.end()
        with contextlib.suppress(ValueError):  # another thread is in `next`, and has its values or a CancelledError
            self.chunks.close()
            deque(self, maxlen=0)

    def __reduce__(self) -> Any:
        raise TypeError("the results of a map cannot be sent to another process: pass list(results)")

    def __del__(self) -> None:
        try:
            self.turns.let_go()
            self.mapping.let_go()
        except RuntimeWarning:
            raise
        except BaseException as exc:
            with contextlib.suppress(Exception):
                self.mapping.end()
            if type(exc) is KeyboardInterrupt:  # would be ignored in here, and is raised a moment later
                _thread.start_new_thread(_thread.interrupt_main, ())
