"""`Executor.map`: its input is read as it is needed, and cut into chunks of about a millisecond of work.

The first chunks are single items. Each chunk that comes back tells how long an item takes, and the next ones are made
that much larger; towards the end of an input of known length they shrink again, so that no worker is left with a large
one while the others have nothing to do.
"""

from __future__ import annotations

import itertools
import operator
import pickle
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from ._exceptions import SerializationError, WorkerCrashed
from ._native import Function
from ._pickling import PROTOCOL, dumps, load_exception, task_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ._executor import _Tasks
    from ._future import Future

_TARGET_NANOS = 1_000_000
"""Work in one chunk: a hundred times what a chunk costs, and little enough to be shared evenly."""

_GROWTH = 16
"""Chunks grow by this factor at most, so that one item that was quick by chance does little harm."""

_MAX_ITEMS = 1 << 16
"""Items of one chunk, however quick they are."""

_CHUNKS_PER_WORKER = 3
"""Chunks under way: one that runs, one that waits behind it, and one that is read while the others are."""

_MAIN = b"__main__"


class _Mapping:
    """One call of `map`."""

    def __init__(
        self,
        tasks: _Tasks,
        workers: int,
        fn: Callable[..., Any],
        iterables: Sequence[Iterable[Any]],
        chunksize: int | None,
    ) -> None:
        self._tasks = tasks
        self._workers = workers
        self._function = _function(tasks, fn)
        self._spread = len(iterables) != 1
        lengths = [operator.length_hint(iterable, -1) for iterable in iterables if hasattr(iterable, "__len__")]
        self._left = min(lengths) if len(lengths) == len(iterables) else None
        self._items = zip(*iterables, strict=False) if self._spread else iter(iterables[0])
        self._fixed = chunksize
        self._size = chunksize or 1
        self._under_way: deque[_Chunk] = deque()

    def fill(self) -> None:
        """Have enough chunks under way."""
        while len(self._under_way) < _CHUNKS_PER_WORKER * self._workers:
            items = list(itertools.islice(self._items, self._next_size()))
            if not items:
                return
            if self._left is not None:
                self._left -= len(items)
            self._under_way.append(self.submit(items))

    def _next_size(self) -> int:
        if self._fixed is not None or self._left is None:
            return self._size
        return max(1, min(self._size, self._left // (2 * self._workers)))

    def submit(self, items: list[Any]) -> _Chunk:
        """Submit these items as one task."""
        data = (self._spread, items)
        try:
            pickled = pickle.dumps(data, PROTOCOL)
            if _MAIN in pickled:
                pickled = dumps(data).data
        except Exception:
            pickled = _pickled_slowly(data)
        return _Chunk(items, self._tasks._submit_chunk(self._function, pickled))

    def next_values(self, timeout: float | None) -> Iterator[list[Any]]:
        """The values of the oldest chunk under way; the second part of the iterator raises, where an item did."""
        chunk = self._under_way[0]
        outcome = chunk.future._chunk_outcome(timeout)
        self._under_way.popleft()
        if isinstance(outcome, BaseException):
            return self._after_crash(chunk, outcome, timeout)
        nanos, errors, values = outcome
        self._learn(len(values), nanos)
        self.fill()
        return _values(values, errors)

    def _learn(self, items: int, nanos: int) -> None:
        if self._fixed is None:
            fitting = items * _TARGET_NANOS // max(nanos, 1)
            self._size = max(1, min(fitting, self._size * _GROWTH, _MAX_ITEMS))

    def _after_crash(self, chunk: _Chunk, exc: BaseException, timeout: float | None) -> Iterator[list[Any]]:
        """The chunk did not come back. If its worker died, that was one item's doing; the others run once more."""
        culprit = exc.item if isinstance(exc, WorkerCrashed) else None
        if culprit is None or len(chunk.items) == 1:
            raise exc
        if culprit:
            self._under_way.appendleft(self.submit(chunk.items[:culprit]))
            yield from self.next_values(timeout)
        raise exc

    def cancel(self) -> None:
        """Nobody wants the rest."""
        for chunk in self._under_way:
            chunk.future.cancel()

    def is_done(self) -> bool:
        """Whether nothing is under way."""
        return not self._under_way


class _Chunk:
    __slots__ = ("future", "items")

    def __init__(self, items: list[Any], future: Future) -> None:
        self.items = items
        self.future = future


def _function(tasks: _Tasks, fn: Callable[..., Any]) -> Function:
    if not callable(fn):
        raise TypeError(f"map needs a callable, not {type(fn).__name__}")
    known = tasks._function(fn)
    if known is not None:
        return known
    try:
        return Function(tasks._pool, dumps(fn).data, task_name(fn), False)
    except Exception as exc:
        raise SerializationError(
            f"the function {task_name(fn)} cannot be pickled: {type(exc).__name__}: {exc}"
        ) from exc


def _pickled_slowly(data: tuple[bool, list[Any]]) -> bytes:
    try:
        return dumps(data).data
    except Exception as exc:
        raise SerializationError(
            f"an argument cannot be pickled, so the task cannot be sent to a worker: {type(exc).__name__}: {exc}"
        ) from exc


def _values(values: list[Any], errors: list[tuple[int, bytes]]) -> Iterator[list[Any]]:
    if errors:
        first, described = min(errors)
        yield values[:first]
        raise load_exception(described)
    yield values


def adaptive_map(
    tasks: _Tasks,
    workers: int,
    fn: Callable[..., Any],
    iterables: Sequence[Iterable[Any]],
    timeout: float | None,
    chunksize: int | None,
) -> Iterator[Any]:
    """See `Executor.map`. The first chunks are submitted before this returns."""
    end = None if timeout is None else time.monotonic() + timeout
    mapping = _Mapping(tasks, workers, fn, iterables, chunksize)
    mapping.fill()
    return itertools.chain.from_iterable(_chunks_of(mapping, end))


def _chunks_of(mapping: _Mapping, end: float | None) -> Iterator[list[Any]]:
    try:
        while not mapping.is_done():
            yield from mapping.next_values(None if end is None else end - time.monotonic())
    finally:
        mapping.cancel()
