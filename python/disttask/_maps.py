"""`map` and its relatives, as methods of whatever has a `submit`."""

from __future__ import annotations

from ._checks import to_iterate
from ._functions import bringing_options
from ._map import adaptive_map, known_lengths
from ._typed import overload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, Literal, TypedDict, TypeVar, Unpack

    from ._async import AsyncResults
    from ._context import Context
    from ._flow import Plan
    from ._options import Options
    from ._progress import Progress
    from ._rest import LiveMaps

    _T = TypeVar("_T")

    class AnyOrder(TypedDict, total=False):
        """What `Maps.map_unordered` takes; `Maps.map` says what it means."""

        timeout: float | None
        chunksize: int | None
        buffersize: int | None
        progress: Progress

    class MapOptions(AnyOrder, total=False):
        """What the others take."""

        ordered: bool


class Maps:
    """`map`, `starmap`, `map_unordered`, `amap`."""

    _max_workers: int
    _map_times: dict[str, float]
    """What an item of `map` took, in nanoseconds, by function."""
    _live_maps: LiveMaps
    _is_bounded = False
    """Whether there is a limit on tasks that are unfinished."""
    _one_by_one = False
    """Whether each item of `map` is a task of its own, unless there is a `chunksize`."""
    _calls_apart = False
    """Whether it must be, because an option speaks of one call."""
    _guards: Options | None = None
    _context: Context | None = None
    """Context variables that go along with a task."""

    def _dressed(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """The function with what is to be around its call in the worker. One that brings options along comes again."""
        if not callable(fn) or bringing_options(fn) is not None:
            return fn
        if self._context is not None:
            fn = self._context.around(fn)
        return fn if self._guards is None else self._guards.guarded(fn)

    @overload
    def map(
        self,
        fn: Callable[..., _T],
        /,
        *iterables: Iterable[Any],
        return_exceptions: Literal[False] = ...,
        **options: Unpack[MapOptions],
    ) -> Iterator[_T]: ...
    @overload
    def map(  # noqa: F811
        self,
        fn: Callable[..., _T],
        /,
        *iterables: Iterable[Any],
        return_exceptions: bool,
        **options: Unpack[MapOptions],
    ) -> Iterator[_T | BaseException]: ...
    def map(  # noqa: F811
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        ordered: bool = True,
        return_exceptions: bool = False,
        progress: Progress = False,
    ) -> Iterator[Any]:
        """Like ``map(fn, *iterables)``, with the calls on the workers; results come in order.

        The input is read as it is needed, some milliseconds of work ahead of what runs, so it may be endless. A call
        that fails raises when its result is reached, and ends the iteration. An iteration that ends early (by an
        exception, by ``close()``, or because nobody holds the iterator any more) cancels what has not begun.

        Where an input has a length, and there is no `buffersize`, `shutdown` submits the rest, and results can be
        taken afterwards; so does the end of the program. Likewise all calls are made where nobody has asked for a
        result when the iterator goes. Otherwise the rest is lost then: a ``RuntimeError`` in its place, or a
        `RuntimeWarning`.

        Args:
            fn: the callable. It is pickled once.
            *iterables: its arguments; the shortest ends the input.
            timeout: seconds, from the call of `map`, that `next` may wait until; then it raises `TimeoutError`.
            chunksize: how many calls make one task; ``None`` measures, and makes chunks of about a millisecond. When a
                worker dies, calls of the same chunk that were done but not yet sent back (a millisecond of work) are
                made again; ``chunksize=1`` is the strict promise of `submit`. Where options are about one call
                (``retries``, ``retry_on``, ``crash_limit``, ``timeout``, ``soft_timeout``, ``max_memory``), each call
                is a task whatever this says.
            buffersize: how many calls may be submitted whose results were not yielded yet: a full buffer pauses the
                reading of the input. With a `chunksize`, so many chunks. ``None``: enough to keep the workers busy.
            ordered: ``False`` yields results as they come.
            return_exceptions: yield the exception of a call that fails in place of its result, and go on.
            progress: show a bar (by tqdm, in a terminal or a notebook) that counts what was yielded. A string is its
                description, a dict holds arguments for tqdm.

        Raises:
            ValueError: `chunksize` or `buffersize` is less than 1.
            TypeError: `fn` is not callable, or an ``async def`` function, or an argument is of a wrong type.
            ImportError: `progress` is asked for, and there is no tqdm.

        Example::

            with disttask.Executor() as executor:
                assert list(executor.map(pow, [1, 2, 3], [2, 2, 2])) == [1, 4, 9]
        """
        maps, fn = _with_options(self, fn)
        to_iterate("map", fn, iterables)
        plan = _plan(maps, timeout, chunksize, buffersize, ordered, return_exceptions)
        return _run(maps, fn, iterables, plan, progress, starred=False)

    @overload
    def starmap(
        self,
        fn: Callable[..., _T],
        iterable: Iterable[Iterable[Any]],
        /,
        *,
        return_exceptions: Literal[False] = ...,
        **options: Unpack[MapOptions],
    ) -> Iterator[_T]: ...
    @overload
    def starmap(  # noqa: F811
        self,
        fn: Callable[..., _T],
        iterable: Iterable[Iterable[Any]],
        /,
        *,
        return_exceptions: bool,
        **options: Unpack[MapOptions],
    ) -> Iterator[_T | BaseException]: ...
    def starmap(  # noqa: F811
        self,
        fn: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        /,
        *,
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        ordered: bool = True,
        return_exceptions: bool = False,
        progress: Progress = False,
    ) -> Iterator[Any]:
        """Like `map`, with each item holding all arguments of a call, as for `itertools.starmap`.

        Args:
            fn: the callable.
            iterable: the arguments of each call.
            timeout: this and the rest as for `map`.
            chunksize: see `map`.
            buffersize: see `map`.
            ordered: see `map`.
            return_exceptions: see `map`.
            progress: see `map`.

        Example::

            with disttask.Executor() as executor:
                assert list(executor.starmap(pow, [(2, 3), (3, 2)])) == [8, 9]
        """
        maps, fn = _with_options(self, fn)
        to_iterate("starmap", fn, (iterable,))
        plan = _plan(maps, timeout, chunksize, buffersize, ordered, return_exceptions)
        return _run(maps, fn, (iterable,), plan, progress, starred=True)

    @overload
    def map_unordered(
        self,
        fn: Callable[..., _T],
        /,
        *iterables: Iterable[Any],
        return_exceptions: Literal[False] = ...,
        **options: Unpack[AnyOrder],
    ) -> Iterator[_T]: ...
    @overload
    def map_unordered(  # noqa: F811
        self, fn: Callable[..., _T], /, *iterables: Iterable[Any], return_exceptions: bool, **options: Unpack[AnyOrder]
    ) -> Iterator[_T | BaseException]: ...
    def map_unordered(  # noqa: F811
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        return_exceptions: bool = False,
        progress: Progress = False,
    ) -> Iterator[Any]:
        """Like `map`, with results as they come: ``map(..., ordered=False)``.

        Args:
            fn: the callable.
            *iterables: its arguments; the shortest ends the input.
            timeout: this and the rest as for `map`.
            chunksize: see `map`.
            buffersize: see `map`.
            return_exceptions: see `map`.
            progress: see `map`.

        Example::

            with disttask.Executor() as executor:
                assert set(executor.map_unordered(abs, [-1, -2])) == {1, 2}
        """
        maps, fn = _with_options(self, fn)
        to_iterate("map_unordered", fn, iterables)
        plan = _plan(maps, timeout, chunksize, buffersize, False, return_exceptions)
        return _run(maps, fn, iterables, plan, progress, starred=False)

    @overload
    def amap(
        self,
        fn: Callable[..., _T],
        /,
        *iterables: Iterable[Any],
        return_exceptions: Literal[False] = ...,
        **options: Unpack[MapOptions],
    ) -> AsyncResults[_T]: ...
    @overload
    def amap(  # noqa: F811
        self,
        fn: Callable[..., _T],
        /,
        *iterables: Iterable[Any],
        return_exceptions: bool,
        **options: Unpack[MapOptions],
    ) -> AsyncResults[_T | BaseException]: ...
    def amap(  # noqa: F811
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        ordered: bool = True,
        return_exceptions: bool = False,
        progress: Progress = False,
    ) -> AsyncResults[Any]:
        """Like `map`, for ``async for``: while it waits, the event loop goes on.

        When the task that iterates is cancelled while it waits, or the iterator is closed (``await results.aclose()``)
        or dropped, what has not begun is cancelled. The input is an ordinary iterable, and read on the event loop.

        Args:
            fn: the callable.
            *iterables: its arguments; the shortest ends the input.
            timeout: this and the rest as for `map`.
            chunksize: see `map`.
            buffersize: see `map`.
            ordered: see `map`.
            return_exceptions: see `map`.
            progress: see `map`.

        Example::

            async def main():
                with disttask.Executor() as executor:
                    async for value in executor.amap(abs, [-1, -2]):
                        print(value)
        """
        from ._async import start

        maps, fn = _with_options(self, fn)
        to_iterate("amap", fn, iterables)
        plan = _plan(maps, timeout, chunksize, buffersize, ordered, return_exceptions)
        return start(maps, fn, iterables, plan, progress)


for _name in ("map", "starmap", "map_unordered", "amap"):  # what Python calls them where an argument is missing
    getattr(Maps, _name).__qualname__ = f"Executor.{_name}"


def _with_options(maps: Any, fn: Any) -> tuple[Any, Callable[..., Any]]:
    """What submits this function, and what is submitted: a `disttask.task` may bring options along."""
    if (bringing := bringing_options(fn)) is not None:
        maps, fn = maps._with(bringing[0]), bringing[1]
    return maps, maps._dressed(fn)


def _plan(maps: Maps, timeout: float | None, chunksize: int | None, *rest: Any) -> Plan:
    from ._flow import Plan

    plan = Plan(timeout, chunksize, *rest)
    if maps._calls_apart and plan.chunksize is not None:
        if plan.buffersize is not None:
            plan.buffersize *= plan.chunksize  # it counts chunks
        plan.chunksize = 1
    if maps._one_by_one and plan.chunksize is None:
        plan.chunksize = 1
    return plan


def _run(
    maps: Any, fn: Callable[..., Any], iterables: tuple[Any, ...], plan: Plan, progress: Progress, *, starred: bool
) -> Iterator[Any]:
    if not iterables:
        return iter(())  # as the built-in `map` would not have it, but `concurrent.futures` does

    def run() -> Any:
        if plan.is_default():
            return adaptive_map(maps, maps._max_workers, fn, iterables, plan.end, starred)
        from ._flow import start

        return start(maps, maps._max_workers, fn, iterables, plan, starred)

    if progress is False:
        return run()  # type: ignore[no-any-return]
    from ._progress import Bar, Shown

    return Shown(run, Bar(progress, total_of(iterables)))


def total_of(iterables: tuple[Any, ...]) -> int | None:
    """How many calls these make, where that is known."""
    lengths = known_lengths(iterables)
    return min(lengths) if len(lengths) == len(iterables) else None
