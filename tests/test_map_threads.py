"""Results of one `map` that several threads take: each result goes to one of them, and nobody sees an early end."""

import gc
import itertools
import operator
import signal
import threading
import weakref

import pytest

import tasks
from helpers import wait_until
from test_map_outlives import first

WAYS = [
    {},
    {"chunksize": 1},
    {"chunksize": 7},
    {"ordered": False},
    {"chunksize": 3, "ordered": False},
    {"return_exceptions": True},
    {"buffersize": 50},
    {"progress": {"disable": True}},
]


def taken_by(threads, results):
    """What each of so many threads took, and what they ended with."""
    ends = []
    found = [[] for _ in range(threads)]
    start = threading.Barrier(threads)

    def take(values):
        start.wait(20)
        try:
            for value in results:
                values.append(value)
        except BaseException as exc:
            ends.append(exc)

    running = [threading.Thread(target=take, args=(values,)) for values in found]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(60)
    assert not any(thread.is_alive() for thread in running)
    return found, ends


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("kind", ["plain", "pickled"])
def test_threads_share_the_results(executor, way, kind):
    """Plain values stand in a list, others are let go of one by one."""
    fn, items = (abs, range(-3000, 0)) if kind == "plain" else (tasks.same, [(n, {n}) for n in range(1, 3001)])
    for _ in range(3):
        found, ends = taken_by(4, executor.map(fn, items, **way))
        assert ends == []
        numbers = [n if kind == "plain" else n[0] for n in itertools.chain(*found)]
        assert sorted(numbers) == list(range(1, 3001))


@pytest.mark.parametrize("threads", [1, 4])
def test_what_threads_have_left_is_freed_with_the_iterator(executor, threads):
    """A `chain` may forget a portion without releasing it, but nothing stays in there."""
    results = executor.map(tasks.Kept, [(number,) for number in range(2000)], chunksize=50)
    gone = weakref.ref(results)
    count = itertools.count()

    def take(values):
        for _ in values:
            if next(count) > 500:
                break

    running = [threading.Thread(target=take, args=(results,)) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(60)
    del results
    assert gone() is None
    gc.collect()
    assert not [value for value in gc.get_objects() if type(value) is tasks.Kept]


@pytest.mark.parametrize("method", ["starmap", "map_unordered"])
def test_threads_share_those_of_its_relatives(executor, method):
    items = range(3000) if method == "map_unordered" else [(n,) for n in range(3000)]
    found, ends = taken_by(4, getattr(executor, method)(tasks.same, items))
    assert ends == []
    assert sorted(itertools.chain(*found)) == list(range(3000))


@pytest.mark.parametrize("way", WAYS[:4], ids=str)
def test_a_thread_waits_for_the_one_that_is_in_next(make_executor, tmp_path, way):
    gate = tmp_path / "gate"
    executor = make_executor(1)
    results = executor.map(tasks.wait_or_value, [str(gate)] + [""] * 99, range(100), **way)
    opener = threading.Thread(
        target=lambda: (wait_until(lambda: executor.status()["running"], 20, "it runs"), gate.touch())
    )
    opener.start()
    found, ends = taken_by(4, results)
    opener.join()
    assert ends == []
    assert sorted(itertools.chain(*found)) == list(range(100))


@pytest.mark.parametrize("way", [{}, {"chunksize": 1}], ids=str)
def test_what_fails_is_raised_in_one_thread(executor, way):
    """And is the end for all, as it is for one; what came before it was taken."""
    items = [*range(1, 500), 0, *range(1, 500)]
    found, ends = taken_by(4, executor.map(operator.truediv, itertools.repeat(1), items, **way))
    assert [type(end) for end in ends] == [ZeroDivisionError]
    assert sorted(itertools.chain(*found)) == sorted(1 / n for n in range(1, 500))


@pytest.mark.parametrize("way", [{}, {"chunksize": 1}], ids=str)
def test_a_signal_handler_that_asks_meanwhile_costs_no_results(make_executor, tmp_path, way):
    """It is in the middle of `next`, and is told so; the iteration goes on."""
    gate = tmp_path / "gate"
    executor = make_executor(1)
    results = executor.map(tasks.wait_or_value, [str(gate)] + [""] * 499, range(500), **way)
    told = []

    def ask(*_):
        try:
            told.append(next(results))
        except BaseException as exc:
            told.append(exc)
        gate.touch()

    before = signal.signal(signal.SIGUSR1, ask)
    main = threading.main_thread().ident
    sender = threading.Thread(
        target=lambda: (
            wait_until(lambda: results.mapping.asked, 20, "it is asked"),
            signal.pthread_kill(main, signal.SIGUSR1),
        )
    )
    try:
        sender.start()
        found = list(results)
    finally:
        sender.join()
        signal.signal(signal.SIGUSR1, before)
    assert [type(one) for one in told] == [ValueError]
    assert found == list(range(500))


def test_an_input_that_asks_while_another_thread_waits_for_it(make_executor):
    """`shutdown` reads the input, a thread waits in `next` for what is read: who asks in the input must not wait."""
    inside, told = threading.Event(), []

    def numbers():
        yield from range(1000)
        inside.set()
        mapping = results.mapping
        wait_until(lambda: found and results.chunks.gi_running and not mapping._under_way, 20, "more is wanted")
        try:
            told.append(next(results))
        except (ValueError, RuntimeError) as exc:
            told.append(type(exc))
        yield from range(1000)

    executor = make_executor(1)
    found = []
    results = executor.map(first, numbers(), range(10**9), chunksize=1)
    taker = threading.Thread(target=lambda: found.extend(results))
    closer = threading.Thread(target=executor.shutdown)
    closer.start()
    assert inside.wait(20)
    taker.start()
    closer.join(40)
    taker.join(40)
    assert not closer.is_alive()
    assert not taker.is_alive()
    assert told == [ValueError]
    assert sorted(found) == sorted([*range(1000)] * 2)
