"""The rest of a map's input at `shutdown`: without anybody who asks, in threads, in signal handlers, cut short."""

import itertools
import os
import signal
import threading
import warnings

import pytest

import tasks
from disttask import _rest
from helpers import wait_until
from interrupts import at_each_point
from test_map_outlives import first, way

__all__ = ["way"]


# --- results that nobody holds ---


@pytest.mark.parametrize("wait", [True, False])
def test_results_that_are_dropped_after_the_shutdown(make_executor, way, tmp_path, wait):
    """All was submitted, nothing is cancelled, and there is nothing to warn of."""
    executor = make_executor(2)
    results = executor.map(tasks.log, itertools.repeat(str(tmp_path / "log")), range(2000), **way)
    executor.shutdown(wait=wait)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del results
    executor.shutdown()
    assert sorted(map(int, tasks.lines(tmp_path / "log"))) == list(range(2000))


@pytest.mark.parametrize("way", [{}, {"chunksize": 1}, {"ordered": False}], ids=str)
def test_or_after_some_were_taken(make_executor, way, tmp_path):
    """What has not begun is cancelled, as at any other time."""
    executor, log, gate = make_executor(1), tmp_path / "log", tmp_path / "gate"
    results = executor.map(log_and_wait, itertools.repeat(str(log)), itertools.repeat(str(gate)), range(3000), **way)
    executor.shutdown(wait=False)
    assert next(results) == 0
    wait_until(lambda: len(tasks.lines(log)) == 2, 10, "the second has begun")
    del results
    gate.touch()
    executor.shutdown()
    assert len(tasks.lines(log)) == 2


def log_and_wait(log, gate, number):
    tasks.log(log, number)
    return tasks.wait_for_file(gate, number) if number else number


def test_a_cancelled_map_that_nobody_asked_is_not_warned_about(make_executor, way):
    executor = make_executor(2)
    results = executor.map(tasks.double, range(100_000), **way)
    executor.shutdown(cancel_futures=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del results


@pytest.mark.parametrize("chunksize", [None, 1])
def test_items_beside_one_that_cannot_be_pickled_are_called_where_nobody_asks(make_executor, tmp_path, chunksize):
    """One list of items, of which a part was read, and none is passed over."""
    paths = [str(tmp_path / str(n)) for n in range(1000)]
    with make_executor(1) as executor:
        list(executor.map(touch, paths[:600], chunksize=chunksize))  # chunks are larger from here on
        for path in paths[:600]:
            os.unlink(path)
        executor.map(touch, [*paths[:5], threading.Lock(), *paths[5:]], chunksize=chunksize)
    assert {path.name for path in tmp_path.iterdir()} == set(map(str, range(1000)))


def touch(path):
    with open(path, "w"):
        pass


# --- threads, signals, Ctrl-C ---


@pytest.mark.parametrize("chunksize", [None, 1])
def test_ctrl_c_while_the_rest_is_read(make_executor, chunksize):
    ready = []

    def numbers():
        yield from range(10_000)
        if ready:
            raise KeyboardInterrupt
        yield from range(10_000)

    executor = make_executor(2)
    results = executor.map(first, numbers(), range(10**9), chunksize=chunksize)
    other = executor.map(tasks.double, range(10))
    ready.append(True)
    with pytest.raises(KeyboardInterrupt):
        executor.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(tasks.double, 1)
    found = []
    with pytest.raises(RuntimeError, match="after shutdown"):
        found.extend(results)
    assert found == list(range(len(found)))
    with pytest.raises(RuntimeError, match="after shutdown"):
        list(other)


@pytest.mark.parametrize("chunksize", [None, 1])
def test_ctrl_c_at_any_step(executor, chunksize):
    """No lock stays held, and no result is passed over."""

    def start():
        executor._map_times.clear()  # so that chunks are single items, and few of them are under way
        return executor.map(first, iter(range(30)), range(100), chunksize=chunksize)

    def submit_the_rest():
        results.mapping.close_input(cancel=False)

    def check():
        nonlocal results
        found, end = [], []

        def take():
            try:
                found.extend(results)
            except RuntimeError as exc:
                end.append(str(exc))

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        thread.join(20)
        assert not thread.is_alive()
        assert found == list(range(30 if not end else len(found)))
        results = start()

    results = start()
    assert at_each_point(submit_the_rest, check) > 20
    results.close()


@pytest.mark.parametrize("chunksize", [None, 1])
def test_a_shutdown_from_the_input_itself(make_executor, chunksize):
    """Or from a signal handler while it is read: it does not wait for itself."""
    executor = make_executor(2)
    handler = signal.signal(signal.SIGUSR1, lambda *_: executor.shutdown(wait=False))

    def numbers():
        yield from range(100)
        signal.raise_signal(signal.SIGUSR1)
        yield from range(100, 200)

    found = []
    try:
        with pytest.raises(RuntimeError, match="after shutdown"):
            found.extend(executor.map(first, numbers(), range(10**9), chunksize=chunksize))
    finally:
        signal.signal(signal.SIGUSR1, handler)
    assert found == list(range(len(found)))


@pytest.mark.parametrize("chunksize", [None, 1])
def test_an_input_that_another_thread_waits_in_is_left_alone(make_executor, monkeypatch, chunksize):
    monkeypatch.setattr(_rest, "_PATIENCE_SECONDS", 0.1)
    inside, free = threading.Event(), threading.Event()

    def numbers():
        yield from range(1000)
        inside.set()
        free.wait(30)
        yield from range(1000)

    executor = make_executor(2)
    results = executor.map(first, numbers(), range(10**9), chunksize=chunksize)
    found = []

    def take():
        with pytest.raises(RuntimeError, match="after shutdown"):
            found.extend(results)
        found.append("the end")

    thread = threading.Thread(target=take)
    thread.start()
    try:
        assert inside.wait(20)
        executor.shutdown()
        assert not free.is_set()
    finally:
        free.set()
        thread.join(20)
    assert found.pop() == "the end"
    assert found == list(range(len(found)))


@pytest.mark.parametrize("way", [{}, {"chunksize": 1}, {"chunksize": 1, "ordered": False}], ids=str)
def test_results_are_taken_while_another_thread_submits_the_rest(make_executor, way):
    """Of an input that waits for results to be taken, and then for the last ones, too."""
    room = threading.Semaphore(2000)

    def numbers():
        for number in range(20_000):
            assert room.acquire(timeout=20)
            yield number

    executor = make_executor(2)
    results = executor.map(first, numbers(), range(10**9), **way)
    thread = threading.Thread(target=executor.shutdown)
    thread.start()
    found = []
    for value in results:
        found.append(value)
        room.release()
    thread.join(20)
    assert not thread.is_alive()
    assert sorted(found) == list(range(20_000))
    assert found == sorted(found) or not way.get("ordered", True)


@pytest.mark.parametrize("chunksize", [None, 1])
def test_results_that_are_closed_while_another_thread_submits_the_rest(make_executor, chunksize):
    reading, closed = threading.Event(), threading.Event()

    def numbers():
        yield from range(10_000)
        reading.set()
        assert closed.wait(20)
        yield from itertools.count()

    executor = make_executor(1)
    results = executor.map(first, numbers(), range(10**9), chunksize=chunksize)
    thread = threading.Thread(target=executor.shutdown)
    thread.start()
    assert reading.wait(20)
    results.close()
    closed.set()
    thread.join(20)
    assert not thread.is_alive(), "it has stopped reading"


def test_the_input_cannot_ask_for_the_results(make_executor):
    """While the rest is submitted: it would wait for itself."""
    asks, found = [], []

    def numbers():
        yield from range(1000)
        if asks:
            try:
                found.extend(asks[0])
            except RuntimeError as exc:
                found.append(str(exc))
        yield from range(10_000)

    executor = make_executor(1)
    results = executor.map(first, numbers(), range(10**9))
    asks.append(results)
    executor.shutdown()
    assert "its own input is being read" in found.pop()
    assert found == list(range(len(found)))


# --- what is not read to its end ---


class Unsized:
    """Its length is not known, and that is what its ``__len__`` says."""

    def __len__(self):
        raise TypeError("who knows")

    def __iter__(self):
        return itertools.count()


def test_a_length_that_is_refused_is_none(make_executor, way):
    executor = make_executor(2)
    with pytest.warns(RuntimeWarning, match="nobody has taken a result"):
        executor.map(tasks.double, Unsized(), **way)
    results = executor.map(tasks.double, Unsized(), **way)
    next(results)
    executor.shutdown()


@pytest.mark.parametrize("way", [{}, {"chunksize": 1}, {"ordered": False}], ids=str)
def test_no_more_than_may_be_unfinished_is_submitted_for_nobody(make_executor, way, tmp_path):
    executor = make_executor(1, max_pending=50)
    executor.submit(tasks.wait_for_file, str(tmp_path / "gate"))
    with pytest.warns(RuntimeWarning, match="nobody has taken a result"):
        executor.options().map(tasks.double, range(1000), **way)
    assert executor.status()["totals"]["submitted"] <= 51
    (tmp_path / "gate").touch()


def test_a_forked_child_that_lets_go_reads_nothing(make_executor, tmp_path):
    (tmp_path / "input").write_text("".join(f"{number}\n" for number in range(5000)))
    with (tmp_path / "input").open() as lines:
        results = make_executor(2).map(first_of, lines, range(5000))
        if os.fork() == 0:
            results = None
            os._exit(0)
        os.wait()
        assert [int(line) for line in results] == list(range(5000))


def first_of(line, _number):
    return line


class Interrupted:
    """Ctrl-C comes while it is read."""

    def __len__(self):
        return 2000

    def __iter__(self):
        for number in range(2000):
            if number == 1000:
                signal.raise_signal(signal.SIGINT)
            yield number


def test_ctrl_c_is_not_lost_while_the_rest_is_submitted_for_nobody(make_executor, tmp_path):
    executor = make_executor(1)
    executor.submit(tasks.wait_for_file, str(tmp_path / "gate"))
    with pytest.raises(KeyboardInterrupt):
        statement_and_more(executor, tmp_path)
    (tmp_path / "gate").touch()
    executor.shutdown()


def statement_and_more(executor, folder):
    executor.map(tasks.log, itertools.repeat(str(folder / "log")), Interrupted())
    wait_until(lambda: False, 10, "the interrupt")


@pytest.mark.parametrize(
    ("nanos", "answer", "left", "chunks"),
    [
        (1e6, 100, None, 32),
        (4e6, 100, None, 8),
        (1e9, 100, None, 6),
        (1e6, 20e6, None, 6),
        (1e6, 100, 20, 10),
        (1e6, 100, 3, 6),
    ],
)
def test_how_much_waits_with_the_pool(executor, nanos, answer, left, chunks):
    """Some milliseconds of work, and no more bytes than may lie there."""
    mapping = executor.map(tasks.double, range(3)).mapping
    mapping._steady, mapping._size = True, 1
    mapping._nanos_per_item, mapping._chunk_bytes, mapping._left = nanos, answer, left
    assert mapping._out_limit() == chunks
