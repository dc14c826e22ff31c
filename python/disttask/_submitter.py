"""`submit` and `map`: what an executor, and an executor with options, have in common."""

from __future__ import annotations

from . import _inputs, _native
from ._exceptions import PoolBroken, SerializationError, dependency_failed
from ._future import Future
from ._loading import dumps_task
from ._maps import Maps
from ._options import Options
from ._pickling import task_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
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


class Tasks(_native.Submitter, Maps):
    """`submit`, which is native, and `map`."""

    _pool: _native.Pool

    def _submit_whole(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any] | None, name: str | None = None
    ) -> Future:
        """The rest of `submit`: what does not go by a function's number and plain arguments."""
        if not callable(fn):
            raise TypeError(f"submit needs a callable, not {type(fn).__name__}")
        with _inputs.Collecting(self._pool.id) as call:
            if _inputs.take_met() and not kwargs and (function := self._function(fn)) is not None:
                # Only because of a future or a `Ref` the quick way was not possible, and now it is.
                quick: Future | None = self._submit_call(function, args, None, call.found)
                if quick is not None:
                    return quick
            try:
                pickled = dumps_task(fn, args, kwargs or {})
            except SerializationError as exc:
                self._check_accepting()
                if call.failed is not None:
                    return Future.failed(dependency_failed(name or task_name(fn), call.failed))
                return Future.failed(exc)
        future: Future = self._submit_pickled(pickled.data, name or task_name(fn), False, call.found)
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

    def __reduce__(self) -> Any:
        from ._executor import executor_of

        options = {name: getattr(self._options, name) for name in Options.__slots__}
        return executor_of, (self._executor._prefix, options)
