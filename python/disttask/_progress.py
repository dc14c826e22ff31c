"""Progress bars, by tqdm: optional, and imported with the first bar."""

from __future__ import annotations

import concurrent.futures as cf
import contextlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, Self, TypeVar

    _T = TypeVar("_T")

    Progress = bool | str | dict[str, Any]


class Bar:
    """A bar, or none."""

    def __init__(self, progress: Progress, total: int | None) -> None:
        """`progress`: see `Executor.map`. Raises what is documented there."""
        self._bar: Any = None
        if isinstance(progress, str):
            self._bar = _tqdm()(total=total, desc=progress)
        elif isinstance(progress, dict):
            self._bar = _tqdm()(**{"total": total, **progress})
        elif not isinstance(progress, bool):
            raise TypeError(
                f"progress must be a bool, a description or a dict of arguments for tqdm, not {type(progress).__name__}"
            )
        elif progress:
            self._bar = _tqdm()(total=total)

    def advance(self, count: int = 1) -> None:
        """So many more are done."""
        bar = self._bar  # another thread may be closing it
        if bar is not None:
            bar.update(count)

    def close(self) -> None:
        """Show the last state, and leave it there."""
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.close()


def _tqdm() -> Callable[..., Any]:
    try:
        from tqdm.auto import tqdm
    except ImportError as exc:
        raise ImportError("progress bars need tqdm, which is not installed: pip install tqdm") from exc
    return tqdm


class Shown:
    """The results of `map`, with a bar that advances as they are taken."""

    def __init__(self, start: Callable[[], Any], bar: Bar) -> None:
        self._bar = bar
        try:
            self._results = start()
        except BaseException:
            bar.close()
            raise

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        try:
            value = next(self._results)
        except BaseException:  # the end, too
            self._bar.close()
            raise
        self._bar.advance()
        return value

    def close(self) -> None:
        """Nobody wants the rest: what has not begun is cancelled."""
        self._bar.close()
        self._results.close()

    def __reduce__(self) -> Any:
        raise TypeError("the results of a map cannot be sent to another process: pass list(results)")

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self._bar.close()


def as_completed(
    fs: Iterable[cf.Future[_T]], timeout: float | None = None, *, progress: Progress = False
) -> Iterator[cf.Future[_T]]:
    """The futures as they finish, as `concurrent.futures.as_completed` yields them; with a progress bar, if you like.

    Args:
        fs: futures, of one executor or of several.
        timeout: seconds, from the call, after which `next` raises `TimeoutError`; ``None``: no limit.
        progress: as for `Executor.map`.

    Raises:
        TypeError: `fs` is one future, or holds something else.

    Example::

        futures = [executor.submit(pow, n, 2) for n in range(3)]
        for future in disttask.as_completed(futures, progress="squares"):
            print(future.result())
    """
    futures = _futures("as_completed", fs)
    finished = cf.as_completed(futures, timeout)
    bar = Bar(progress, len(set(futures)))
    return _advancing(finished, bar)


def _advancing(finished: Iterator[cf.Future[_T]], bar: Bar) -> Iterator[cf.Future[_T]]:
    try:
        for future in finished:
            bar.advance()
            yield future
    finally:
        bar.close()


def wait(
    fs: Iterable[cf.Future[_T]], timeout: float | None = None, return_when: str = cf.ALL_COMPLETED
) -> cf._base.DoneAndNotDoneFutures[_T]:
    """Wait until all of these futures have finished, or the first: `concurrent.futures.wait`.

    Args:
        fs: futures, of one executor or of several.
        timeout: seconds; ``None``: no limit.
        return_when: ``"ALL_COMPLETED"``, ``"FIRST_COMPLETED"`` or ``"FIRST_EXCEPTION"``.

    Returns:
        Two sets, ``done`` and ``not_done``. What raised is done; a time that is over raises nothing.

    Raises:
        TypeError: `fs` is one future, or holds something else.
        ValueError: `return_when` is none of these.
    """
    if return_when not in (cf.ALL_COMPLETED, cf.FIRST_COMPLETED, cf.FIRST_EXCEPTION):
        raise ValueError(f"return_when must be ALL_COMPLETED, FIRST_COMPLETED or FIRST_EXCEPTION, not {return_when!r}")
    return cf.wait(_futures("wait", fs), timeout, return_when)


def _futures(where: str, fs: Iterable[cf.Future[Any]]) -> list[cf.Future[Any]]:
    if isinstance(fs, cf.Future):
        raise TypeError(f"{where} takes several futures, {where}([future]); for one there is future.result()")
    futures = list(fs)
    for future in futures:
        if not isinstance(future, cf.Future):
            raise TypeError(
                f"{where} takes the futures that submit returns, not {type(future).__name__}: the values of map and "
                "get_results are not to be waited for, and asyncio has its own asyncio.wait and asyncio.as_completed"
            )
    return futures
