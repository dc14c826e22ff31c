"""`submit` and `map`: what an executor, and an executor with options, have in common."""

from __future__ import annotations

from . import _native
from ._exceptions import PoolBroken, SerializationError
from ._future import Future
from ._loading import dumps_task
from ._map import adaptive_map
from ._options import Options
from ._pickling import task_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from ._executor import Executor


_MANAGED = b"multiprocessing.managers"
"""In the pickle of a manager's proxy."""


class _Held:
    """Arguments that are to live until the task is done: a manager forgets what nobody has a proxy of."""

    def __init__(self, arguments: object) -> None:
        self._arguments: object = arguments

    def __call__(self, _future: object) -> None:
        self._arguments = None


class Tasks(_native.Submitter):
    """`submit`, which is native, and `map`."""

    _pool: _native.Pool
    _max_workers: int
    _map_times: dict[str, float]
    """What an item of `map` took, in nanoseconds, by function."""
    _one_by_one = False
    """Whether each item of `map` must be a task of its own, because an option speaks of one."""

    def map(
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
    ) -> Iterator[Any]:
        """Like ``map(fn, *iterables)``, with the calls on the workers; results come in order.

        The input is read as it is needed, some chunks ahead of what runs, so it may be endless. A failing call raises
        when its result is reached; other calls are not touched by it.

        Args:
            fn: the callable. It is pickled once.
            *iterables: its arguments; the shortest ends the input.
            timeout: seconds, from the call of `map`, that `next` may wait until; then it raises `TimeoutError`.
            chunksize: how many calls make one task; ``None`` measures, and makes chunks of about a millisecond. When a
                worker dies, calls of the same chunk that were done but not yet sent back (a millisecond of work) are
                made again; ``chunksize=1`` is the strict promise of `submit`. With ``options(retries=...)`` or
                ``options(timeout=...)``, which speak of one call, ``None`` is 1.
        """
        if chunksize is not None and chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if self._one_by_one and chunksize is None:
            chunksize = 1
        return adaptive_map(self, self._max_workers, fn, iterables, timeout, chunksize)

    def _submit_whole(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any] | None, name: str | None = None
    ) -> Future:
        """The rest of `submit`: what does not go by a function's number and plain arguments."""
        if not callable(fn):
            raise TypeError(f"submit needs a callable, not {type(fn).__name__}")
        try:
            pickled = dumps_task(fn, args, kwargs or {})
        except SerializationError as exc:
            self._check_accepting()
            return Future.failed(exc)
        future: Future = self._submit_pickled(pickled.data, name or task_name(fn), False)
        if _MANAGED in pickled.data:
            future.add_done_callback(_Held((fn, args, kwargs)))
        return future

    def _check_accepting(self) -> None:
        status = self._pool.status()
        if status["broken"] is not None:
            raise PoolBroken(status["broken"])
        if not status["accepting"]:
            raise RuntimeError("cannot schedule new futures after shutdown: make a new Executor")


class Submitter(Tasks):
    """`submit` and `map` of an executor, with options. Made by `Executor.options`."""

    def __init__(self, executor: Executor, options: Options) -> None:
        self._executor = executor
        self._options = options
        self._pool = executor._pool
        self._map_times = executor._map_times
        self._one_by_one = options.timeout is not None or options.retries > 0
        self._bind(self._pool, options.priority, options.retries, options.timeout, Future)

    @property
    def _max_workers(self) -> int:  # type: ignore[override]
        return self._executor._max_workers  # it may be resized

    def options(self, **changes: Any) -> Submitter:
        """The same with these options changed; see `Executor.options`."""
        return Submitter(self._executor, self._options.changed(**changes))
