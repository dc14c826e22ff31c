"""In a worker, an executor starts nothing before its first use.

A module that makes an executor is imported by the workers of that executor when its functions go by name. Would each of
these start workers of its own at once, which may import the module again for an initializer, there would be no end.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading

from . import _handshake, _native
from ._start import checked_workers
from ._submitter import Tasks
from ._workers import Workers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType
    from typing import Any

MAX_DEPTH = 4
"""Workers of workers of workers of a program's workers start no more. Nobody needs as many on purpose: a task that has
parts to run gives them to its own pool. By accident, where pools have two workers, these are 30 processes."""

_INSTEAD = (
    "use it in a function that the program calls (or, in the program's own file, under if __name__ == '__main__'); "
    "inside a task, disttask.submit uses the pool that runs it"
)


class _Lock:
    """Two first users at once start one pool. There is one for each process: a thread may hold it during a fork."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self.held = threading.RLock()  # a signal handler may come here in the middle of itself
        self.beginning: object = None


_lock = _Lock()
os.register_at_fork(after_in_child=_lock.renew)


class _Pool:
    """Stands for the pool: whoever asks for it is the first user. Once there is one, its attribute goes before this."""

    def __get__(self, tasks: Any, _owner: object) -> Any:
        if tasks is None:
            return self
        if vars(tasks).get("_is_over"):
            return _Never()
        begin(tasks)
        return vars(tasks)["_pool"]


class _Never:
    """The pool of an executor that was shut down before its first use."""

    def is_foreign(self) -> bool:
        """It is nobody's."""
        return False

    def status(self) -> dict[str, Any]:
        """As `Executor.status`."""
        totals = ("submitted", "succeeded", "failed", "cancelled", "retried", "worker_deaths")
        nothing = {"workers": [], "queued": 0, "running": 0, "totals": dict.fromkeys(totals, 0)}
        return {**nothing, "accepting": False, "broken": None}

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(_native.after_shutdown())


class Waiting(Tasks):
    """What has a `submit`, before its first use.

    It comes after the class of the object, and a user's class, in the order in which methods are looked for, and right
    before the native base: so a ``super().submit()`` finds it as well.
    """

    __slots__ = ()
    _plain: Any
    """The class that the object has afterwards."""
    _pool = _Pool()

    def _bind(self, pool: Any, future: Any, options: Any = None) -> None:
        with contextlib.suppress(RuntimeError):  # it was done before, and then a signal handler has raised
            _native.Submitter._bind(self, pool, future, options)


def _on_first_use(native: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(native)
    def method(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        begin(self)
        return native(self, *args, **kwargs)

    return method


for _name, _method in list(vars(_native.Submitter).items()):
    if not _name.startswith("__") and _name != "_bind":
        setattr(Waiting, _name, _on_first_use(_method))


class Unused(Waiting, Workers):
    """An executor before its first use: what is done to its workers is done without any."""

    __slots__ = ()

    def resize(self, max_workers: int | None) -> None:
        """As `Executor.resize`."""
        workers = checked_workers(max_workers)
        with _lock.held:
            if _is_waiting(self):
                self._max_workers = workers
                return
        Workers.resize(self, workers)

    def restart(self, *, wait: bool = False) -> None:
        """As `Executor.restart`."""
        if not _is_waiting(self):
            Workers.restart(self, wait=wait)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As `Executor.shutdown`."""
        if not _end(self):
            Workers.shutdown(self, wait, cancel_futures=cancel_futures)

    def terminate_workers(self) -> None:
        """As `Executor.terminate_workers`."""
        if not _end(self):
            Workers.terminate_workers(self)

    def kill_workers(self) -> None:
        """As `Executor.kill_workers`."""
        if not _end(self):
            Workers.kill_workers(self)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """As `Executor.__exit__`. It was looked up before the block, in which there may have been a first use."""
        if isinstance(self, Unused):
            self.shutdown(wait=True)
        else:
            Workers.__exit__(self, exc_type, exc, tb)

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """The same for ``async with``."""
        if isinstance(self, Unused):
            self.shutdown(wait=True)
        else:
            await Workers.__aexit__(self, exc_type, exc, tb)


class _Quiet:
    __slots__ = ()

    def __init_subclass__(cls) -> None:
        """Of classes made here a user's ``__init_subclass__`` need not hear."""


@functools.cache
def _waiting(cls: Any, mixin: Any) -> Any:
    own = {"__slots__": (), "__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    return type(cls.__name__, (_Quiet, cls, mixin), {**own, "_plain": cls})


def wait(tasks: Any, mixin: Any) -> None:
    """Have this bind itself to a pool (``_begin()``) when it is first used."""
    cls: Any = type(tasks)
    tasks.__class__ = _waiting(cls, mixin)


def _is_waiting(tasks: Any) -> bool:
    return issubclass(type(tasks), Waiting) and not vars(tasks).get("_is_over")


def _end(executor: Any) -> bool:
    """Whether it was shut down without having been used; now, or before."""
    with _lock.held:
        if not issubclass(type(executor), Waiting):
            return False
        executor._is_over = True
        executor._start.let_go()
        return True


def begin(tasks: Any) -> None:
    """This is being used: see to it that it has a pool.

    Raises:
        RuntimeError: it was shut down, or must not have one here.
    """
    with _lock.held:
        if not issubclass(type(tasks), Waiting):
            return  # another thread was first
        if vars(tasks).get("_is_over"):
            raise RuntimeError(_native.after_shutdown())
        if _lock.beginning is tasks:
            raise RuntimeError("a signal handler cannot use the executor that the code which it interrupts is starting")
        if issubclass(type(tasks), Unused):
            _check_place()
        elif (source := tasks._tasks()) is not None:
            begin(source)  # an executor that has options
        before = _lock.beginning
        try:
            _lock.beginning = tasks
            tasks._begin()
            tasks.__class__ = type(tasks)._plain
        finally:
            _lock.beginning = before  # no call, so that no signal handler comes before it


def _check_place() -> None:
    module = _being_imported(sys._getframe(1))
    if module is not None:
        name, where = module
        raise RuntimeError(
            f"the module {name} uses an Executor while it is imported ({where}), here in a worker, which imports it "
            f"for the functions in it. Each worker would start workers that import it again: {_INSTEAD}"
        )
    if _handshake.depth >= MAX_DEPTH:
        raise RuntimeError(
            f"executors are nested {_handshake.depth} processes deep: does a module, an initializer or a task use an "
            f"Executor whose workers do the same again? If so, {_INSTEAD}"
        )


def _being_imported(frame: FrameType | None) -> tuple[str, str] | None:
    """The innermost module whose import has led to this frame, and where that is."""
    while frame is not None:
        if frame.f_code.co_name == "<module>" and _is_import(frame):
            return str(frame.f_globals.get("__name__")), f"{frame.f_code.co_filename}, line {frame.f_lineno}"
        frame = frame.f_back
    return None


def _is_import(frame: FrameType) -> bool:
    spec: Any = frame.f_globals.get("__spec__")
    if getattr(spec, "_initializing", False):
        return True
    caller = frame.f_back  # for `spec.loader.exec_module(module)`, by hand
    return caller is not None and caller.f_code.co_filename.startswith("<frozen importlib.")
