"""What a task is given besides its arguments: the values of other tasks, and objects that were put into the pool.

While a call is pickled, each future and each `Ref` in it, wherever it stands, becomes a placeholder that names an
*input* by key, and the call notes what it needs. The bytes go from worker to worker, and this process does not look at
them.
"""

from __future__ import annotations

from _thread import _local as ThreadLocal  # noqa: N812 - `threading.local`, without what `threading` imports

from . import _native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from typing import Any, Self

    from ._future import Future
    from ._random_state import Found

_CONSTANT = (int, float, complex, bool, str, bytes, type(None), type(Ellipsis), type(NotImplemented), range)
"""Types whose objects no task can change, all the way down."""

_CONSTANT_DEPTH = 20
"""Tuples in tuples: deeper than this nobody looks."""


ELSEWHERE = "a Future is pickled as an argument of submit only: elsewhere pass future.result() instead"

NOT_AMONG_ITEMS = "map takes no futures among its items: use submit for calls that need other tasks' values"

_REF_ELSEWHERE = "a Ref is for the tasks of its Executor: pass it to submit, or to map among the arguments"


class _Local(ThreadLocal):
    met = False
    """A future or a `Ref` was met, and no call was being pickled."""


_local = _Local()


class Alone:
    """Within ``with Alone().noted()``, what is pickled is for no call, and it is noted what functions bring along."""

    futures = False
    """Whether they may be there."""

    def __init__(self) -> None:
        self.generators: list[Found] = []
        """Of random numbers, whose state would travel."""
        self.met = 0
        """How often there was a future."""
        self.inside = 0
        """More than 0: what is pickled now is part of a function that travels by value."""

    def noted(self) -> AbstractContextManager[Self]:
        """What this thread pickles in the block is for this; a task submitted meanwhile has its own."""
        return _native.Pickling(self)

    def reduce_future(self, _future: Future[Any], /) -> Any:
        """A future in what is being pickled."""
        raise TypeError(ELSEWHERE)

    def reduce_ref(self, _ref: Ref, /) -> Any:
        """A `Ref` in what is being pickled."""
        raise TypeError(_REF_ELSEWHERE)


class Collecting(Alone):
    """Within ``with Collecting(...).noted()``, futures and refs of one pool are pickled as placeholders, and noted.

    Args:
        pool_id: the pool that the call is for.
        futures: whether they may be there; a `Ref` always may.
    """

    def __init__(self, pool_id: int, *, futures: bool = True) -> None:
        super().__init__()
        self.found: list[_native.Input] = []
        self.failed: BaseException | None = None
        """What a task has failed with whose value is needed, and is known here only."""
        self._keys: set[int] = set()
        self._pool_id = pool_id
        self.futures = futures

    def _add(self, given: _native.Input) -> Any:
        if given.key not in self._keys:  # what was begun to be pickled may be begun anew
            self._keys.add(given.key)
            self.found.append(given)
        return value, (given.key,)

    def reduce_future(self, future: Future[Any], /) -> Any:
        """A future in a call that is being pickled."""
        if not self.futures:
            raise TypeError(NOT_AMONG_ITEMS)
        self.met += 1
        if self.inside:
            raise TypeError("the task would not wait for a future that its function uses")
        if future._pool_id not in (self._pool_id, 0):
            raise TypeError("it is a Future of another Executor")
        given = future._input()
        if given is not None:
            return self._add(given)
        # Nobody but its owner has the value any more, so it goes as an argument would.
        result, exc = future._take()
        if exc is not None:
            self.failed = exc
            raise TypeError("a task that is needed has failed")
        return _itself, (result,)

    def reduce_ref(self, ref: Ref, /) -> Any:
        """A `Ref` in a call that is being pickled."""
        if ref._input.pool_id != self._pool_id:
            raise TypeError("the Ref is another Executor's: put the object into this one, too")
        return self._add(ref._input)


def tell_of_generators(call: Alone, pool_id: int | None = None) -> None:
    """Warn of those that were noted, once for a function and a pool. ``None``: whoever calls sees to that."""
    if call.generators:
        from ._random_state import tell

        tell(call.generators, pool_id)


def collecting() -> Alone | None:
    """What the call that this thread is pickling needs; ``None``: it is pickling none."""
    call: Alone | None = _native.Pickling.call()
    if call is None:
        _local.met = True
    return call


def apart() -> AbstractContextManager[None]:
    """What this thread pickles in the block is for no call, whatever it was pickling for."""
    return _native.Pickling(None)


def take_met() -> bool:
    """Whether this thread has failed to pickle a future or a `Ref` since it was last asked."""
    met = _local.met
    _local.met = False
    return met


class Ref:
    """An object that `Executor.put` has put into the executor. A task that is given it gets the object.

    It is freed when the last `Ref` is gone and no task needs it.
    """

    __slots__ = ("__weakref__", "_input")

    def __init__(self, given: _native.Input) -> None:
        self._input = given

    @property
    def nbytes(self) -> int:
        """The size of its pickle, buffers included."""
        return self._input.nbytes or 0

    def __reduce__(self) -> Any:
        call = collecting()
        if call is None:
            raise TypeError(_REF_ELSEWHERE)
        return call.reduce_ref(self)

    def __repr__(self) -> str:
        return f"<disttask.Ref {self.nbytes} bytes>"


def is_constant(obj: object, depth: int = _CONSTANT_DEPTH) -> bool:
    """Whether no task can change the object, so that a worker may give the same one to several."""
    kind = type(obj)
    if kind is tuple or kind is frozenset:
        return depth > 0 and all(is_constant(item, depth - 1) for item in obj)  # type: ignore[attr-defined]
    return kind in _CONSTANT


# --- in a worker ------------------------------------------------------------------------------------------------------

load: Callable[[int], Any] | None = None
"""How the worker loads an input."""


def value(key: int) -> Any:
    """What a placeholder stands for."""
    if load is None:
        raise LookupError("a placeholder of disttask was unpickled outside of a worker")
    return load(key)


def _itself(obj: Any) -> Any:
    return obj
