"""`map` without a chunk size: lazy, bounded, in order, fair to every item."""

import itertools
import os
import threading
import warnings
import weakref

import pytest

import disttask
import tasks
from helpers import counted_class, wait_until


def test_an_endless_input_is_read_as_it_is_needed(executor):
    read = 0

    def count():
        nonlocal read
        while True:
            yield read
            read += 1

    doubled = executor.map(tasks.double, count())
    assert [next(doubled) for _ in range(1000)] == [2 * n for n in range(1000)]
    before = read
    assert before < 2_000_000, "bounded"
    assert executor.submit(tasks.add, 1, 2).result(timeout=20) == 3
    assert read == before, "nothing is read while nobody asks"


def test_memory_stays_flat_however_long_the_input(executor):
    """What has been handed out is let go of."""

    Item = counted_class()

    most = 0
    for n, value in enumerate(executor.map(tasks.double, map(Item, range(300_000)))):
        assert value == 2 * n
        if n % 1000 == 0:
            most = max(most, Item.alive)
    assert most < 250_000


@pytest.mark.parametrize(
    "values", [range(1000), [0.5] * 100, ["a", "b"] * 50, [None, 1, "x", 2.5, b"y"], [2**40, -1], [2**70], []]
)
def test_any_values_come_back_as_they_were(executor, values):
    values = list(values)
    for chunksize in (None, 1, 7, 10_000):
        found = list(executor.map(tasks.same, values, chunksize=chunksize))
        assert found == values
        assert list(map(type, found)) == list(map(type, values))


def test_numbers_that_are_not_quite_ints_or_floats(executor):
    values = [True, False, True]
    assert [type(v) for v in executor.map(tasks.same, values, chunksize=3)] == [bool] * 3
    mixed = [1, 2.0, 3]
    assert [type(v) for v in executor.map(tasks.same, mixed, chunksize=3)] == [int, float, int]


@pytest.mark.parametrize("chunksize", [None, 1, 50, 1000])
def test_one_bad_item_costs_nobody_else(executor, chunksize):
    got = []
    with pytest.raises(ZeroDivisionError):
        got.extend(executor.map(tasks.inverse_of_distance, range(1000), itertools.repeat(500), chunksize=chunksize))
    assert got == [1 / (n - 500) for n in range(500)]
    assert executor.submit(tasks.add, 1, 1).result(timeout=10) == 2


@pytest.mark.parametrize("chunksize", [None, 4])
def test_what_the_caller_has_let_go_of_is_gone(executor, chunksize):
    numbers = []
    for thing in executor.map(tasks.make_thing, range(10), chunksize=chunksize):
        numbers.append(thing.data)
        reference = weakref.ref(thing)
        del thing
        assert reference() is None, "the iterator keeps nothing that it has given away"
    assert numbers == list(range(10))


@pytest.mark.parametrize("chunksize", [None, 1, 50])
def test_an_item_that_kills_its_worker_is_named_and_the_others_before_it_come(executor, chunksize):
    got = []
    with pytest.raises(disttask.WorkerCrashed) as crash:
        got.extend(executor.map(tasks.exit_at, range(200), itertools.repeat(123), chunksize=chunksize))
    assert got == list(range(123))
    assert crash.value.exit_status == 9


def test_a_long_item_does_not_hold_up_the_other_worker(executor, tmp_path):
    """One item waits for the last of the others, which all must run meanwhile."""
    gate = tmp_path / "gate"
    results = executor.map(tasks.wait_or_count, [str(gate)] + [""] * 300, [300] * 301, [str(tmp_path / "log")] * 301)
    opener = threading.Thread(
        target=lambda: (wait_until(lambda: len(tasks.lines(tmp_path / "log")) >= 150, 20), gate.touch())
    )
    opener.start()
    assert len(list(results)) == 301
    opener.join()


def test_with_retries_each_item_is_a_task_of_its_own(executor, tmp_path):
    careful = executor.options(retries=3)
    assert (
        list(careful.map(tasks.fail_once, [str(tmp_path / str(n)) for n in range(4)], ["kill"] * 4)) == ["survived"] * 4
    )


def test_a_map_that_is_dropped_cancels_what_it_can(make_executor, tmp_path):
    executor = make_executor(1)
    results = executor.map(tasks.log, itertools.repeat(str(tmp_path / "log")), range(10_000), chunksize=1)
    next(results)
    results = None
    assert executor.submit(tasks.add, 1, 1).result(timeout=20) == 2
    assert len(tasks.lines(tmp_path / "log")) < 100


def test_an_argument_that_cannot_be_pickled_says_so(executor):
    with pytest.raises(disttask.SerializationError, match="cannot be pickled"):
        list(executor.map(tasks.same, [threading.Lock()]))
    with pytest.raises(disttask.SerializationError):
        list(executor.map(tasks.make_lock, range(3)))
    assert os.getpid() not in list(executor.map(tasks.pid_of_worker, range(3)))


def test_items_of_a_chunk_share_nothing(executor):
    for chunksize in (1, 30):
        assert list(executor.map(tasks.push, [[]] * 30, chunksize=chunksize)) == [1] * 30, (
            "an argument is each item's own"
        )
        numbers = [buffer[0] for buffer in executor.map(tasks.reused_buffer, range(30), chunksize=chunksize)]
        assert numbers == list(range(30)), "a result is what it was when the item ended"


def test_an_item_whose_result_exits_while_it_is_pickled(executor):
    got = []
    with pytest.raises(SystemExit):
        got.extend(executor.map(tasks.exits_when_pickled, range(6), chunksize=6))
    assert got == [0, 1, 2]
    assert executor.status()["totals"]["worker_deaths"] == 0


@pytest.mark.parametrize("chunksize", [None, 1, 7])
def test_an_input_that_raises_is_heard_after_what_came_before(executor, chunksize):
    def numbers():
        yield from range(50)
        raise LookupError("no more")

    got = []
    with pytest.raises(LookupError, match="no more"):
        got.extend(executor.map(tasks.double, numbers(), chunksize=chunksize))
    assert got == [2 * n for n in range(50)]


def test_close_cancels_the_rest(make_executor, tmp_path):
    executor = make_executor(1)
    blocker = executor.submit(tasks.wait_for_file, str(tmp_path / "gate"))
    results = executor.map(tasks.log, itertools.repeat(str(tmp_path / "log")), range(1000), chunksize=1)
    results.close()
    (tmp_path / "gate").touch()
    blocker.result(timeout=10)
    assert executor.submit(tasks.add, 1, 1).result(timeout=20) == 2
    assert len(tasks.lines(tmp_path / "log")) <= 1


@pytest.mark.parametrize(
    "arguments", [{}, {"chunksize": 1}, {"ordered": False}, {"progress": {"disable": True}}], ids=str
)
def test_calls_that_nobody_asks_for_are_warned_about(executor, arguments):
    """`ProcessPoolExecutor` makes them all."""
    with pytest.warns(RuntimeWarning, match=r"nobody has taken a result of map\(double, \.\.\.\)") as caught:
        executor.map(tasks.double, range(1000), **arguments)
    assert [warning.filename for warning in caught] == [__file__]


def test_an_input_that_raises_before_anybody_asks_is_warned_about(executor):
    with pytest.warns(RuntimeWarning, match="nobody has taken a result"):
        executor.map(tasks.double, (1 // 0 for _ in range(3)))


def test_results_that_were_asked_for_or_are_not_wanted_are_not_warned_about(executor):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        next(executor.map(tasks.double, range(1000)))
        next(executor.map(tasks.double, range(1000), chunksize=1))
        executor.map(tasks.double, range(1000)).close()
        executor.map(tasks.double, range(1000), progress={"disable": True}).close()
        executor.map(tasks.double, [])
        executor.map(tasks.double)
        list(executor.map(tasks.double, range(10)))
    assert caught == []
