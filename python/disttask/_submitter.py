"""`submit` and `map`: what an executor, and an executor with options, have in common."""

from __future__ import annotations

import weakref

from . import _handshake, _inputs, _native
from ._checks import to_submit
from ._exceptions import PoolBroken, SerializationError, dependency_failed
from ._functions import Task, bringing_options
from ._future import Future
from ._loading import dumps_task
from ._maps import Maps
from ._options import Options
from ._pickling import LARGE_BYTES, importing, task_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar, Unpack

    from ._executor import Executor
    from ._options import TaskOptions

    _T = TypeVar("_T")


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
    _given: dict[str, Any] = {}  # noqa: RUF012
    """The options, which go before those of a `disttask.task`."""
    _by_task: weakref.WeakKeyDictionary[Task[..., Any], _Bound] | None = None
    """For functions that bring options along."""

    def _submit_whole(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any] | None, name: str | None = None
    ) -> Future[Any]:
        """The rest of `submit`: what does not go by a function's number and plain arguments."""
        if (bringing := bringing_options(fn)) is not None:
            return self._with(bringing[0]).submit(bringing[1], *args, **kwargs or {})
        to_submit("submit", fn)
        with _inputs.Collecting(self._pool.id).noted() as call:
            if _inputs.take_met() and not kwargs and (function := self._function(fn)) is not None:
                # Only because of a future or a `Ref` the quick way was not possible, and now it is.
                quick: Future[Any] | None = self._submit_call(function, args, None, call.found)
                if quick is not None:
                    return quick
            try:
                pickled = dumps_task(fn, args, kwargs or {})
            except SerializationError as exc:
                self._check_accepting()
                if call.failed is not None:
                    return Future._failed(dependency_failed(name or task_name(fn), call.failed))
                return Future._failed(exc)
        _inputs.tell_of_generators(call, self._pool.id)
        if len(pickled.data) >= LARGE_BYTES:
            from ._captures import note_large

            note_large(self._pool.id, fn, can_be_task=not kwargs and self._function(fn) is None)
        future: Future[Any] = self._submit_pickled(pickled.data, name or task_name(fn), False, call.found)
        if _MANAGED in pickled.data:
            future.add_done_callback(_Held((fn, args, kwargs)))
        return future

    def _with(self, task: Task[..., Any]) -> _Bound:
        """What submits this task with its own options."""
        if self._by_task is None:
            self._by_task = weakref.WeakKeyDictionary()
        bound = self._by_task.get(task)
        if bound is None:
            assert task.options is not None
            bound = self._by_task[task] = _Bound(self, task.options.changed(**self._given))
        return bound

    def _holder(self) -> object:
        """What is to be held for this to go on being of use: an executor that is dropped takes no more tasks."""
        return self

    def _check_accepting(self) -> None:
        status = self._pool.status()
        if status["broken"] is not None:
            raise PoolBroken(status["broken"])
        if not status["accepting"]:
            raise RuntimeError(_native.after_shutdown())


class _Bound(Tasks):
    """`submit` and `map` with options. It does not keep the executor: one that is dropped is to stop."""

    def __init__(self, tasks: Tasks, options: Options) -> None:
        self._options = options
        self._given = options.given()
        self._tasks = weakref.ref(tasks)
        self._workers = tasks._max_workers
        self._map_times, self._live_maps = tasks._map_times, tasks._live_maps
        self._is_bounded = tasks._is_bounded
        self._calls_apart = options.speak_of_one_call()
        self._one_by_one = tasks._one_by_one or self._calls_apart
        self._guards = options if options.guard() else None
        self._context = tasks._context
        if _handshake.in_worker() and "_pool" not in vars(tasks):
            importing("disttask._unused")
            from . import _unused

            _unused.wait(self, _unused.Waiting)
        else:
            self._begin()

    def _begin(self) -> None:
        """In a worker, where that of the executor has not been done before, at the first use."""
        tasks = self._tasks()
        if tasks is None:
            raise RuntimeError(_native.after_shutdown())
        self._pool = tasks._pool
        self._bind(self._pool, Future, self._options)

    def _holder(self) -> object:
        return self._tasks()

    @property
    def _max_workers(self) -> int:  # type: ignore[override]
        tasks = self._tasks()
        return self._workers if tasks is None else tasks._max_workers  # it may be resized

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]:
        """As `Executor.submit`."""
        if self._guards is not None or self._context is not None:
            fn = self._dressed(fn)
        return super().submit(fn, *args, **kwargs)


_Bound.submit.__qualname__ = "Submitter.submit"  # what Python calls it where an argument is missing


class Submitter(_Bound):
    """`submit` and `map` of an executor, with options. Made by `Executor.options`."""

    def __init__(self, executor: Executor, options: Options) -> None:
        super().__init__(executor, options)
        self._executor = executor

    def options(self, **changes: Unpack[TaskOptions]) -> Submitter:
        """The same with these options changed; see `Executor.options`."""
        return Submitter(self._executor, self._options.changed(**changes))

    def __repr__(self) -> str:
        return f"<disttask.Submitter of {self._executor!r}{self._options.in_words()}>"

    def __reduce__(self) -> Any:
        from ._executor import executor_of

        options = {name: getattr(self._options, name) for name in Options.__slots__}
        return executor_of, (self._executor._prefix, options)
