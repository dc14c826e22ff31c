"""Tasks that submit tasks: the executor of a worker's own pool, as its tasks see it.

A nested task is the pool's like any other. A task that waits for one gives up no process: what nobody has begun it runs
itself, where it stands, and for what others run it waits. So whoever waits, waits for something that runs.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from concurrent import futures as cf

from . import _handshake
from ._exceptions import SerializationError
from ._functions import Task
from ._options import Options
from ._pickling import dump_exception, dumps, task_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from . import _native

MAX_DEPTH = 100
"""Tasks run within each other by one thread: each takes some six frames of Python's stack, which holds a thousand."""

_AGAIN_SECONDS = 0.5
"""A task that others have begun may come back unbegun, when its worker dies: it is asked for again so often."""

_MIXED_SECONDS = 0.05
"""The same for `concurrent.futures.wait`, which may also wait for a future of a thread."""

_OPTIONS = ("name", "priority", "retries")
"""What holds for a task whoever runs it. The others are the host's: it does not see what a waiting task runs itself."""

_MAX_ERROR_BYTES = 64 * 1024
"""A longer description of an exception is for the waiting task only, not for the host's history."""


class _Here(threading.local):
    depth = 0
    shielded = False
    """This thread is in the middle of something that must not be left half done."""
    told: weakref.ref[BaseException] | None = None
    """The soft time-out of the task that the worker's loop runs here, once that was raised."""


_here = _Here()


def is_shielded() -> bool:
    """Whether this thread must not be interrupted just now."""
    return _here.shielded


def note_told(exc: BaseException) -> None:
    """This is about to be raised in this thread, and is meant for the outermost task."""
    _here.told = weakref.ref(exc)


_nest, _pool = _handshake.nesting or (None, ("", 0))


def _asked() -> _native.Nest:
    assert _nest is not None, "only in workers"
    return _nest


class NestedFuture(cf.Future):  # type: ignore[type-arg]
    """The future of a task that a task has submitted. It cannot leave its worker."""

    def __init__(self, data: bytes, key: int, number: int) -> None:
        super().__init__()
        self._waiters = _Waiters(self)
        self._data = data
        self._key = key
        self._number = number
        self._asking = threading.Lock()
        self._here = False
        """Some thread of this process runs it."""
        self._known = False
        """It has ended, or is about to be told so."""

    @property
    def task_id(self) -> str:
        """As `Future.task_id`."""
        return f"{_pool[0]}-{self._number}"

    def result(self, timeout: float | None = None) -> Any:
        """The value. If nobody has begun the task, this thread runs it; `timeout` does not cut that short."""
        if not self._wait(timeout):
            raise TimeoutError
        return super().result(0)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """As `result`, for the exception."""
        if not self._wait(timeout):
            raise TimeoutError
        return super().exception(0)

    def done(self) -> bool:
        """Whether it has ended."""
        self._look(claim=False)
        return super().done()

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        self._look(claim=False)
        return super().cancelled()

    def running(self) -> bool:
        """Whether somebody runs it."""
        return not super().done() and (self._look(claim=False) == "running" or self._here)

    def cancel(self) -> bool:
        """Cancel it if nobody has begun it."""
        with self._asking:
            mine = not (self._known or self._here) and _asked().cancel(self._key)
            self._known = self._known or mine
        if mine:
            self._end("cancelled", None)
            _asked().forget(self._key)
        return super().cancelled()

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        """Only of one that has ended: nothing in a worker watches for the end of others."""
        if not self.done():
            raise RuntimeError(
                "inside a task nobody calls back when a future ends: ask result(), or wait with "
                "concurrent.futures.wait or as_completed"
            )
        super().add_done_callback(fn)

    def __reduce__(self) -> Any:
        raise TypeError("the future of a nested task cannot be sent to another process: pass future.result() instead")

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # at the end of the interpreter, or half made
            if not (self._known or self._here):
                _asked().forget(self._key)

    def __repr__(self) -> str:
        state = "finished" if super().done() else "pending"
        return f"<disttask.NestedFuture {self.task_id} {state}>"

    def _wait(self, timeout: float | None) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        while not super().done():
            left = _AGAIN_SECONDS if deadline is None else deadline - time.monotonic()
            seen = _asked().ended()
            state = self._look(claim=deadline is None or left > 0)
            if super().done():
                break
            if left <= 0:
                return False
            if state == "here":
                with contextlib.suppress(cf.TimeoutError, cf.CancelledError):
                    super().exception(min(left, _AGAIN_SECONDS))
            else:
                _asked().wait(seen, min(left, _AGAIN_SECONDS))
        return True

    def _look(self, claim: bool) -> str:
        """Ask how it stands; with `claim`, run it if nobody has begun it."""
        raised: BaseException | None = None
        before, _here.shielded = _here.shielded, True
        try:
            state, raised = self._look_shielded(claim)
        finally:
            _here.shielded = before
        if raised is not None and _here.told is not None and raised is _here.told():
            raise raised  # it was meant for the waiting task, and has hit a part of it
        return state

    def _look_shielded(self, claim: bool) -> tuple[str, BaseException | None]:
        raised: BaseException | None = None
        with self._asking:
            if self._known or self._here:
                return "here", None
            state, data = _asked().look(self._key, claim)
            if state in ("pending", "running"):
                return state, None
            self._here = state == "yours"
            self._known = not self._here
        if self._here:
            try:
                state, data, raised = self._run()
            except BaseException as exc:  # a signal handler's, at the worst moment: others wait for an end
                raised = exc
                state, data = "error", dump_exception("run", exc, exc.__traceback__)
        self._end(state, data)
        return "ended", raised

    def _run(self) -> tuple[str, Any, BaseException | None]:
        raised: BaseException | None = None
        process = os.getpid()
        if _here.depth >= MAX_DEPTH:
            deep = RecursionError(
                f"nested tasks are {MAX_DEPTH} deep in this worker, each of which waits for the next: return the rest "
                "of the work to the caller, or call the function directly"
            )
            state, data = "error", dump_exception("run", deep, None)
        else:
            _here.depth += 1
            try:
                state, data, raised = _call(self._data, process)
            finally:
                _here.depth -= 1
        error = data if state == "error" else None
        if error is not None and len(error) > _MAX_ERROR_BYTES:
            error = dump_exception("run", RuntimeError("an exception with a description that is too long"), None)
        _asked().ran(self._key, error)
        return state, data, raised

    def _end(self, state: str, data: Any) -> None:
        self._known = True
        self._data = b""
        if state == "cancelled":
            super().cancel()
            self.set_running_or_notify_cancel()
            return
        from ._loading import load_outcome

        if state == "failed":
            import json

            data = json.loads(data)
        value, exc = load_outcome(state, data)
        if exc is None:
            self.set_result(value)
        else:
            self.set_exception(exc)


def _call(data: bytes, process: int) -> tuple[str, bytes, BaseException | None]:
    """Run a pickled call as the worker's loop would. What it raises is its answer, and comes along."""
    import _pickle

    try:
        func, args, kwargs = _pickle.loads(data)
    except BaseException as exc:
        return "error", dump_exception("load", exc, exc.__traceback__), None
    raised: BaseException | None = None
    value = None
    try:
        _here.shielded = False
        try:
            value = func(*args, **kwargs)
        finally:
            _here.shielded = True
    except BaseException as exc:
        raised = exc
    if os.getpid() != process:
        from ._worker import leave_child

        leave_child(raised)  # the task has forked, and this is the child
    if raised is not None:
        return "error", dump_exception("run", raised, raised.__traceback__), raised
    try:
        return "value", dumps(value).data, None
    except BaseException as exc:
        note = f"its result is of type {type(value).__module__}.{type(value).__qualname__}: "
        return "error", dump_exception("dump", exc, exc.__traceback__, note), None


class _Waiters(list):  # type: ignore[type-arg]
    """Those of `concurrent.futures.wait` and `as_completed`, which sleep on an event until some future tells it."""

    def __init__(self, future: NestedFuture) -> None:
        super().__init__()
        self._future = weakref.ref(future)

    def append(self, waiter: Any) -> None:
        if not isinstance(waiter.event, _Event):
            waiter.event = _Event()
        waiter.event.futures.append(self._future())
        super().append(waiter)


class _Event(threading.Event):
    """Whoever sleeps on it sees to these futures meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.futures: list[NestedFuture | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.is_set():
            seen = _asked().ended()
            for future in list(self.futures):
                if future is None or cf.Future.done(future):
                    self.futures.remove(future)
                    continue
                if deadline is not None and time.monotonic() >= deadline:
                    future._look(claim=False)
                else:
                    future._look(claim=True)
                if self.is_set():
                    return True
            left = _MIXED_SECONDS if deadline is None else min(deadline - time.monotonic(), _MIXED_SECONDS)
            if left <= 0:
                return self.is_set()
            if self.futures:
                _asked().wait(seen, left)
            else:
                super().wait(left)
        return True


class NestedExecutor(cf.Executor):
    """What an `Executor` is inside its own tasks: `submit`, `map` and `options` go to the same pool."""

    def __init__(self, options: Options | None = None) -> None:
        self._options = options or Options()
        self._max_workers = _pool[1]

    def options(self, **changes: Any) -> NestedExecutor:
        """As `Executor.options`, with `retries`, `priority` and `name`.

        Raises:
            ValueError: with another, since the task that waits may run this one itself: the end of a time-out, say,
                would have to end that, too.
        """
        options = self._options.changed(**changes)
        if options.timeout is not None:
            raise ValueError(
                "timeout is not for tasks that a task submits, because the waiting task may run them itself: give the "
                "outer task a timeout"
            )
        others = options.given().keys() - set(_OPTIONS)
        if others:
            raise ValueError(
                f"{', '.join(sorted(others))}: not for tasks that a task submits, because the waiting task may run "
                "them itself: give these options to the outer task"
            )
        return NestedExecutor(options)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> NestedFuture:
        """As `Executor.submit`. Futures are not taken as arguments here: pass their results."""
        if not callable(fn):
            raise TypeError(f"submit needs a callable, not {type(fn).__name__}")
        if type(fn) is Task and fn.options is not None:
            return self.options(**fn.options.given() | self._options.given()).submit(fn.plain, *args, **kwargs)
        try:
            return self._submit(fn, args, kwargs)
        except SerializationError as exc:
            future = NestedFuture(b"", 0, 0)
            future._known = True
            future.set_exception(exc)
            return future

    def _submit(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> NestedFuture:
        from ._loading import dumps_task

        if _handshake.context:
            from ._context import Context

            fn = Context.named(_handshake.context).around(fn)
        return self._submit_pickled(dumps_task(fn, args, kwargs).data, task_name(fn))

    def _submit_pickled(self, data: bytes, name: str) -> NestedFuture:
        options = self._options
        key, number = _asked().submit(data, options.name or name, options.priority, options.retries)
        return NestedFuture(data, key, number)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002
        """Not from a task."""
        raise RuntimeError("a task cannot shut down the executor that runs it: do it where the executor was made")

    def put(self, obj: object, /) -> Any:  # noqa: ARG002
        """Not from a task."""
        raise RuntimeError("put is for the process that has made the executor: inside a task pass the object itself")

    def status(self) -> dict[str, Any]:
        """Not from a task."""
        raise RuntimeError("status is for the process that has made the executor")

    def serve(self, **_: Any) -> Any:
        """Not from a task."""
        raise RuntimeError("serve is for the process that has made the executor")

    @property
    def _pool(self) -> Any:
        raise RuntimeError("inside a task this is not there: call it in the process that has made the executor")

    def __reduce__(self) -> Any:
        from ._executor import executor_of

        options = {name: getattr(self._options, name) for name in Options.__slots__}
        return executor_of, (_pool[0], None if self._options.is_default() else options)

    def __repr__(self) -> str:
        return f"<disttask.Executor max_workers={self._max_workers}, inside a task>"
