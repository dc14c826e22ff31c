"""The variants of `map`: its own number of calls per task, results as they come, bounds, errors in place.

What `map` does by default stands in `_map.py`. Here calls are submitted and taken in *groups* of about a millisecond of
work: each call is a task of its own (or as many as `chunksize` says), and Python comes by once for a group.
"""

from __future__ import annotations

import itertools
import operator
import queue
import time
from collections import deque
from concurrent import futures as cf

from . import _native
from ._checks import deadline
from ._exceptions import DisttaskError, SerializationError, WorkerCrashed
from ._loading import letting_go, load_exception, load_outcome, values_of_chunk
from ._map import _CHUNKS_PER_WORKER, _GROWTH, _WEIGHT, _Mapping
from ._map_results import MapResults

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence
    from typing import Any

    from ._future import Future
    from ._submitter import Tasks


_MAX_TASKS = 512
"""Tasks of one group. Each takes about a microsecond of the host, so Python's share of a group is small by now."""

_GROUPS_IN_SIGHT = 16
"""Of thousands, where the executor was shut down and all was submitted; and some for each worker. Long tasks, of
which there are no more than workers, cannot hold up so many."""


class QueueFull(DisttaskError, queue.Full):
    """As many tasks are unfinished as ``Executor(max_pending=..., on_full="raise")`` allows."""


class Plan:
    """How a `map` is to go: its keyword arguments, checked."""

    __slots__ = ("buffersize", "chunksize", "end", "ordered", "return_exceptions")

    def __init__(
        self,
        timeout: float | None,
        chunksize: int | None,
        buffersize: int | None,
        ordered: bool,
        return_exceptions: bool,
    ) -> None:
        if chunksize is not None and not hasattr(chunksize, "__index__"):
            raise TypeError(f"chunksize must be an int or None, not {type(chunksize).__name__}")
        if chunksize is not None and chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        self.end = deadline(timeout)
        self.chunksize = None if chunksize is None else operator.index(chunksize)
        self.buffersize = buffersize
        self.ordered, self.return_exceptions = ordered, return_exceptions

    def is_default(self) -> bool:
        """Whether it is what `_map.py` does."""
        return self.chunksize is None and self.buffersize is None and self.ordered and not self.return_exceptions


class _Group:
    """Calls that were submitted together; or (without `calls`) one that cannot be."""

    __slots__ = ("bytes", "calls", "error", "items", "size")

    def __init__(
        self, items: list[Any], size: int, calls: _native.Calls | None, error: BaseException | None = None
    ) -> None:
        self.items, self.size, self.calls, self.error = items, size, calls, error
        self.bytes = 0


class Flow(_Mapping):
    """One call of `map` that is not the default one."""

    def __init__(
        self,
        tasks: Tasks,
        workers: int,
        fn: Callable[..., Any],
        iterables: Sequence[Iterable[Any]],
        plan: Plan,
        starred: bool,
    ) -> None:
        super().__init__(tasks, workers, fn, iterables, plan.end, starred)
        self._step = plan.chunksize
        self._apart = plan.chunksize or 1
        self._ordered, self._keeps_errors = plan.ordered, plan.return_exceptions
        self._bound = None if plan.buffersize is None else plan.buffersize * (plan.chunksize or 1)
        """Items that may be submitted and not yielded."""
        self._ends = self._ends and self._bound is None
        self._held = 0
        """Items that are."""
        self._error: BaseException | None = None
        """What is to be raised next."""

    # --- submitting ---

    def _fill(self) -> None:
        self._out = [group for group in self._out if not self._has_ended(group)]
        while (
            self.failed is None
            and not self._exhausted
            and len(self._out) < _CHUNKS_PER_WORKER * self._workers
            and self._may_run_ahead()
            and self._may_read()
            and (size := self._next_size()) > 0
        ):
            items: list[Any] = []
            try:
                self._read(items, size, self._step or 1)
                if not items:
                    self._has_read_all()
            except Exception as exc:  # the input's: after what came before
                self.failed = exc
            if self._left is not None:
                self._left -= len(items)
            self._held += len(items)
            self._send(items, self._step or len(items))

    def fill_unless_ready(self) -> None:
        """As `fill`, but where reading takes its time, results that are there come first."""
        if not (self.reads_slowly() and self._under_way and self._is_ready(0.0)):
            self.fill()

    def _is_ready(self, patience: float) -> bool:
        groups = self._next_groups()
        if self._error is not None or any(group.calls is None for group in groups):
            return True
        count = 1 if self._ordered else self._workers + 1
        return _native.Calls._wait_any([(group.calls, count) for group in groups if group.calls is not None], patience)

    def _next_size(self) -> int:
        size, step = super()._next_size(), self._step or 1
        if self._step is not None:
            size = min(size, step * _MAX_TASKS)
        if self._bound is not None:
            # Each worker is to have one group that runs and one that waits, however few may be under way.
            size = min(max(size, 1), self._bound // (2 * self._workers) or 1)
        size = max(size // step, 1) * step
        return size if self._bound is None else min(size, self._bound - self._held)

    def _send(self, items: list[Any], size: int) -> None:
        """Submit these, `size` as one task. What cannot be pickled is an error of that item only."""
        todo = deque([(items, size)] if items else [])
        while todo:
            items, size = todo.popleft()
            calls, exc = self._tasks._submit_calls(self._function, self._spread, items, size)
            sent = len(calls) * size
            if sent:
                group = _Group(items, size, calls)
                self._under_way.append(group)
                self._out.append(group)
            if exc is None:
                continue
            refused, rest = items[sent : sent + size], items[sent + size :]
            if not isinstance(exc, Exception):
                raise exc  # Ctrl-C
            if not isinstance(exc, SerializationError):
                self._refuse(exc, len(items) - sent + sum(len(some) for some, _ in todo))
                return
            if rest:
                todo.appendleft((rest, size))
            if len(refused) > 1:
                todo.appendleft((refused, 1))
            elif self._keeps_errors or self.sends_all:
                self._under_way.append(_Group(refused, 1, None, exc))
            else:
                self.failed = exc
                self._unsent = refused + [item for some, _ in todo for item in some]
                return

    def _refuse(self, exc: Exception, count: int) -> None:
        """So many items cannot be submitted any more."""
        if self._keeps_errors and self._ends and isinstance(self._cut_off, cf.CancelledError):
            self._under_way.append(_Group([], count, None, self._cut_off))
        else:
            self._stop(exc)

    def _send_apart(self, items: list[Any]) -> None:
        self._send(items, self._apart)

    def _has_ended(self, group: _Group) -> bool:
        """Whether all of it has; if so, learn from it how large the next ones shall be."""
        assert group.calls is not None
        if not group.calls._is_resolved():
            return False
        group.bytes = group.calls._ready_bytes()
        self._ahead_bytes += group.bytes
        nanos = group.calls._nanos()
        if nanos is not None:
            count = len(group.calls) * group.size
            now = nanos / count
            before = self._nanos_per_item or now
            self._nanos_per_item = before + (now - before) / _WEIGHT
            self._size = min(self._fitting(), count * _GROWTH)
        if group.size == 1:
            group.items = []  # none of them will have to be sent again
        return True

    # --- taking ---

    def take(self) -> list[Any] | None:
        """Values that are there, perhaps none. `None`: nothing is under way."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        if not self._under_way:
            return None
        for group in self._next_groups():
            values = self._values_of(group)
            if values or self._error is not None:
                return values
        return []

    def _next_groups(self) -> Sequence[_Group]:
        in_sight = _GROUPS_IN_SIGHT + _CHUNKS_PER_WORKER * self._workers if self.sends_all else None
        return tuple(itertools.islice(self._under_way, 1 if self._ordered else in_sight))

    def _values_of(self, group: _Group) -> list[Any]:
        if group.calls is None:
            assert group.error is not None
            self._under_way.remove(group)
            return self._failed_items(group.error, group.size)
        values, odd = group.calls._take(self._ordered)
        if odd:
            values = self._with_odd(group, values, odd)
        if group.calls._is_taken():
            self._under_way.remove(group)
            self._ahead_bytes -= group.bytes
            group.bytes = 0
        return values

    def _with_odd(self, group: _Group, values: list[Any], odd: list[tuple[int, int, Future[Any]]]) -> list[Any]:
        """The values, with those between them that need unpickling; up to the first that raises."""
        merged: list[Any] = []
        last = 0
        for position, index, future in odd:
            merged += values[last:position]
            last = position
            merged += self._load(future, group.items[index * group.size : (index + 1) * group.size] or [None])
            future._release()
            if self._error is not None:
                return merged
        return merged + values[last:]

    def _load(self, future: Future[Any], items: list[Any]) -> list[Any]:
        """The values of one task."""
        if future._kind() == "values":
            outcome = future._chunk_outcome()
            return (
                self._failed_items(outcome, len(items))
                if isinstance(outcome, BaseException)
                else self._loaded(*outcome)
            )
        try:
            value, exc = future._take()
        except cf.CancelledError as cancelled:
            exc = cancelled
        if exc is None:
            return [value]
        culprit = exc.item if type(exc) is WorkerCrashed and len(items) > 1 else None
        if culprit is None or self._cut_off is not None:
            return self._failed_items(exc, len(items))
        # Its worker died, and that was one item's doing; the others run once more, in the same place.
        with self._lock:
            later, self._under_way = self._under_way, deque()
            self._send(items[:culprit], culprit)
            self._under_way.append(_Group([], 1, None, exc))
            if self._keeps_errors:
                self._send(items[culprit + 1 :], len(items))
            self._under_way.extend(later)
        return []

    def _loaded(
        self, errors: list[tuple[int, bytes]], values: list[Any], pickles: list[tuple[int, bytes]]
    ) -> list[Any]:
        """Of a chunk."""
        if self._keeps_errors:
            for index, data in pickles:
                value, exc = load_outcome("value", data)
                values[index] = value if exc is None else exc
            for index, data in errors:
                values[index] = load_exception(data)
            return values
        loaded: list[Any] = []
        try:
            for part in values_of_chunk(errors, values, pickles):
                loaded += part
        except BaseException as exc:
            self._error = exc
        return loaded

    def _failed_items(self, exc: BaseException, count: int) -> list[Any]:
        if self._keeps_errors:
            return [exc] * count
        self._error = exc
        return []

    # --- all of it ---

    def chunks(self) -> Generator[Iterable[Any]]:
        """All values, in portions."""
        self.asked = True
        try:
            while True:
                self.fill_unless_ready()
                values = self.take()
                if values is None:
                    if self.is_over():
                        break
                elif values:
                    count = len(values)
                    yield letting_go(values)
                    self.handed_out(count)
                elif self.must_wait():
                    self._wait()
            if self.failed is not None:
                raise self.failed
        finally:
            self.end()

    def handed_out(self, count: int) -> None:
        """So many values were yielded: there is room for others."""
        self._held -= count

    def must_wait(self) -> bool:
        """Whether `take` has nothing before something ends, neither values nor an error."""
        return self._error is None and bool(self._under_way)

    def awaited(self) -> list[tuple[_native.Calls, int]]:
        """Whose ends are worth waking up for; see `_native.Calls._wait_any`."""
        if not self._ordered:
            # So many cannot all be stuck behind long ones.
            return [(group.calls, self._workers + 1) for group in self._next_groups() if group.calls is not None]
        first = self._under_way[0]
        others = [(group.calls, 0) for group in self._out if group is not first and group.calls is not None]
        return [(first.calls, 1), *others] if first.calls is not None else others

    def ready_bytes(self) -> int:
        """Bytes that `take` would unpickle now."""
        return sum(group.calls._ready_bytes() for group in self._next_groups() if group.calls is not None)

    def time_left(self) -> float | None:
        """Seconds until the time is over; ``None``: no limit."""
        return None if self._end is None else self._end - time.monotonic()

    def _wait(self) -> None:
        if not _native.Calls._wait_any(self.awaited(), self.time_left()):
            raise TimeoutError

    def end(self) -> None:
        """Nobody wants the rest."""
        self._ended = True
        self._forget()
        self.remember()
        for group in reversed(tuple(self._under_way)):  # another thread may be taking from it
            if group.calls is not None:
                group.calls._cancel()


def start(
    tasks: Tasks, workers: int, fn: Callable[..., Any], iterables: Sequence[Iterable[Any]], plan: Plan, starred: bool
) -> MapResults:
    """See `Executor.map`. The first calls are submitted before this returns."""
    flow = Flow(tasks, workers, fn, iterables, plan, starred)
    flow.fill()
    flow.register()
    return MapResults.of(flow)
