"""`Executor(...)` in the middle of an expression: what is used keeps it, and when that is gone its workers go."""

import asyncio
import gc

import pytest

import disttask
import tasks
from helpers import children, wait_until

double = disttask.task(retries=1, name="double")(tasks.double)


@pytest.fixture(autouse=True)
def workers_go():
    before = children()
    yield
    gc.collect()
    wait_until(lambda: children() <= before, 10, "workers gone")


def views():
    return {
        "itself": lambda: disttask.Executor(2),
        "options": lambda: disttask.Executor(2).options(priority=1).options(retries=1),
    }


@pytest.fixture(params=views().keys())
def make(request):
    return views()[request.param]


@pytest.mark.parametrize("function", [tasks.double, double], ids=["plain", "task"])
@pytest.mark.parametrize(
    "how", [{}, {"chunksize": 100}, {"buffersize": 500}, {"return_exceptions": True}, {"progress": True}], ids=repr
)
def test_map(make, function, how):
    values = list(make().map(function, iter(range(300)), **how))  # not in the assert, which keeps what it looks at
    assert values == list(range(0, 600, 2))


@pytest.mark.parametrize("function", [tasks.double, double], ids=["plain", "task"])
def test_relatives_of_map(make, function):
    async def main():
        return [value async for value in make().amap(function, iter(range(300)))]

    values = list(make().starmap(function, ([n] for n in range(300))))
    unordered = list(make().map_unordered(function, iter(range(300))))
    assert values == sorted(unordered) == asyncio.run(main()) == list(range(0, 600, 2))


def test_an_iterator_that_is_passed_on(make):
    def values():
        yield from make().map(double, iter(range(300)))

    assert sum(values()) == 89_700


def test_submit(make, tmp_path):
    with_retry = disttask.task(retries=1)(tasks.fail_once)
    values = [
        make().submit(double, 3).result(timeout=10),
        make().submit(tasks.double, 3).result(timeout=10),
        make().submit(lambda: 7).result(timeout=10),
        make().submit(with_retry, str(tmp_path / "once"), "kill").result(timeout=20),
    ]
    assert values == [6, 6, 7, "survived"]


def test_a_map_that_was_closed_holds_nothing(make):
    results = make().map(double, iter(range(300)))
    assert next(results) == 0
    results.close()
    del results
