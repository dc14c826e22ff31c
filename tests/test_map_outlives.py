"""Results of `map` that are taken after `shutdown`, as `ProcessPoolExecutor` has them: all was submitted."""

import asyncio
import concurrent.futures as cf
import itertools
import threading
import types

import pytest

import disttask
import tasks
from disttask import _map
from helpers import wait_until

MANY = 200_000

WAYS = [
    {},
    {"chunksize": 1},
    {"chunksize": 7},
    {"chunksize": 10_000},
    {"ordered": False},
    {"ordered": False, "chunksize": 3},
    {"return_exceptions": True},
    {"progress": {"disable": True}},
]


@pytest.fixture(params=WAYS, ids=lambda way: ",".join(f"{key}={value}" for key, value in way.items()) or "default")
def way(request):
    return request.param


class Input:
    """Has a length, and says what was read of it."""

    def __init__(self, values, length=None):
        self.values, self.length, self.read = values, length, 0

    def __len__(self):
        return len(self.values) if self.length is None else self.length

    def __iter__(self):
        for value in self.values:
            self.read += 1
            yield value


def first(value, _length):
    return value


def assert_doubled(results, way, count):
    found = list(results)
    assert (found if way.get("ordered", True) else sorted(found)) == list(range(0, 2 * count, 2))


# --- what can be had ---


@pytest.mark.parametrize("count", [0, 1, 3000])
@pytest.mark.parametrize("kind", [list, range, Input], ids=["list", "range", "iterator"])
def test_all_results_can_be_taken_after_the_with_block(make_executor, way, kind, count):
    items = range(count) if kind is range else kind(range(count))
    with make_executor(2) as executor:
        results = executor.map(tasks.double, items, **way)
    assert_doubled(results, way, count)


def test_a_part_of_them_before(make_executor, way):
    with make_executor(2) as executor:
        results = executor.map(tasks.double, range(3000), **way)
        first = list(itertools.islice(results, 100))
    assert_doubled(itertools.chain(first, results), way, 3000)


def test_several_maps(make_executor, way):
    with make_executor(2) as executor:
        both = [executor.map(tasks.double, range(1000), **way) for _ in range(2)]
    for results in both:
        assert_doubled(results, way, 1000)


def test_relatives_and_options(make_executor):
    pairs, twice = [(n, n) for n in range(1000)], disttask.task(retries=1)(tasks.double)
    with make_executor(2) as executor:
        found = [
            executor.starmap(tasks.add, pairs),
            executor.starmap(tasks.add, pairs, chunksize=5),
            executor.map(tasks.add, range(1000), itertools.count()),
            executor.map(twice, range(1000)),
            executor.options(retries=2, timeout=60).map(tasks.double, range(1000)),
            executor.options(priority=1).map(twice, range(1000)),
            executor.map_unordered(tasks.double, range(1000)),
        ]
    for results in found:
        assert_doubled(results, {"ordered": results is not found[-1]}, 1000)


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("where", ["async with", "thread"])
def test_amap(make_executor, where, ordered):
    async def main():
        executor = make_executor(2)
        if where == "thread":
            results = executor.amap(tasks.double, range(3000), ordered=ordered)
            await asyncio.to_thread(executor.shutdown)
        else:
            async with executor:
                results = executor.amap(tasks.double, range(3000), ordered=ordered)
        return [value async for value in results]

    assert_doubled(asyncio.run(main()), {"ordered": ordered}, 3000)


def test_the_input_of_amap_is_read_on_the_event_loop(make_executor):
    readers = set()

    def numbers():
        for number in range(1000):
            readers.add(threading.get_ident())
            yield number

    async def main():
        async with make_executor(2) as executor:
            results = executor.amap(tasks.add, numbers(), range(1000))
        return [value async for value in results]

    assert asyncio.run(main()) == list(range(0, 2000, 2))
    assert readers == {threading.get_ident()}


def test_shutdown_that_does_not_wait(make_executor, way, tmp_path):
    executor = make_executor(2)
    gate = tmp_path / "gate"
    held = [executor.submit(tasks.wait_for_file, str(gate)) for _ in range(2)]
    results = executor.map(tasks.double, Input(range(3000)), **way)
    executor.shutdown(wait=False)
    assert not any(future.done() for future in held)
    gate.touch()
    assert_doubled(results, way, 3000)


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("chunksize", [None, 1])
def test_as_many_as_there_may_be(make_executor, ordered, chunksize):
    with make_executor(2) as executor:
        results = executor.map(tasks.double, range(MANY), ordered=ordered, chunksize=chunksize)
    assert_doubled(results, {"ordered": ordered}, MANY)


def test_whoever_waits_for_the_next_result_does_not_look_at_all_others(make_executor, monkeypatch, tmp_path):
    """Which would be a million for each."""
    awaited, native = [], _map._native

    def wait_first(futures, count, timeout):
        awaited.append(len(futures))
        return native.Future._wait_first(futures, count, timeout)

    executor = make_executor(1)
    gate = tmp_path / "gate"
    executor.submit(tasks.wait_for_file, str(gate))
    results = executor.map(tasks.double, range(3000))
    executor.shutdown(wait=False)
    monkeypatch.setattr(_map, "_native", types.SimpleNamespace(Future=types.SimpleNamespace(_wait_first=wait_first)))
    threading.Timer(0.2, gate.touch).start()
    assert_doubled(results, {}, 3000)
    assert set(awaited) == {1}


def test_what_has_read_all_of_its_input_is_not_kept(executor):
    live = executor._live_maps
    short, long = executor.map(tasks.double, [1, 2]), executor.map(tasks.double, range(100_000))
    assert [reference() for reference in live.valuerefs()] == [long.mapping]
    assert len(list(long)) == 100_000
    assert not live
    flow = executor.options(retries=1).map(tasks.double, range(100_000))
    assert len(live) == 1
    flow.close()
    assert not live
    assert list(short) == [2, 4]


# --- errors, in their places ---


def test_an_input_that_raises(make_executor, way):
    def numbers():
        yield from range(3000)
        raise LookupError("no more")

    found = []
    with make_executor(2) as executor:
        results = executor.map(first, numbers(), range(10**9), **way)
    with pytest.raises(LookupError, match="no more"):
        found.extend(results)
    assert sorted(found) == list(range(3000))


@pytest.mark.parametrize("chunksize", [None, 1, 3])
def test_a_call_that_raises(make_executor, chunksize):
    with make_executor(2) as executor:
        arguments = range(3000), itertools.repeat(2500)
        results = executor.map(tasks.inverse_of_distance, *arguments, chunksize=chunksize)
        kept = executor.map(tasks.inverse_of_distance, *arguments, chunksize=chunksize, return_exceptions=True)
    found = []
    with pytest.raises(ZeroDivisionError):
        found.extend(results)
    assert found == [1 / (n - 2500) for n in range(2500)]
    kept = list(kept)
    assert isinstance(kept.pop(2500), ZeroDivisionError)
    assert kept == [1 / (n - 2500) for n in range(3000) if n != 2500]


@pytest.mark.parametrize("where", [1, 2500])
@pytest.mark.parametrize("chunksize", [None, 1, 3])
def test_an_item_that_cannot_be_pickled(make_executor, chunksize, where):
    items = [*range(where), threading.Lock(), *range(where, 3000)]
    with make_executor(2) as executor:
        results = executor.map(tasks.same, items, chunksize=chunksize)
        kept = executor.map(tasks.same, items, chunksize=chunksize, return_exceptions=True)
    found = []
    with pytest.raises(disttask.SerializationError):
        found.extend(results)
    assert found == list(range(where))
    kept = list(kept)
    assert isinstance(kept.pop(where), disttask.SerializationError)
    assert kept == list(range(3000))


@pytest.mark.parametrize("chunksize", [None, 1])
def test_an_item_that_kills_its_worker(make_executor, chunksize, tmp_path):
    """All others have their results: nothing can be sent again after the shutdown."""
    gate = tmp_path / "gate"
    executor = make_executor(1)
    executor.submit(tasks.wait_for_file, str(gate))
    results = executor.map(tasks.exit_at, range(3000), itertools.repeat(2500), chunksize=chunksize)
    executor.shutdown(wait=False)
    gate.touch()
    found = []
    with pytest.raises(disttask.WorkerCrashed) as crash:
        found.extend(results)
    assert (found, crash.value.exit_status) == (list(range(2500)), 9)


@pytest.mark.parametrize("where", [4, 2500])
def test_a_chunk_with_an_item_that_kills_its_worker(make_executor, where, tmp_path):
    """It cannot be sent again, and what it had no results of has the error, in its place."""
    gate = tmp_path / "gate"
    executor = make_executor(1)
    executor.submit(tasks.wait_for_file, str(gate))
    results = executor.map(
        tasks.exit_at, range(3000), itertools.repeat(where), chunksize=3, ordered=True, return_exceptions=True
    )
    executor.shutdown(wait=False)
    gate.touch()
    found = list(results)
    first = where // 3 * 3
    assert all(isinstance(value, disttask.WorkerCrashed) for value in found[first : first + 3])
    found[first : first + 3] = range(first, first + 3)
    assert found == list(range(3000))


def test_an_input_that_is_another_map(make_executor):
    with make_executor(2) as executor:
        doubled = executor.map(tasks.double, range(3000))
        results = executor.map(tasks.add, doubled, range(3000))
    assert list(results) == [3 * n for n in range(3000)]


@pytest.mark.parametrize("chunksize", [None, 1])
def test_an_error_that_another_map_passes_on(make_executor, chunksize):
    """Is the input's own, though it speaks of an item that cannot be pickled."""
    with make_executor(2) as executor:
        items = executor.map(tasks.same, [0, 1, threading.Lock(), 2])
        results = executor.map(first, items, range(10**9), chunksize=chunksize)
    found = []
    with pytest.raises(disttask.SerializationError):
        found.extend(results)
    assert found == [0, 1]


# --- what cannot ---


@pytest.mark.parametrize("chunksize", [None, 1])
def test_an_input_that_may_be_endless_says_what_to_do(make_executor, chunksize):
    with make_executor(2) as executor:
        results = executor.map(tasks.double, itertools.count(), chunksize=chunksize)
    found = []
    with pytest.raises(RuntimeError, match=r"after shutdown.*take its results before, inside the with block"):
        found.extend(results)
    assert found
    assert found == list(range(0, 2 * len(found), 2)), "what was submitted has come"


def test_an_input_without_a_length_that_has_ended_is_had(make_executor):
    with make_executor(2) as executor:
        results = executor.map(tasks.double, iter(range(3)))
    assert list(results) == [0, 2, 4]


def test_a_bound_is_not_passed(make_executor):
    source = Input(range(100))
    with make_executor(2) as executor:
        results = executor.map(tasks.double, source, buffersize=5)
    assert source.read <= 5
    with pytest.raises(RuntimeError, match="no buffersize"):
        list(results)


def test_what_was_cancelled_says_so(make_executor, way, tmp_path):
    """Whether it was submitted or not."""
    gate = tmp_path / "gate"
    executor = make_executor(1)
    executor.submit(tasks.wait_for_file, str(gate))
    source = Input(range(3000))
    results = executor.map(tasks.double, source, **way)
    read = source.read
    executor.shutdown(wait=False, cancel_futures=True)
    assert source.read == read
    gate.touch()
    if way.get("return_exceptions"):
        found = list(results)
        assert len(found) == 3000
        assert all(isinstance(value, cf.CancelledError) for value in found[20:])
    else:
        with pytest.raises(cf.CancelledError):
            list(results)


def test_what_was_not_submitted_and_then_cancelled_says_so(make_executor, way):
    executor = make_executor(2)
    results = executor.map(tasks.double, range(10**9), **way)
    first = next(results)
    wait_until(lambda: executor.status()["queued"] + executor.status()["running"] == 0, 10, "all done")
    executor.shutdown(cancel_futures=True)
    if way.get("return_exceptions"):
        assert any(isinstance(value, cf.CancelledError) for value in itertools.islice(results, 1_000_000))
    else:
        found = [first]
        with pytest.raises(cf.CancelledError):
            found.extend(results)
        assert len(found) > 1, "what was done has come"


def test_nothing_is_read_for_workers_that_were_killed(make_executor):
    source = Input(range(10_000))
    with make_executor(1) as executor:
        results = executor.map(tasks.double, source)
        executor.kill_workers()
        read = source.read
    assert source.read == read
    results.close()
