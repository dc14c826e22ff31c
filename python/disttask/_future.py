"""`Future`: a `concurrent.futures.Future` whose value, exception and true state live on the Rust side.

Only what the standard library's waiting functions look at is Python's: `concurrent.futures.wait`, `as_completed`,
callbacks and `asyncio.wrap_future` touch ``_state``, ``_condition``, ``_waiters`` or ``_done_callbacks``. The first
touch makes a future *observed*: it gets these attributes, and its resolution is announced to a collector thread
(`_collector`), which pulls announcements in batches, sets ``_state`` and tells waiters and callbacks.

No wake-up is lost and none comes twice: whoever reads ``_state`` as pending and then adds itself does both under
``_condition``; from there on ``_state`` changes only under ``_condition``, together with telling whoever was added.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
from concurrent import futures as cf

from . import _inputs, _native
from ._collector import Collector
from ._exceptions import ForkedPoolError
from ._loading import load_outcome, raised_by
from ._pickling import class_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any, Literal, NoReturn, TypeVar

    _T = TypeVar("_T")

_standard_logger = logging.getLogger("concurrent.futures")  # where a standard future tells of callbacks that fail

_WORKERS_FRAMES = re.compile(r'  File "[^"]*_worker\.py", line \d+ in main\n  File "<string>", line 1 in <module>\n\Z')
"""What every stack of a worker ends with."""

_NO_FRAMES = "most recent call first):\n"
"""What is left of a stack whose last thread, the one that runs tasks, is in no Python function."""

_PENDING, _FINISHED, _CANCELLED_AND_NOTIFIED = "PENDING", "FINISHED", "CANCELLED_AND_NOTIFIED"

_NOT_SET_HERE = "what becomes of a task is told by its worker; make a concurrent.futures.Future to set one yourself"

_KILL_SECONDS = 5.0
"""How long `kill` waits for a process to go, which a kernel may hold up (a disk that does not answer)."""

_STANDARD_ATTRIBUTES = frozenset(vars(cf.Future()))
"""What `concurrent.futures.Future.__init__` sets: touching one of these makes a future observed."""


class Future(_native.Future, cf.Future["_T"]):
    """The result of a task that may not have finished yet. Made by `Executor.submit`.

    It is a `concurrent.futures.Future` and works wherever one does: `concurrent.futures.wait`, `as_completed`,
    `asyncio.wrap_future`. Do not make instances of your own.

    Attributes:
        task_id: names the task in `get_results` and in messages (`str`).
    """

    __slots__ = ()

    if TYPE_CHECKING:

        def result(self, timeout: float | None = None) -> _T:
            """Return the task's value, or raise its exception."""
            ...

    def __init__(self, *args: object, **kwargs: object) -> None:
        """All is done in `_native.Future.__new__`; the standard attributes come when they are first touched."""

    def __setattr__(self, name: str, value: object) -> None:
        """As usual, but that the garbage collector has to know: the value may lead back to this future."""
        _native.track(self)
        object.__setattr__(self, name, value)

    @property
    def task_id(self) -> str:
        """``"<executor>-<number>"``: unique among all processes of all machines."""
        return self._task_id or "none"

    def _load_result(self) -> Any:
        """The rest of `result`, which is native, for whatever is not a plain value."""
        exc: BaseException | None = None
        try:
            self._settle()
            value, exc = self._take()
            if exc is not None:
                raise exc
            return value
        finally:
            # The traceback must keep neither the future alive nor, in a cycle, the exception.
            self = exc = None  # type: ignore[assignment]  # noqa: PLW0642

    def _chunk_outcome(self) -> Any:
        """Of a chunk of `map` that is resolved: errors by index, values, pickles by index; or why it failed."""
        if self._has_output():
            self._show_output()
        numbers = self._numbers()
        if numbers is not None:
            return [], numbers, []
        outcome = self._outcome()
        assert outcome is not None
        kind, data = outcome
        if kind == "cancelled":
            return cf.CancelledError()
        value, exc = load_outcome(kind, data)
        return value if exc is None else exc

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the task's exception, or ``None`` if it returned. Waits and raises as `result` does."""
        if not self._wait(timeout):
            raise TimeoutError
        if self._has_output():
            self._show_output()
        self._settle()
        return self._take()[1]

    def done(self) -> bool:
        """Whether it has finished or was cancelled."""
        if not self._is_resolved():
            return False
        self._settle()
        return True

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._kind() == "cancelled"

    def running(self) -> bool:
        """Whether a worker runs it just now."""
        return self._is_running()

    def cancel(self) -> bool:
        """Cancel the task if no worker has it yet. Returns whether it is cancelled.

        Where it was submitted with ``options(kill_on_cancel=True)``, one that runs is stopped: ``True`` then means that
        its worker is being killed. It is `cancelled` when that process is gone, unless its answer came first.
        """
        return self._cancelled_by(self._cancel())

    def set_result(self, result: object) -> NoReturn:  # noqa: ARG002
        """For executors, by the standard library's words. A task's result comes from its worker, and from nowhere else.

        Raises:
            concurrent.futures.InvalidStateError: always, as that of a standard future that has finished does.
        """
        raise cf.InvalidStateError(f"{self!r}: {_NOT_SET_HERE}")

    def set_exception(self, exception: BaseException | None) -> NoReturn:  # noqa: ARG002
        """As `set_result`."""
        raise cf.InvalidStateError(f"{self!r}: {_NOT_SET_HERE}")

    def kill(self) -> bool:
        """Stop the task, also where a worker runs it: that process is killed, with all that it started, and replaced.

        Nothing else is touched: tasks that wait at that worker are taken back first. Returns when the process is gone,
        which takes some milliseconds (at most 5 seconds are waited for it): whether the future is cancelled. ``False``:
        the task had ended, or ended just then.

            future = executor.submit(endless)
            assert future.kill() and future.cancelled()
        """
        if self._kill():
            self._wait(_KILL_SECONDS)
        return self._cancelled_by(self.cancelled())

    def _cancelled_by(self, cancelled: bool) -> bool:
        if not cancelled:
            return self.cancelled()
        collector = Collector.by_pool.get(self._pool_id)
        if collector is not None and self._is_resolved():
            collector.deliver_now(self)
        return True

    def __await__(self) -> Generator[Any, Any, _T]:
        """``await future``, in a coroutine. When that is cancelled, it calls `cancel`."""
        if not self.done() or self.cancelled():  # asyncio has a CancelledError of its own
            import asyncio

            yield from asyncio.wrap_future(self).__await__()
        return self.result()

    def output(self, stream: Literal["stdout", "stderr", "log"] | None = None) -> str:
        """What the task has printed and logged so far, in order of arrival; all of it, once ``result()`` has returned.

        Python's streams and `logging` are exact. What C code and programs that it started wrote to descriptors 1 and 2
        is counted to the task that its worker ran when it arrived: where tasks take less than a millisecond, that may
        be the next one. The last 256 KiB of a task are kept, and 32 MiB of all; the first line tells what is not.

        Args:
            stream: only what went to ``"stdout"``, ``"stderr"`` or, as lines, to ``"log"``.

        Example:
            >>> with disttask.Executor(1) as executor:
            ...     future = executor.submit(print, "hello", end="")
            ...     future.result()
            ...     assert future.output() == "hello"
        """
        return self._output(stream)

    def stack(self, timeout: float = 5.0) -> str | None:
        """The Python stacks of the worker that runs the task, most recent call first; ``None``: it does not run now.

        It needs neither the task's help nor the GIL: a call into C that never returns shows, too. A system call that
        the task is in may be interrupted, which Python's own functions notice and repeat.

        Args:
            timeout: seconds to wait for it.

        Raises:
            TimeoutError: it has not come in time: the worker is stopped.

        Example:
            >>> print(executor.submit(time.sleep, 60).stack())  # doctest: +SKIP
            Current thread 0x00007f2a5c3d8b80 (most recent call first):
              <no Python frame: in C code, of sleep itself or of what loads its arguments>
        """
        text = self._stack(timeout)
        if text is None:
            return None
        text = _WORKERS_FRAMES.sub("", text)
        if text.endswith(_NO_FRAMES):
            name = self._name() or "the function"
            text += f"  <no Python frame: in C code, of {name} itself or of what loads its arguments>\n"
        return text

    def _show_output(self) -> None:
        """Show what the pool's tasks have printed before what the caller prints next."""
        collector = Collector.by_pool.get(self._pool_id)
        if collector is not None:
            collector.outlet.show_now()

    def _take(self) -> tuple[Any, BaseException | None]:
        """The value or the exception; loaded once, so that every call returns the same object."""
        kept = self._kept()
        if kept is not None:
            return kept
        outcome = self._outcome()
        assert outcome is not None
        kind, data = outcome
        if kind == "cancelled":
            raise cf.CancelledError
        if kind == "released":  # by another thread, after it had stored what it loaded
            kept = self._kept()
            assert kept is not None
            return kept
        _native.track(self)
        kept = self._keep(*load_outcome(kind, data))
        self._release()
        return kept

    # --- what the standard library's waiting functions look at ---

    def __getattr__(self, name: str) -> Any:
        if name not in _STANDARD_ATTRIBUTES:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        self._become_observed()
        return self.__dict__[name]

    def _become_observed(self) -> None:
        """Have the resolution announced, and only then install what it is announced through.

        No user code runs here and no lock is held, so that Ctrl-C, a signal handler or the garbage collector may come
        at any point: whatever is left undone is done by the next who looks.
        """
        _native.track(self)
        attributes = vars(cf.Future())
        condition = attributes.pop("_condition")
        collector = Collector.by_pool.get(self._pool_id)
        if collector is not None and not self._is_observed():
            collector.adopt(self)
        announced = self._observe()
        if not announced:
            attributes["_state"] = self._final_state()
            if collector is not None:
                collector.disown(self)
        for name, value in attributes.items():
            self.__dict__.setdefault(name, value)
        self.__dict__.setdefault("_condition", condition)

    def _final_state(self) -> str:
        return _CANCELLED_AND_NOTIFIED if self._kind() == "cancelled" else _FINISHED

    def _settle(self) -> None:
        """Make visible what is resolved, so that `wait` right after `result` or `done` agrees with them.

        Only while nobody waits: then it is one assignment, which Ctrl-C cannot cut in half. Waiters are the
        collector's business. Inside a signal handler that came while this thread held the condition, nothing is done.
        """
        if not self._is_observed() or self._state != _PENDING or self._condition._is_owned():  # type: ignore[attr-defined]
            return
        with self._condition:
            if self._state == _PENDING and not self._waiters:
                self.__dict__["_state"] = self._final_state()

    def _announce(self) -> None:
        """Tell waiters and callbacks that it is resolved.

        Called by the collector, once; and again where Ctrl-C has cut it short, for those who were not told.
        """
        kind = self._kind()
        with self._condition:
            if self._state == _PENDING:
                again = "_announcing" in self.__dict__
                self.__dict__["_announcing"] = True
                for waiter in self._waiters:
                    # Only where an earlier call was cut short: a waiter of thousands has a long list.
                    if again and self in getattr(waiter, "finished_futures", ()):
                        continue
                    if kind == "cancelled":
                        waiter.add_cancelled(self)
                    elif kind in ("error", "failed"):
                        waiter.add_exception(self)
                    else:
                        waiter.add_result(self)
                self._condition.notify_all()
                self.__dict__["_state"] = self._final_state()  # last: from here on no waiter is told
        if self._done_callbacks:
            if kind != "cancelled":
                # A callback will want it, and may belong to an event loop, which unpickling would hold up.
                with contextlib.suppress(BaseException):
                    self._take()
            self._call_back()

    def _call_back(self) -> None:
        """Call each callback once, in turn, whatever others raise. Only Ctrl-C on the main thread ends it early."""
        callbacks = self.__dict__.setdefault("_uncalled", iter(self._done_callbacks))
        for callback in callbacks:
            try:
                callback(self)
            except BaseException as exc:
                is_interrupt = isinstance(exc, KeyboardInterrupt)
                if is_interrupt and threading.current_thread() is threading.main_thread():
                    raise
                _standard_logger.exception("a callback of %r failed", self)

    @classmethod
    def _failed(cls, exc: BaseException) -> Future[Any]:
        """A future that has finished with `exc`, without a task."""
        future = cls()
        future._keep(None, exc)
        return future  # its slot is resolved from the start

    def __repr__(self) -> str:
        try:
            kind = self._kind()
            if kind is None:
                state = "running" if self._is_running() else "pending"
            else:
                state = "cancelled" if kind == "cancelled" else f"finished{self._how(kind)}"
        except ForkedPoolError:
            state = "of the parent process"
        return f"<disttask.Future {self.task_id} {state}>"

    def _how(self, kind: str) -> str:
        """As a standard future says it. Nothing is unpickled: the class of a value is told if somebody has had that."""
        kept = self._kept()
        if kept is not None:
            value, exc = kept
            return f" returned {class_name(type(value))}" if exc is None else f" raised {class_name(type(exc))}"
        if kind not in ("error", "failed"):
            return ""
        outcome = self._outcome()
        return "" if outcome is None else f" raised {raised_by(*outcome)}"

    def _repr_html_(self) -> str:
        """What a notebook shows: state, name, and the value if it was asked for before. Neither waits nor unpickles."""
        from ._html import future_html

        return future_html(self)

    def __reduce__(self) -> Any:
        call = _inputs.collecting()
        if call is None:
            raise TypeError(_inputs.ELSEWHERE)
        return call.reduce_future(self)
