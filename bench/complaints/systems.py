"""A pool behind one set of verbs; the systems are in `peers`.

Where a system has no means of its own for a verb, that raises `Missing`, which is what the table says.
"""

import abc
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

PATIENCE = 8.0
"""Seconds after which an answer that has not come counts as a hang; every task that is waited for takes under one."""


class Missing(Exception):
    """The system has no such thing."""


class Skip(Exception):
    """It cannot be tried here; the text says why."""


class Hang(Exception):
    """An answer has not come."""


class Wrong(Exception):
    """An answer came, and is wrong; the text says how."""


@dataclass
class Wishes:
    """What a case asks of a pool that it has made."""

    workers: int = 2
    by_value: bool = False
    """Functions of the script, with what they refer to."""
    initializer: Callable[[], object] | None = None
    recycle_after: int | None = None
    """Tasks."""
    nesting: bool = False
    """Tasks make pools."""
    context: tuple[ContextVar[Any], ...] = ()
    """Context variables that tasks see."""
    shared: Any = None
    """A large object that `arguments` gives to tasks."""


class System(abc.ABC):
    """A pool with the interface of `concurrent.futures`, which most have."""

    module = ""
    """What to import."""
    native: Any
    """The system's own object."""

    def __init__(self, workers: int = 2, **options: Any) -> None:
        self.wishes = Wishes(workers, **options)
        if self.wishes.context:
            self.check_context()
        self.native = self.make(self.wishes)

    @abc.abstractmethod
    def make(self, wishes: Wishes) -> Any:
        """Start it."""

    @staticmethod
    @abc.abstractmethod
    def default_workers() -> int:
        """How many workers it takes where nobody says it."""

    def check_context(self) -> None:
        """Whether it can hand context variables on."""
        raise Missing

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        """Start a task; returns what `result` takes."""
        return self.native.submit(function, *args)

    def result(self, handle: Any, within: float = PATIENCE) -> Any:
        """The task's result or exception. An own `TimeoutError` of the task is told from one of waiting."""
        try:
            return handle.result(timeout=within)
        except TimeoutError:
            if handle.done():
                raise
            raise Hang from None

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Submit and wait."""
        return self.result(self.submit(function, *args))

    def submit_limited(self, seconds: float, function: Callable[..., Any], *args: Any) -> Any:
        """Start a task that may take so long."""
        raise Missing

    def submit_first(self, function: Callable[..., Any], *args: Any) -> Any:
        """Start a task that goes before those that wait already."""
        raise Missing

    def submit_retried(self, retries: int, kind: type[Exception], function: Callable[..., Any], *args: Any) -> Any:
        """Start a task that is tried again after its worker's death, or an exception of this class."""
        raise Missing

    def stop(self, handle: Any) -> None:
        """End a task that runs: by whatever the system documents for that."""
        raise Missing

    def cancel(self, handle: Any) -> bool:
        """Cancel a task that waits; whether it says that it is cancelled."""
        return bool(handle.cancel())

    def output(self, handle: Any) -> str:
        """What this task has printed."""
        raise Missing

    def map(self, function: Callable[..., Any], items: Iterable[Any]) -> Iterator[Any]:
        """Results in order, with each item a task of its own; lazy where the system offers that."""
        return iter(self.native.map(function, items))

    def map_with_bar(self, function: Callable[..., Any], items: Iterable[Any]) -> Iterator[Any]:
        """The same with a progress bar."""
        raise Missing

    def arguments(self) -> tuple[Any, ...]:
        """What to submit for the object that tasks share."""
        return (self.wishes.shared,)

    def nested(self, depth: int) -> int:
        """A task submits a task to this pool and waits for it, and so on, so deep."""
        raise Missing

    def close(self) -> None:
        """End it in good order."""
        self.native.shutdown()
