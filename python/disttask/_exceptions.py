"""The exceptions of disttask.

    DisttaskError
    ├── WorkerCrashed          (BrokenExecutor*)  the worker died while it ran this task
    ├── TaskTimeout            (TimeoutError)     the task ran longer than its timeout
    │   └── SoftTimeout                           ... than its soft_timeout: raised inside it
    ├── TaskMemoryExceeded     (MemoryError)      the task took more memory than its max_memory
    ├── PoolBroken             (BrokenExecutor*)  workers cannot be started: make a new Executor
    ├── DependencyFailed                          a task whose value this one needs failed or was cancelled
    ├── PoolShutdown           (BrokenExecutor*)  the pool was stopped before the task had finished
    ├── ForkedPoolError        (RuntimeError)     the pool belongs to the parent process
    ├── SerializationError     (PicklingError)    the task or its result cannot be pickled
    ├── DeserializationError   (UnpicklingError)  the task or its result cannot be unpickled
    ├── InvalidTask            (ValueError)       a text that is not a task, or not one for this Python
    ├── RemoteError                               an exception that could not be rebuilt here
    ├── UnknownTask            (KeyError)         no task has that id
    └── ResultEvicted          (KeyError)         the result was dropped to stay within the bounds

* and `concurrent.futures.process.BrokenProcessPool`: code that was written for `ProcessPoolExecutor` catches it.

`RemoteTraceback` is not an error of its own: it is the ``__cause__`` of an exception that comes from a worker, and
its text is the traceback there.
"""

from __future__ import annotations

import concurrent.futures
import os
import sys
from _pickle import PicklingError, UnpicklingError  # those of `pickle`, which takes 1 ms to import
from concurrent.futures import BrokenExecutor

from ._pickling import task_name
from ._sharing import when_imported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


_SHOWN_LINES = 20
"""Lines of a stack, and of stderr, in the text of an exception: one screen with both. The attributes have them all."""


class DisttaskError(Exception):
    """Base class of all errors that disttask itself raises."""


class _TaskFailure(DisttaskError):
    """What is known of a task that ended without an answer of its own."""

    def __init__(
        self,
        message: str = "",
        *,
        task: int | None = None,
        name: str = "",
        tags: Sequence[str] = (),
        attempts: int = 0,
        pid: int | None = None,
        exit_status: int | None = None,
        signal: int | None = None,
        oom_killed: bool | None = None,
        peak_memory: int | None = None,
        memory_limit: int | None = None,
        memory_growth: int | None = None,
        stderr: str = "",
        stack: str = "",
        earlier_attempts: Sequence[str] = (),
        item: int | None = None,
    ) -> None:
        super().__init__(message)
        self.task = task
        self.name = name
        self.tags = tuple(tags)
        self.attempts = attempts
        self.pid = pid
        self.exit_status = exit_status
        self.signal = signal
        self.oom_killed = oom_killed
        self.peak_memory = peak_memory
        self.memory_limit = memory_limit
        self.memory_growth = memory_growth
        self.stderr = stderr
        self.stack = stack
        self.earlier_attempts = tuple(earlier_attempts)
        self.item = item

    @property
    def exitcode(self) -> int | None:
        """As `multiprocessing.Process.exitcode`: the exit status, or the negative number of the signal."""
        return self.exit_status if self.signal is None else -self.signal

    def __str__(self) -> str:
        text = super().__str__()
        if self.stack:
            text += f"; its stack:\n{_crashed_thread(self.stack)}"
        if self.stderr and not (self.stack and self.stderr.endswith(self.stack)):
            text += ("\nThe" if self.stack else "; the") + f" last lines of its stderr:\n{_last_lines(self.stderr)}"
        return text

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), self.args, self.__dict__)


def _last_lines(text: str) -> str:
    lines = text.splitlines()
    return "\n".join(["...", *lines[-_SHOWN_LINES:]] if len(lines) > _SHOWN_LINES else lines)


def _crashed_thread(stack: str) -> str:
    """Of the report of a fatal signal: what it says of the thread that got it, the innermost frames."""
    title, _, rest = stack.partition("\n")
    sections = rest.strip().split("\n\n")
    current = next((section for section in sections if section.startswith("Current thread")), rest.strip())
    lines = [title, *current.splitlines()]
    return "\n".join([*lines[:_SHOWN_LINES], "..."] if len(lines) > _SHOWN_LINES else lines)


class WorkerCrashed(_TaskFailure, BrokenExecutor):
    """The worker process died while it ran this task, and no retries were left.

    Only this task is affected: the executor has started another worker and goes on. The text says in short what the
    attributes have in full::

        try:
            future.result()
        except disttask.WorkerCrashed as crash:
            if crash.oom_killed:
                print(f"out of memory: it had {crash.peak_memory} bytes")
            print(crash.stack or crash.stderr)

    Attributes:
        task: the task's number in its executor (`int`).
        name: the function's name, or the one given in `Executor.options` (`str`).
        tags: those given there (`tuple` of `str`).
        attempts: how often the task was begun (`int`).
        pid: the process id of the worker that died last (`int`).
        exit_status: its exit status (`int`), or ``None`` if a signal ended it.
        signal: the number of the signal that ended it (`int`), or ``None``.
        exitcode: both in one, as `multiprocessing.Process.exitcode`: the negative number of a signal (`int`).
        oom_killed: whether the kernel's out-of-memory killer ended it (`bool`), or ``None``: nobody knows. ``True``: a
            SIGKILL ended it that the executor has not sent, and that killer's count for the worker's cgroup rose at the
            time, by enough for all workers that died so. ``False``: the count did not rise, or it was no SIGKILL. A
            count for the whole machine, where that is all there is, accuses nobody.
        peak_memory: the most bytes that the process had in memory (`int`), or ``None``: nobody knows. A program counts,
            too, that a task has started and waited for. Where the host itself has had more than that, it is as of the
            last look (twice a second), so it may have been more.
        stderr: the last lines it wrote to its stderr or to descriptor 2, at most 8 KiB (`str`).
        stack: the Python stacks of its threads when a fatal signal came (SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL),
            with what `faulthandler` says of it, at most about 32 KiB (`str`).
        earlier_attempts: how the earlier attempts ended, a line for each of the last ten (`tuple` of `str`).
        item: which call it was at, where `map` has sent it several as one task (`int`, from 0), or ``None``.
    """


class TaskTimeout(_TaskFailure, TimeoutError):
    """The task ran longer than the ``timeout`` given in `Executor.options`, and its worker was killed.

    An expired ``result(timeout)`` is a `TimeoutError` too; tell them apart by ``future.done()``: it is ``True`` here.
    """


class SoftTimeout(TaskTimeout):
    """The task has run longer than the ``soft_timeout`` given in `Executor.options`: raised inside it, where it stands.

    A task that catches it can clean up, and return what it has::

        def crunch(items):
            done = []
            try:
                for item in items:
                    done.append(item**2)
            except disttask.SoftTimeout:
                pass
            return done

        executor.options(soft_timeout=10, timeout=12).submit(crunch, items)

    What a task that does not catch it raises is this, and the future has it. It comes once per attempt.

    Attributes:
        task: the task's number in its executor (`int`).
        name: the function's name, or the one given in `Executor.options` (`str`).
        tags: those given there (`tuple` of `str`).
        attempts: how often the task was dispatched (`int`).
        pid: the process id of its worker (`int`).
    """


class TaskMemoryExceeded(_TaskFailure, MemoryError):
    """The task's worker grew by more than the ``max_memory`` given in `Executor.options`, and was killed.

    A `MemoryError`, as one that the task has raised itself; ``except disttask.TaskMemoryExceeded`` tells them apart::

        try:
            executor.options(max_memory=2**30).submit(load, path).result()
        except disttask.TaskMemoryExceeded as error:
            print(f"{error.name} had taken {error.memory_growth} bytes, and may take {error.memory_limit}")

    Attributes:
        memory_limit: the ``max_memory``, in bytes (`int`).
        memory_growth: by how many bytes the worker had grown when that was seen (`int`).

    The others (`task`, `name`, `tags`, `attempts`, `pid`, `peak_memory` ...) are those of `WorkerCrashed`.
    """


class PoolBroken(_TaskFailure, BrokenExecutor):
    """Workers die again and again before they are ready: nothing can run. Mend the cause, make a new `Executor`.

    The text has the interpreter and the last worker's last words.
    """


class PoolShutdown(_TaskFailure, BrokenExecutor):
    """The pool was stopped at once (Ctrl-C at exit, an interrupted ``with`` block) before the task had finished."""


class DependencyFailed(_TaskFailure):
    """The task was not run: it needs the value of another one, which failed or was cancelled.

    The ``__cause__`` is what that task failed with, or a `concurrent.futures.CancelledError`. Along a row of tasks that
    need each other, it is what the first of them failed with.

    Attributes:
        task: the task's number in its executor (`int`).
        name: the function's name (`str`).
    """


class ForkedPoolError(DisttaskError, RuntimeError):
    """The executor was made before ``os.fork()``, in the parent process. Make a new one in this process."""


class SerializationError(DisttaskError, PicklingError):
    """A task, or what it returned, cannot be pickled. The text names the part and its type."""


class DeserializationError(DisttaskError, UnpicklingError):
    """A task cannot be unpickled in the worker, or a result in the caller."""


class InvalidTask(DisttaskError, ValueError):
    """The text is not one that `serialize_task` made, or is damaged, or holds code of another Python version."""


class RemoteError(DisttaskError):
    """Stands for an exception in a task that could not be pickled, or not be rebuilt from its pickle.

    Attributes:
        type_name: the exception's type, with its module (`str`).
        message: its ``str()`` (`str`).
        traceback: the formatted traceback in the worker (`str`).
        reason: why it is not the exception itself (`str`). An ``__init__`` of its own is no such reason, and
            attributes that cannot be pickled are none: they stay in the worker.
    """

    def __init__(self, type_name: str, message: str, traceback: str, reason: str = "") -> None:
        super().__init__(type_name, message, traceback, reason)
        self.type_name = type_name
        self.message = message
        self.traceback = traceback
        self.reason = reason

    def __str__(self) -> str:
        text = f"{self.type_name}: {self.message}"
        return f"{text} (the exception itself {self.reason})" if self.reason else text


class _LookupFailure(DisttaskError, KeyError):
    def __str__(self) -> str:
        return Exception.__str__(self)  # KeyError would show the repr


class UnknownTask(_LookupFailure):
    """No task that was submitted through `disttask.submit` in this process has that id."""


class ResultEvicted(_LookupFailure):
    """The result was kept, and has been dropped to stay within the bounds on count, bytes and age."""


class RemoteTraceback(Exception):
    """The ``__cause__`` of an exception that was raised in a worker: its text is the traceback there.

    Its own ``__cause__`` is what the exception was raised from (``raise ... from ...``), if anything.
    """

    def __init__(self, traceback: str) -> None:
        super().__init__(traceback)
        self.traceback = traceback

    def __str__(self) -> str:
        return f'\n"""\n{self.traceback.rstrip()}\n"""'


FAILURES: dict[str, type[_TaskFailure]] = {
    "worker_crashed": WorkerCrashed,
    "task_timeout": TaskTimeout,
    "task_memory_exceeded": TaskMemoryExceeded,
    "pool_broken": PoolBroken,
    "pool_shutdown": PoolShutdown,
    "dependency_failed": DependencyFailed,
}
"""What each kind of a `Failure` of the Rust side is here."""


def dependency_failed(name: str, cause: BaseException) -> DependencyFailed:
    """What a task fails with that needs the value of one that failed so."""
    if isinstance(cause, DependencyFailed) and cause.__cause__ is not None:
        cause = cause.__cause__
    error = DependencyFailed(f"{name} was not run: it needs the value of a task that failed", name=name)
    error.__cause__ = cause
    return error


def soft_timeout(guard: Any, task: int, attempt: int) -> SoftTimeout:
    """In a worker: what is raised in the task that runs, a `Guarded` function."""
    name = guard.name or task_name(guard.func)
    message = f"task {task} ({name}) ran longer than its soft_timeout of {guard.soft_timeout:g} s"
    return SoftTimeout(message, task=task, name=name, tags=guard.tags, attempts=attempt, pid=os.getpid())


def from_failure(failure: dict[str, Any]) -> DisttaskError:
    """The exception for a `Failure` of the Rust side."""
    details = dict(failure)
    kind = details.pop("kind")
    return FAILURES[kind](details.pop("message"), **details)


def _be_broken_process_pools(module: Any) -> None:
    """Derive from `BrokenProcessPool`, which takes 20 ms to import: only once somebody has, who may catch it."""
    for kind in (WorkerCrashed, PoolBroken, PoolShutdown):
        kind.__bases__ = (_TaskFailure, module.BrokenProcessPool)


when_imported("concurrent.futures.process", _be_broken_process_pools)


def _have_process(package: Any) -> None:
    """Let ``except concurrent.futures.process.BrokenProcessPool:`` find it, as after a use of `ProcessPoolExecutor`."""
    others = getattr(package, "__getattr__", None)

    def attribute(name: str) -> Any:
        if name == "process":
            __import__("concurrent.futures.process")
            return sys.modules["concurrent.futures.process"]
        if others is None:
            raise AttributeError(f"module {package.__name__!r} has no attribute {name!r}")
        return others(name)

    package.__getattr__ = attribute


_have_process(concurrent.futures)
