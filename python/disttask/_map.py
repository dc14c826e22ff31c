"""`Executor.map`: its input is read as it is needed, and cut into chunks of about a millisecond of work.

The first chunks are single items. Each chunk that comes back tells how long an item takes, and the next ones are made
that much larger; towards the end of an input of known length they shrink again, so that no worker is left with a large
one while the others have nothing to do.
"""

from __future__ import annotations

import itertools
import operator
import time
from collections import deque

from . import _native
from ._checks import star_item, to_submit
from ._exceptions import SerializationError, WorkerCrashed
from ._future import Future
from ._inputs import Alone, Collecting, tell_of_generators
from ._loading import UNSENT, letting_go, values_of_chunk
from ._map_results import MapResults
from ._native import Function
from ._pace import Pace
from ._pickling import dumps, importing, own_failure, task_name
from ._rest import Rest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
    from typing import Any

    from ._submitter import Tasks

_TARGET_NANOS = 1_000_000
"""Work in one chunk: a hundred times what a chunk costs, and little enough to be shared evenly."""

_AHEAD_BYTES = 32 * 2**20
"""Bytes of them: with large results few keep every worker busy, and a slow caller wants memory to stay flat."""

_AHEAD_ITEMS = 100_000
"""Items in them: short ones are many."""

_WEIGHT = 4
"""Of what is known of an item's time, a quarter is what the last chunk took: items differ."""

_GROWTH = 16
"""Chunks grow by this factor at most, so that one item that was quick by chance does little harm."""

_SMALLEST = 32
"""Towards the end chunks shrink to this part of their size. It is 30 us of work, and a chunk costs some 10;
and should the last items be the long ones, few of them share a worker while the others have nothing to do."""

_REMEMBERED = 1000
"""Functions whose times are remembered from one `map` to the next."""

_MAX_ITEMS = 1 << 16
"""Items of one chunk, however quick they are."""

_CHUNKS_PER_WORKER = 3
"""Chunks that have not come back: one that runs, one that waits behind it, one on its way."""

_MOST_PER_WORKER = 16
"""The same while much is left of the input, if they are of a millisecond: so much work may wait. The pool hands them
out without Python, which comes by some milliseconds later, and not after each."""

_FILLS = 4
"""Looks for what has come back while as many chunks are taken as may be with the pool."""

_AHEAD_PER_WORKER = 256
"""Chunks that came back before their turn, which a long one holds up: a quarter of a second of work, and bounded."""


def known_lengths(iterables: Sequence[Iterable[Any]]) -> list[int]:
    """Of those that have one. Some have a ``__len__`` that refuses to say, which is a `TypeError`."""
    hints = [operator.length_hint(iterable, -1) for iterable in iterables if hasattr(iterable, "__len__")]
    return [length for length in hints if length >= 0]


class _Mapping(Rest):
    """One call of `map`."""

    def __init__(
        self,
        tasks: Tasks,
        workers: int,
        fn: Callable[..., Any],
        iterables: Sequence[Iterable[Any]],
        end: float | None,
        starred: bool,
    ) -> None:
        super().__init__(tasks._live_maps)
        self._tasks = tasks
        self._holder = tasks._holder()
        """Nobody else may hold the executor: ``for value in Executor().map(...)``."""
        self._end = end
        self._workers = workers
        self._function = _function(tasks, fn)
        self._starred = starred
        self._spread = starred or len(iterables) != 1
        lengths = known_lengths(iterables)
        self._ends = bool(lengths) and not tasks._is_bounded
        self._left = self.total = min(lengths) if len(lengths) == len(iterables) else None
        if starred:
            self._items: Iterator[Any] = map(tuple, iterables[0])
        else:
            self._items = zip(*iterables, strict=False) if self._spread else iter(iterables[0])
        self._list = iterables[0] if type(iterables[0]) is list and not self._spread else None
        self._taken = 0
        """Of a list: cutting it is several times quicker than iterating."""
        self._pace = Pace.of(iterables)
        self._size = 1
        self._steady = False
        """The size is what the time of an item asks for."""
        self._unsent: list[Any] = []
        """What was read with an item that cannot be pickled: that one, too."""
        self._nanos_per_item = tasks._map_times.get(self._function.name, 0.0)
        if self._nanos_per_item and self._pace is None:
            self._size = self._fitting()
        self._takes_left = 0
        """Chunks whose values may be taken before it is looked again what has come back."""
        self._under_way: deque[Any] = deque()
        """Chunks, in the order of their items."""
        self._out: list[Any] = []
        """Those that had not come back when it was last looked."""
        self._chunk_bytes = 0.0
        """What the results of one take, about."""
        self._ahead_bytes = 0
        """Bytes of the results of the others."""

    def _fill(self) -> None:
        out = []
        for chunk in self._out:
            if chunk.future._is_resolved():
                self._learn(chunk)
            else:
                out.append(chunk)
        self._out = out
        out_limit = self._out_limit()
        self._takes_left = out_limit // _FILLS
        while self.failed is None and len(self._out) < out_limit and self._may_run_ahead() and self._may_read():
            items: list[Any] = []
            try:
                self._read(items, self._next_size())
            except Exception as exc:  # the input's: after what came before
                self.failed = exc
            if not items:
                if self.failed is None:
                    self._has_read_all()
                return
            if self._left is not None:
                self._left -= len(items)
            try:
                self._under_way.append(self._submit(items))
            except Exception as exc:
                self._stop(exc)
                if isinstance(exc, SerializationError):
                    self._unsent = items

    def _out_limit(self) -> int:
        """Chunks that may be with the pool: few while they grow, and towards the end, where they are to shrink."""
        least = _CHUNKS_PER_WORKER * self._workers
        deep = _MOST_PER_WORKER * _TARGET_NANOS / max(self._size * self._nanos_per_item, _TARGET_NANOS)
        most = min(int(deep) * self._workers, int(_AHEAD_BYTES / max(self._chunk_bytes, 1.0)))
        if self._left is not None:
            most = min(most, self._left // (2 * self._size))
        return max(least, most) if self._steady else least

    def _may_run_ahead(self) -> bool:
        """Whether there is room for results whose turn has not come."""
        ahead = len(self._under_way) - len(self._out)
        return ahead <= 0 or (
            ahead < _AHEAD_PER_WORKER * self._workers
            and ahead * self._size < _AHEAD_ITEMS
            and self._ahead_bytes < _AHEAD_BYTES
        )

    def _may_read(self) -> bool:
        """Not where that takes its time, and a result is there, or comes sooner."""
        if not (self.reads_slowly() and self._under_way):
            return True
        assert self._pace is not None
        return not (self._is_ready(self._pace.patience()) if self.asked else self._pace.has_begun())

    def reads_slowly(self) -> bool:
        """Whether results that are there are to be handed out before more is read."""
        return self._pace is not None and self._pace.is_slow()

    def _is_ready(self, patience: float) -> bool:
        """Whether the next result is there, or comes within so many seconds."""
        future = self._under_way[0].future
        return future._is_resolved() or _native.Future._wait_first([future], 1, patience)

    def _read(self, items: list[Any], count: int, step: int = 1) -> None:
        """As `_take`, or less where that would take too long; but so many at least."""
        if self._pace is None:
            return self._take(items, count)
        started = time.perf_counter_ns()
        try:
            return self._take(items, self._pace.at_most(count, step))
        finally:
            self._pace.learn(started, len(items))

    def _take(self, items: list[Any], count: int) -> None:
        """Add the next items of the input; those before one that raises are there."""
        if self._list is None:
            try:
                items.extend(itertools.islice(self._items, count))
            except TypeError as exc:
                refused = star_item(exc) if self._starred else None
                if refused is None:
                    raise
                self._is_refused = True  # so `map` itself raises it, if it is the first
                raise refused from exc
        else:
            items += self._list[self._taken : self._taken + count]
            self._taken += len(items)

    def _send_apart(self, items: list[Any]) -> None:
        """Those that a chunk has with one that kills its worker could not be sent again."""
        for item in items:
            try:
                chunk = _Chunk([item], self._tasks._submit_chunk(self._function, self._spread, [item]))
            except SerializationError as exc:
                chunk = _Chunk([item], Future._failed(exc))
                chunk.error = exc
            except Exception as exc:
                return self._stop(exc)
            self._under_way.append(chunk)
        return None

    def _next_size(self) -> int:
        if self._left is None:
            return self._size
        fair = max(self._left // (2 * self._workers), self._size // _SMALLEST)
        return max(1, min(self._size, fair))

    def _submit(self, items: list[Any]) -> _Chunk:
        chunk = _Chunk(items, self._tasks._submit_chunk(self._function, self._spread, items))
        self._out.append(chunk)
        return chunk

    def next_values(self) -> Iterator[Iterable[Any]]:
        """The values of the oldest chunk under way; the second part of the iterator raises, where an item did."""
        chunk = self._under_way[0]
        slow = self.reads_slowly()
        if slow and not chunk.future._is_resolved():
            self.fill()
        while not chunk.future._is_resolved():
            timeout = None if self._end is None else self._end - time.monotonic()
            awaited, enough = [chunk.future], 1
            if not self.sends_all:
                # Not just for this one: it may be long, and the other workers want something to do meanwhile.
                awaited = [chunk.future for chunk in self._out]
                enough = max(1, len(awaited) - _CHUNKS_PER_WORKER * self._workers)
            if not _native.Future._wait_first(awaited, enough, timeout):
                raise TimeoutError
            self.fill()
        self._under_way.popleft()
        self._ahead_bytes -= chunk.bytes
        chunk.taken = True
        self._takes_left -= 1
        if self._takes_left <= 0 and not slow:
            self.fill()  # first: the workers go on while this thread loads the values
        outcome = chunk.error or chunk.future._chunk_outcome()
        if isinstance(outcome, BaseException):
            return self._after_crash(chunk, outcome)
        values = values_of_chunk(*outcome)
        return map(letting_go, values) if outcome[2] else values

    def _learn(self, chunk: _Chunk) -> None:
        """From how long a chunk has taken, how large the next ones shall be."""
        if not chunk.taken:
            chunk.bytes = chunk.future._bytes()
            self._ahead_bytes += chunk.bytes
            self._chunk_bytes += (chunk.bytes - self._chunk_bytes) / _WEIGHT
        nanos = chunk.future._ran()
        if nanos is None:
            return  # it failed as a whole, and some of its items may have to run once more
        count = len(chunk.items)
        chunk.items = []
        now = nanos / count
        before = self._nanos_per_item or now
        self._nanos_per_item = before + (now - before) / _WEIGHT
        fitting = self._fitting()
        self._size = min(fitting, count * _GROWTH)
        self._steady = self._size == fitting

    def _fitting(self) -> int:
        return max(1, min(int(_TARGET_NANOS / max(self._nanos_per_item, 1.0)), _MAX_ITEMS))

    def _after_crash(self, chunk: _Chunk, exc: BaseException) -> Iterator[Iterable[Any]]:
        """The chunk did not come back. If its worker died, that was one item's doing; the others run once more."""
        culprit = exc.item if type(exc) is WorkerCrashed else None
        if culprit is None or len(chunk.items) == 1:
            raise exc
        if culprit:
            try:
                self._under_way.appendleft(self._submit(chunk.items[:culprit]))
            except Exception:  # the executor was shut down meanwhile
                raise exc from None
            yield from self.next_values()
        raise exc

    def remember(self) -> None:
        """The next `map` of the function need not begin with single items."""
        times = self._tasks._map_times
        if len(times) >= _REMEMBERED:
            times.clear()
        if self._nanos_per_item:
            times[self._function.name] = self._nanos_per_item

    def end(self) -> None:
        """Nobody wants the rest."""
        self._ended = True
        self._forget()
        self.remember()
        for chunk in tuple(self._under_way):  # another thread may be adding to it
            chunk.future.cancel()

    def chunks(self) -> Generator[Iterable[Any]]:
        """All values, a chunk's at a time."""
        self.asked = True
        try:
            while self._under_way or not self.is_over():
                yield from self.next_values()
            if self.failed is not None:
                raise self.failed
        finally:
            self.end()


class _Chunk:
    __slots__ = ("bytes", "error", "future", "items", "taken")

    def __init__(self, items: list[Any], future: Future[Any]) -> None:
        self.items = items
        self.future = future
        self.bytes = 0
        self.taken = False
        self.error: SerializationError | None = None
        """Why it was not sent."""


def _function(tasks: Tasks, fn: Callable[..., Any]) -> Function:
    to_submit("map", fn)
    known = tasks._function(fn)
    if known is not None:
        return known
    try:
        with Alone().noted() as call:
            data = dumps(fn).data
    except Exception as exc:
        own_failure(lambda: dumps(fn), exc)  # else it is a signal handler's, and raised
        importing("disttask._culprit")
        from ._culprit import refusal

        raise refusal(fn, (), {}, exc) from exc
    tell_of_generators(call, tasks._pool.id)
    return Function(tasks._pool, data, task_name(fn), False)


def pickled(pool_id: int, spread: bool, items: list[Any]) -> tuple[bytes, list[_native.Input]]:
    """A chunk whose items are not plain values: a pickle of pickles. And what was put into the pool, and is needed."""
    with Collecting(pool_id, futures=False).noted() as call:
        try:
            data = dumps((spread, True, [dumps(item).data for item in items])).data
        except Exception as exc:
            own_failure(lambda: [dumps(item) for item in items], exc)
            importing("disttask._culprit")
            from ._culprit import refusal

            raise refusal(None, items, {}, exc, UNSENT) from exc
    return data, call.found


def adaptive_map(
    tasks: Tasks,
    workers: int,
    fn: Callable[..., Any],
    iterables: Sequence[Iterable[Any]],
    end: float | None,
    starred: bool,
) -> MapResults:
    """See `Executor.map`. The first chunks are submitted before this returns."""
    mapping = _Mapping(tasks, workers, fn, iterables, end, starred)
    mapping.fill()
    mapping.register()
    return MapResults.of(mapping)
