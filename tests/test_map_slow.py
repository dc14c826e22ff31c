"""Inputs of `map` that take their time: results that are there are handed out before more is read."""

import asyncio
import itertools
import threading
import time

import pytest

import tasks

WAYS = [
    {},
    {"chunksize": 1},
    {"chunksize": 4},
    {"ordered": False},
    {"buffersize": 64},
    {"return_exceptions": True},
]

ROWS = 80
ROW_SECONDS = 0.01
HELD_UP = 8  # of them, at most: a busy machine may hold up the one that takes the results, while it is read on


def rows(read):
    for number in range(ROWS):
        time.sleep(ROW_SECONDS)
        read.append(number)
        yield number


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_it_is_not_read_far_ahead(executor, way):
    """Neither where its function is known to be quick, so that much of it would make a chunk."""
    list(executor.map(tasks.same, range(20_000)))
    read = []
    ahead = [len(read) - count for count, _ in enumerate(executor.map(tasks.same, rows(read), **way), 1)]
    assert len(ahead) == ROWS
    assert sorted(ahead)[-1 - HELD_UP] <= 3 * 2 * way.get("chunksize", 1), (
        "more than each worker has one running, waiting and on its way"
    )


def test_nor_for_an_event_loop(executor):
    async def main():
        read, ahead = [], []
        async for _ in executor.amap(tasks.same, rows(read)):
            ahead.append(len(read) - len(ahead) - 1)
        return ahead

    ahead = asyncio.run(main())
    assert len(ahead) == ROWS
    assert sorted(ahead)[-1 - HELD_UP] <= 6


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_what_came_quickly_does_not_wait_for_what_does_not(make_executor, way):
    executor = make_executor(1)  # so that calls end in their order
    received = threading.Event()

    def items():
        yield from range(100)
        assert received.wait(20), "no result was handed out"
        yield from range(100)

    taken = 0
    for value in executor.map(tasks.same, items(), **way):
        assert 0 <= value < 100
        taken += 1
        received.set()
    assert taken == 200


def test_map_returns_after_its_first_items(executor):
    read = []

    def items():
        for number in range(4):
            read.append(number)
            yield number
            time.sleep(0.2)

    results = executor.map(tasks.same, items())
    assert read in ([0], [0, 1])
    assert list(results) == [0, 1, 2, 3]


def test_little_is_read_of_what_nobody_may_want(executor):
    """However quick its function was the last time."""
    found = []
    for _ in range(5):  # on a busy machine the first result may be long in coming, and it reads on
        list(executor.map(abs, range(300_000)))
        read = itertools.count()
        results = executor.map(abs, (number for number in itertools.count() if next(read) >= 0))
        assert next(results) == 0
        found.append(next(read))
        results.close()
    assert min(found) < 1000


def test_workers_have_work_while_it_is_read(make_executor, tmp_path):
    """Long calls run beside each other, though a result takes longer than a row."""
    executor = make_executor(2)

    def items():
        for number in range(4):
            time.sleep(0.02)
            yield number

    # Each waits for the other of its pair.
    results = executor.map(tasks.meet, itertools.repeat(str(tmp_path)), items())
    assert list(results) == [0, 1, 2, 3]
