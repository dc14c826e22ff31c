"""What type checkers make of disttask; `test_types.py` runs one over this. An ignored error has to be one."""

from collections.abc import Iterator
from concurrent import futures as cf
from typing import Any, assert_type

import disttask


def text(number: int) -> str:
    return str(number)


@disttask.task
def plain(number: int) -> bytes:
    return b"x" * number


@disttask.task(retries=2)
def patient(number: int) -> float:
    return number / 2


def scripts(executor: disttask.Executor) -> None:
    future = executor.submit(text, 1)
    assert_type(future, disttask.Future[str])
    assert_type(future.result(), str)
    assert_type(executor.submit(len, future), disttask.Future[int])  # a future stands for its value
    assert_type(executor.options(retries=1).submit(text, 1), disttask.Future[str])
    assert_type(executor.submit(patient, 1), disttask.Future[float])
    assert_type(disttask.submit(text, 1), disttask.Future[str])
    assert_type(disttask.options(name="x").submit(text, 1), disttask.Future[str])
    assert_type(disttask.submit(disttask.serialize_task(text, 1)), disttask.Future[Any])
    assert_type(plain(1), bytes)
    plain("1")  # type: ignore[arg-type]
    executor.sumbit(text, 1)  # type: ignore[attr-defined]
    executor.options(retires=1)  # type: ignore[call-arg]
    for one in disttask.as_completed([future]):
        assert_type(one.result(), str)
    assert_type(disttask.wait([future]).done, set[cf.Future[str]])


def maps(executor: disttask.Executor) -> None:
    assert_type(executor.map(text, [1], [2], chunksize=5), Iterator[str])
    assert_type(executor.map(plain, [1]), Iterator[bytes])
    assert_type(executor.map(text, [1], return_exceptions=True), Iterator[str | BaseException])
    assert_type(executor.starmap(text, [(1,)], progress=True), Iterator[str])
    assert_type(executor.map_unordered(text, [1], timeout=3), Iterator[str])
    executor.map_unordered(text, [1], ordered=True)  # type: ignore[call-overload]
    executor.map(text, [1], chunk=3)  # type: ignore[call-overload]


async def loops(executor: disttask.Executor) -> None:
    assert_type(await executor.submit(text, 1), str)
    async for value in executor.amap(text, [1]):
        assert_type(value, str)


def others(executor: cf.Executor, future: cf.Future[str]) -> None:
    """What takes any executor takes this one."""


def drop_in(executor: disttask.Executor) -> None:
    others(executor, executor.submit(text, 1))
