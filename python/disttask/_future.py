"""`Future`: a `concurrent.futures.Future` that stays native as long as nobody looks at it in ways only Python can serve.

A future starts *unobserved*: its state is a slot on the Rust side, and `result()`, `done()` or `cancel()` go there.
Whatever touches the attributes of the standard future (callbacks, `concurrent.futures.wait`, `as_completed`,
`asyncio.wrap_future`) makes it *observed*: it gets the standard attributes, and from then on its visible state changes
only here, in Python, under its ``_condition``. A collector thread pulls the resolutions of observed futures in batches.
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent import futures as cf
from typing import Any

from . import _native
from ._exceptions import ForkedPoolError
from ._pickling import load_outcome


_logger = logging.getLogger("disttask")

_STANDARD_ATTRIBUTES = frozenset(vars(cf.Future()))
"""What `concurrent.futures.Future.__init__` sets: touching one of these makes a future observed."""

_PENDING, _CANCELLED, _CANCELLED_AND_NOTIFIED = "PENDING", "CANCELLED", "CANCELLED_AND_NOTIFIED"

_observing = threading.RLock()
"""Held while a future becomes observed. Reentrant: a signal handler may touch a future in the middle of it."""


class Collector:
    """Delivers the resolutions of one pool's observed futures, on a thread that starts with the first of them."""

    by_pool: dict[int, Collector] = {}  # noqa: RUF012

    def __init__(self, pool: _native.Pool) -> None:
        self._pool = pool
        self._futures: dict[int, Future] = {}
        self._thread: threading.Thread | None = None
        Collector.by_pool[pool.id] = self

    def adopt(self, future: Future) -> None:
        """Keep an observed future until its resolution is delivered. Called with `_observing` held."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="disttask-collector", daemon=True)
            thread.start()
            self._thread = thread
        self._futures[future._seq] = future

    def join(self) -> None:
        """Wait until everything is delivered; the pool must have gone. Harmless on the collector's own thread."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        Collector.by_pool.pop(self._pool.id, None)

    def _run(self) -> None:
        while (batch := self._pool.collect()) is not None:
            for seq in batch:
                self._deliver(self._futures.pop(seq, None))

    @staticmethod
    def _deliver(future: Future | None) -> None:
        if future is None:
            return
        try:
            future._deliver()
        except BaseException:  # a callback raised SystemExit, say: the others must be served all the same
            _logger.exception("disttask: delivering %r failed", future)


class Future(_native.Future, cf.Future):  # type: ignore[type-arg, misc]
    """The result of a task that may not have finished yet. Made by `Executor.submit`.

    It is a `concurrent.futures.Future` and works wherever one does: `concurrent.futures.wait`, `as_completed`,
    `asyncio.wrap_future`. Do not make instances of your own.

    Attributes:
        task_id: names the task in `get_results` and in messages (`str`).
    """

    __slots__ = ()

    def __init__(self, *args: object, **kwargs: object) -> None:
        """All is done in `_native.Future.__new__`; the standard attributes come when they are first touched."""

    @property
    def task_id(self) -> str:
        """``"<executor>-<number>"``: unique among all processes of all machines."""
        return f"{native_prefix(self._pool_id)}-{self._seq}"

    # --- what is answered natively while unobserved ---

    def result(self, timeout: float | None = None) -> Any:
        """Return the task's value, or raise its exception.

        Args:
            timeout: seconds to wait; ``None`` waits for ever. Ctrl-C ends the wait and leaves the task alone.

        Raises:
            TimeoutError: the task has not finished in time (``done()`` is ``False``), or it ran longer than its own
                timeout (`TaskTimeout`, ``done()`` is ``True``).
            CancelledError: it was cancelled.
            WorkerCrashed: its worker died.
        """
        exc: BaseException | None = None
        try:
            timeout = self._await_unobserved(timeout)
            if self._is_observed():
                return super().result(timeout)
            value, exc = self._take()
            if exc is not None:
                raise exc
            return value
        finally:
            # The traceback must keep neither the future alive nor, in a cycle, the exception.
            self = exc = None  # type: ignore[assignment]  # noqa: PLW0642

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the task's exception, or ``None`` if it returned. Waits and raises as `result` does."""
        timeout = self._await_unobserved(timeout)
        if self._is_observed():
            return super().exception(timeout)
        return self._take()[1]

    def done(self) -> bool:
        """Whether it has finished or was cancelled."""
        return super().done() if self._is_observed() else self._is_resolved()

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return super().cancelled() if self._is_observed() else self._kind() == "cancelled"

    def running(self) -> bool:
        """Whether a worker runs it just now."""
        return not self.done() and self._is_running()

    def cancel(self) -> bool:
        """Cancel the task if no worker has it yet. Returns whether it is cancelled."""
        if self._is_resolved() or not self._cancel():
            return self.cancelled()
        if self._is_observed():
            self._deliver()
        return True

    def _await_unobserved(self, timeout: float | None) -> float | None:
        """Wait natively until it is resolved or observed; then the standard methods decide, in the time returned."""
        if self._is_observed():
            return timeout
        deadline = None if timeout is None else time.monotonic() + timeout
        resolved = self._wait(timeout)
        if not resolved and not self._is_observed():
            raise TimeoutError
        return None if deadline is None else max(0.0, deadline - time.monotonic())

    def _take(self) -> tuple[Any, BaseException | None]:
        """The value or the exception; loaded once, so that every call returns the same object."""
        state = self.__dict__
        loaded: tuple[Any, BaseException | None] | None = state.get("_loaded")
        if loaded is not None:
            return loaded
        outcome = self._outcome()
        assert outcome is not None
        kind, data = outcome
        if kind == "cancelled":
            raise cf.CancelledError
        if kind == "released":  # by another thread, after it had stored what it loaded
            loaded = state["_loaded"]
        else:
            loaded = state.setdefault("_loaded", load_outcome(kind, data))
            self._release()
        return loaded

    # --- becoming observed ---

    def __getattr__(self, name: str) -> Any:
        if name not in _STANDARD_ATTRIBUTES:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        self._become_observed()
        return self.__dict__[name]

    def _become_observed(self) -> None:
        if self._wait(0) and self._kind() != "cancelled":
            self._take()  # Ctrl-C may end the loading here, while nothing has changed yet
        with _observing:
            if "_condition" in self.__dict__:
                return
            collector = Collector.by_pool.get(self._pool_id)
            if collector is not None and not self._is_resolved():
                collector.adopt(self)
            resolved = self._observe()
            self.__dict__.update(vars(cf.Future()))
        if resolved:
            if collector is not None:
                collector._futures.pop(self._seq, None)
            self._deliver()

    def _orphan(self) -> None:
        """In a forked child, where nobody will deliver: fail, without the callbacks, which are the parent's."""
        if "_condition" in self.__dict__:
            self.__dict__.update(vars(cf.Future()))  # another thread of the parent may have held the old condition
            try:
                self._cancel()
            except ForkedPoolError as exc:
                self.set_exception(exc)

    def _deliver(self) -> None:
        """Make the native outcome visible: state, waiters, callbacks."""
        condition = self._condition
        if self._kind() == "cancelled":
            cf.Future.cancel(self)
            with condition:
                if self._state == _CANCELLED:
                    self.set_running_or_notify_cancel()
            return
        value, exc = self._take()
        with condition:
            if self._state != _PENDING:
                return
        if exc is None:
            self.set_result(value)
        else:
            self.set_exception(exc)

    @classmethod
    def failed(cls, exc: BaseException) -> Future:
        """A future that has finished with `exc`, without a task."""
        future = cls()
        future._observe()
        future.__dict__.update(vars(cf.Future()))
        future.set_exception(exc)
        return future

    def __repr__(self) -> str:
        if not self.done():
            state = "running" if self._is_running() else "pending"
        elif self.cancelled():
            state = "cancelled"
        else:
            state = "finished"
        return f"<disttask.Future {self.task_id} {state}>"

    def __reduce__(self) -> Any:
        raise TypeError("a Future cannot be sent to a worker: pass future.result() instead")


def after_fork_in_child() -> None:
    """Another thread of the parent may have held the lock, and no thread is left to deliver anything."""
    global _observing
    _observing = threading.RLock()
    collectors = list(Collector.by_pool.values())
    Collector.by_pool.clear()
    for collector in collectors:
        for future in list(collector._futures.values()):
            future._orphan()


_prefixes: dict[int, str] = {0: "none"}


def native_prefix(pool_id: int) -> str:
    """The part of a task id that names the pool: 64 random bits, made when they are first asked for."""
    prefix = _prefixes.get(pool_id)
    if prefix is None:
        import os

        prefix = _prefixes.setdefault(pool_id, os.urandom(8).hex())
    return prefix
