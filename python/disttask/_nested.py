"""Tasks that submit tasks: the executor of a worker's own pool, as its tasks see it.

A nested task is the pool's like any other. A task that waits for one gives up no process: what nobody has begun it runs
itself, where it stands, and for what others run it waits. So whoever waits, waits for something that runs.
"""

from __future__ import annotations

import threading
import time
import weakref
from concurrent import futures as cf

from . import _handshake, _worker
from ._checks import to_submit
from ._exceptions import SerializationError
from ._functions import bringing_options
from ._loading import dumps_task, load_outcome
from ._options import Options
from ._pickling import importing, task_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from . import _native

_AGAIN_SECONDS = 0.5
"""A task that others have begun may come back unbegun, when its worker dies: it is asked for again so often."""

_MIXED_SECONDS = 0.05
"""The same for `concurrent.futures.wait`, which may also wait for a future of a thread."""

_OPTIONS = ("name", "priority", "retries")
"""What holds for a task whoever runs it. The others are the host's: it does not see what a waiting task runs itself."""

_UNFINISHED = ("pending", "running", "here")
"""What `NestedTask.look` says of a task that has not ended."""

_STANDARD_STATES = {None: "PENDING", "cancelled": "CANCELLED_AND_NOTIFIED"}
"""What `concurrent.futures` calls the ways to end; any other is ``FINISHED``."""

_nest, _pool = _handshake.nesting or (None, ("", 0))


def _asked() -> _native.Nest:
    assert _nest is not None, "only in workers"
    return _nest


class NestedFuture(cf.Future):  # type: ignore[type-arg]
    """The future of a task that a task has submitted. It cannot leave its worker.

    How the task stands is known to the native task. Here is only what was made of its outcome, in one step, so that the
    exception of a signal handler, wherever it comes, leaves a future that can be asked again. The lock and the state of
    a standard future would not do: what is interrupted while it holds the lock holds it for ever.
    """

    def __init__(self, task: _native.NestedTask | None, exc: BaseException | None = None) -> None:
        # Not the standard one's: there is no lock, no state and no callback to keep.
        self._task = task
        """``None``: there is none, because of `exc`."""
        self._loaded: list[tuple[Any, BaseException | None]] = [(None, exc)] if task is None else []
        """The first one counts: threads may load it at once."""
        self._condition = _Glance(self)  # type: ignore[assignment]
        self._waiters = _Waiters(self)  # type: ignore[assignment]

    @property
    def task_id(self) -> str:
        """As `Future.task_id`."""
        return f"{_pool[0]}-{self._task.number if self._task else 0}"

    def result(self, timeout: float | None = None) -> Any:
        """The value. If nobody has begun the task, this thread runs it; `timeout` does not cut that short."""
        value, exc = self._outcome(timeout)
        if exc is None:
            return value
        try:
            raise exc
        finally:
            del self, exc  # else each would hold the other, by way of the traceback

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """As `result`, for the exception."""
        exc = self._outcome(timeout)[1]
        if exc is not None and issubclass(type(exc), cf.CancelledError) and self.cancelled():
            raise exc
        return exc

    def done(self) -> bool:
        """Whether it has ended."""
        return self._look(claim=False) not in _UNFINISHED

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._look(claim=False) == "cancelled"

    def running(self) -> bool:
        """Whether somebody runs it."""
        return self._look(claim=False) in ("running", "here")

    def cancel(self) -> bool:
        """Cancel it if nobody has begun it."""
        return self._task is not None and self._task.cancel()

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        """Only of one that has ended: nothing in a worker watches for the end of others."""
        if not self.done():
            raise RuntimeError(
                "inside a task nobody calls back when a future ends: ask result(), or wait with "
                "concurrent.futures.wait or as_completed"
            )
        try:
            fn(self)
        except Exception:
            importing("logging")
            import logging

            logging.getLogger("concurrent.futures").exception("exception calling callback for %r", self)

    def __reduce__(self) -> Any:
        raise TypeError("the future of a nested task cannot be sent to another process: pass future.result() instead")

    def __repr__(self) -> str:
        state = "pending" if self._ended() is None else "finished"
        return f"<disttask.NestedFuture {self.task_id} {state}>"

    def _outcome(self, timeout: float | None) -> tuple[Any, BaseException | None]:
        deadline = None if timeout is None else time.monotonic() + timeout
        while self._task is not None:
            left = _AGAIN_SECONDS if deadline is None else deadline - time.monotonic()
            seen = _asked().ended()
            state = self._look(claim=left > 0)
            if state not in _UNFINISHED:
                break
            if left <= 0:
                raise TimeoutError
            if state == "here":
                self._task.wait(min(left, _AGAIN_SECONDS))
            else:
                _asked().wait(seen, min(left, _AGAIN_SECONDS))
        return self._load()

    def _look(self, claim: bool) -> str:
        """Ask how it stands; with `claim`, run it if nobody has begun it."""
        return "error" if self._task is None else self._task.look(claim, _worker)

    def _ended(self) -> str | None:
        """How it has ended, as far as is known without asking."""
        return "error" if self._task is None else self._task.ended()

    def _load(self) -> tuple[Any, BaseException | None]:
        """The value or the exception of one that has ended."""
        outcome = None if self._loaded or self._task is None else self._task.outcome()
        if outcome is not None:
            self._loaded.append(_load(*outcome))
        if self._task is not None:
            self._task.loaded()
        return self._loaded[0]


def _load(kind: str, data: Any) -> tuple[Any, BaseException | None]:
    if kind == "cancelled":
        return None, cf.CancelledError()
    if kind == "failed":
        importing("json")
        import json

        data = json.loads(data)
    return load_outcome(kind, data)


class _Glance:
    """What `concurrent.futures` takes for a future's lock while it looks at several.

    The state that a thread sees does not change in between. Nobody is kept from anything, so nothing is held by a
    thread that an exception drives out.
    """

    def __init__(self, future: NestedFuture) -> None:
        self._future = weakref.ref(future)
        self._seen: dict[int, str] = {}

    def acquire(self) -> bool:
        self._seen[threading.get_ident()] = self._now()
        return True

    def release(self) -> None:
        self._seen.pop(threading.get_ident(), None)

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def state(self) -> str:
        return self._seen.get(threading.get_ident()) or self._now()

    def _now(self) -> str:
        future = self._future()
        return "PENDING" if future is None else _STANDARD_STATES.get(future._ended(), "FINISHED")


NestedFuture._state = property(lambda future: future._condition.state())  # type: ignore[assignment]
"""For `concurrent.futures`, which looks at it."""


class _Waiters:
    """In place of a list of those of `concurrent.futures.wait` and `as_completed`.

    They sleep on an event until some future tells it. A nested one tells nobody: whoever waits looks, see `_Event`.
    """

    def __init__(self, future: NestedFuture) -> None:
        self._future = weakref.ref(future)

    def append(self, waiter: Any) -> None:
        if not isinstance(waiter.event, _Event):
            waiter.event = _Event(waiter)
        future = self._future()
        if future is not None and future._state == "PENDING":
            waiter.event.futures.append(future)

    def remove(self, waiter: Any) -> None:
        future = self._future()
        if future is not None and isinstance(waiter.event, _Event) and future in waiter.event.futures:
            waiter.event.futures.remove(future)


class _Event(threading.Event):
    """Whoever sleeps on it sees to these futures meanwhile, and tells the waiter of those that have ended."""

    def __init__(self, waiter: Any) -> None:
        super().__init__()
        self.futures: list[NestedFuture] = []
        self._waiter = weakref.ref(waiter)

    def wait(self, timeout: float | None = None) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.is_set():
            seen = _asked().ended()
            for future in list(self.futures):
                expired = deadline is not None and time.monotonic() >= deadline
                state = future._look(claim=not expired)
                if state not in _UNFINISHED:
                    self._tell(future, state)
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

    def _tell(self, future: NestedFuture, state: str) -> None:
        exc = future._load()[1]
        waiter = self._waiter()
        self.futures.remove(future)
        if waiter is None:
            return
        if state == "cancelled":
            waiter.add_cancelled(future)
        elif exc is None:
            waiter.add_result(future)
        else:
            waiter.add_exception(future)


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
        to_submit("submit", fn)
        if (bringing := bringing_options(fn)) is not None:
            assert bringing[0].options is not None
            merged = bringing[0].options.given() | self._options.given()
            return self.options(**merged).submit(bringing[1], *args, **kwargs)
        try:
            return self._submit(fn, args, kwargs)
        except SerializationError as exc:
            return NestedFuture(None, exc)

    def _submit(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> NestedFuture:
        if _handshake.context:
            importing("disttask._context")
            from ._context import Context

            fn = Context.named(_handshake.context).around(fn)
        return self._submit_pickled(dumps_task(fn, args, kwargs).data, task_name(fn))

    def _submit_pickled(self, data: bytes, name: str) -> NestedFuture:
        options = self._options
        return NestedFuture(_asked().submit(data, options.name or name, options.priority, options.retries))

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

    def __getattr__(self, name: str) -> Any:
        """What an `Executor` has, and this has not."""
        if not name.startswith("_"):
            importing("disttask._executor")
            from ._executor import Executor

            if hasattr(Executor, name):
                text = f"{name} is for the process that has made the executor: inside a task it is not there"
                raise AttributeError(text)
        raise AttributeError(f"'Executor' object has no attribute {name!r}")

    @property
    def _pool(self) -> Any:
        raise RuntimeError("inside a task this is not there: call it in the process that has made the executor")

    def __reduce__(self) -> Any:
        importing("disttask._executor")
        from ._executor import executor_of

        options = {name: getattr(self._options, name) for name in Options.__slots__}
        return executor_of, (_pool[0], None if self._options.is_default() else options)

    def __repr__(self) -> str:
        return f"<disttask.Executor max_workers={self._max_workers}, inside a task>"


for _name in ("submit", "options"):  # what Python calls them where an argument is wrong
    getattr(NestedExecutor, _name).__qualname__ = f"Executor.{_name}"
