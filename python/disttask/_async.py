"""`amap`: the results of `map` for ``async for``. What waits is told by the collector thread, as `wrap_future` is."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Generic, TypeVar

from ._flow import Flow
from ._progress import Bar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

    from ._flow import Plan
    from ._future import Future
    from ._progress import Progress

_T = TypeVar("_T")

_LOADED_ASIDE = 64 * 1024
"""Bytes of results that are unpickled on another thread: some 50 us of work, as the way there and back costs."""


class AsyncResults(Generic[_T]):
    """What `Executor.amap` returns: an asynchronous iterator of results."""

    def __init__(self, flow: Flow, bar: Bar) -> None:
        self._flow = flow
        self._bar = bar
        self._values: list[_T] = []
        """In reverse, so that the next is the last."""
        self._handed_out = 0
        self._waiting = False
        self._watched: dict[int, Future[Any]] = {}
        """What was waited for and has not ended, by its number: a task's end is announced to one future only."""
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _T:
        if self._waiting:
            raise RuntimeError("another coroutine already waits for the next result of this amap")
        if not self._values:
            self._waiting = True
            try:
                await self._get_more()
            except BaseException:
                self.close()
                raise
            finally:
                self._waiting = False
        self._bar.advance()
        return self._values.pop()

    async def _get_more(self) -> None:
        flow = self._flow
        flow.handed_out(self._handed_out)
        self._handed_out = 0
        while not self._closed:
            flow.fill_unless_ready()
            if flow.ready_bytes() > _LOADED_ASIDE:
                values = await asyncio.get_running_loop().run_in_executor(None, self._take)
            else:
                values = flow.take()
            if self._closed:
                break
            if values is None:
                if flow.sends_all and not await asyncio.to_thread(flow.is_over):
                    continue
                if flow.failed is not None:
                    raise flow.failed
                raise StopAsyncIteration
            if values:
                self._handed_out = len(values)
                self._values = values[::-1]
                await asyncio.sleep(0)  # results may come so quickly that nothing else would ever run
                return
            if flow.must_wait():
                await self._wait()
        raise StopAsyncIteration  # it was closed, perhaps meanwhile and by another coroutine

    def _take(self) -> list[Any] | None:
        """On another thread. It may be closed meanwhile; what was submitted again after a crash is to end, too."""
        try:
            return self._flow.take()
        finally:
            if self._closed:
                self._flow.end()

    async def _wait(self) -> None:
        """Wait until there may be something to take."""
        awaited: list[Future[Any]] = []
        for calls, count in self._flow.awaited():
            futures = calls._worth_waiting_for(count)
            if futures is None:
                return
            awaited += [self._watched.setdefault(future._seq, future) for future in futures]
        if not awaited:
            return
        waiter = _Waiter()
        try:
            for future in awaited:
                with future._condition:
                    future._waiters.append(waiter)  # type: ignore[arg-type]
                if future._is_resolved():  # perhaps before the waiter was there: nobody will tell it
                    return
            async with asyncio.timeout(self._flow.time_left()):
                await waiter.event.wait()
        finally:
            for future in awaited:
                with contextlib.suppress(ValueError), future._condition:
                    future._waiters.remove(waiter)  # type: ignore[arg-type]
                if future._is_resolved():
                    self._watched.pop(future._seq, None)

    def close(self) -> None:
        """Nobody wants the rest: what has not begun is cancelled."""
        self._closed = True
        self._values = []
        self._bar.close()
        self._flow.end()

    async def aclose(self) -> None:
        """As `close`, under the name that `contextlib.aclosing` knows."""
        self.close()

    def __reduce__(self) -> Any:
        raise TypeError("the results of an amap cannot be sent to another process: pass a list of them")

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()


class _Waiter:
    """Stands in the `_waiters` of a future, as those of `concurrent.futures.wait` do, and wakes a coroutine."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def add_result(self, _future: Future[Any]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(self.event.set)

    add_exception = add_cancelled = add_result


def start(
    maps: Any, fn: Callable[..., Any], iterables: tuple[Any, ...], plan: Plan, progress: Progress
) -> AsyncResults[Any]:
    """See `Executor.amap`. The first calls are submitted before this returns."""
    from ._maps import total_of

    iterables = iterables or ((),)
    bar = Bar(progress, total_of(iterables))
    try:
        flow = Flow(maps, maps._max_workers, fn, iterables, plan, starred=False)
        flow.asked = True  # whoever takes an iterator of this kind has a loop for it
        flow.fill()
        flow.register()
    except BaseException:
        bar.close()
        raise
    return AsyncResults(flow, bar)
