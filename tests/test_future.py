"""`Future`: the standard's, whoever looks at it and however."""

import asyncio
import concurrent.futures as cf
import contextlib
import copy
import os
import pickle
import re
import signal
import threading
import time

import cloudpickle
import psutil
import pytest

import disttask
import tasks
from disttask import Future
from helpers import assert_usable, wait_idle, wait_until
from tasks import add, fail, sleep, wait_for_file


def test_it_is_a_standard_future(executor):
    future = executor.submit(add, 1)
    assert isinstance(future, Future)
    assert isinstance(future, cf.Future)
    assert future.result(timeout=10) == 2
    assert future.exception() is None
    assert future.done()
    assert not future.cancelled()
    assert not future.running()
    assert not future.cancel()


def test_states_from_pending_to_finished(held):
    executor, release = held
    future = executor.submit(add, 1)
    assert (future.done(), future.running(), future.cancelled()) == (False, False, False)
    assert "pending" in repr(future)
    release()
    assert future.result(timeout=10) == 2
    assert (future.done(), future.running(), future.cancelled()) == (True, False, False)
    assert "finished" in repr(future)


def test_running_while_it_runs(executor, tmp_path):
    future = executor.submit(wait_for_file, tmp_path / "go")
    wait_until(future.running)
    assert not future.done()
    assert not future.cancel()
    assert "running" in repr(future)
    (tmp_path / "go").touch()
    future.result(timeout=10)


def test_what_was_only_sent_does_not_run(executor):
    """A worker that is stopped begins nothing: what it was sent can be cancelled."""
    pids = wait_idle(executor)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: all(psutil.Process(pid).status() == psutil.STATUS_STOPPED for pid in pids), 10, "stopped")
    futures = [executor.submit(add, number) for number in range(2)]
    assert [future.running() for future in futures] == [False, False]
    assert [future.cancel() for future in futures] == [True, True]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # on a slow machine it has been replaced by now
            os.kill(pid, signal.SIGCONT)
    assert_usable(executor)


@pytest.mark.parametrize("observed", [False, True])
def test_the_same_object_each_time(executor, observed):
    value, error = executor.submit(list, [1]), executor.submit(fail, ValueError, "x")
    if observed:
        cf.wait([value, error], timeout=10)
    assert value.result(timeout=10) is value.result()
    assert error.exception(timeout=10) is error.exception()
    with pytest.raises(ValueError, match="x") as caught:
        error.result()
    assert caught.value is error.exception()


@pytest.mark.parametrize("observed", [False, True])
def test_cancel_what_waits(held, observed):
    executor, release = held
    future = executor.submit(add, 1)
    called = []
    if observed:
        future.add_done_callback(called.append)
    assert future.cancel()
    assert future.cancel()
    assert future.cancelled()
    assert future.done()
    with pytest.raises(cf.CancelledError):
        future.result()
    with pytest.raises(cf.CancelledError):
        future.exception()
    assert cf.wait([future], timeout=5).done == {future}
    assert called == [future] * observed
    assert "cancelled" in repr(future)
    release()
    assert_usable(executor)


def test_cancel_wakes_a_waiter(held):
    executor, release = held
    future = executor.submit(add, 1)
    seen = []
    waiters = [
        threading.Thread(target=lambda: seen.append(cf.wait([future], timeout=20).done)),
        threading.Thread(target=lambda: seen.append(set(cf.as_completed([future], timeout=20)))),
        threading.Thread(target=lambda: seen.append({future} if cancelled_in_result(future) else None)),
    ]
    for thread in waiters:
        thread.start()
    assert future.cancel()
    for thread in waiters:
        thread.join(5)
    assert seen == [{future}] * 3
    release()


def cancelled_in_result(future):
    try:
        future.result(timeout=20)
    except cf.CancelledError:
        return True


def test_result_in_time_and_not_in_time(executor, tmp_path):
    future = executor.submit(wait_for_file, tmp_path / "go", "value")
    started = time.monotonic()
    for wait in (future.result, future.exception):
        with pytest.raises(TimeoutError):
            wait(timeout=0.1)
    assert 0.2 <= time.monotonic() - started < 2
    with pytest.raises(TimeoutError):
        future.result(timeout=0)
    (tmp_path / "go").touch()
    assert future.result(timeout=10) == "value"


def test_a_timeout_is_not_doubled_when_somebody_else_looks(executor, tmp_path):
    future = executor.submit(wait_for_file, tmp_path / "go")
    timer = threading.Timer(0.2, future.add_done_callback, [lambda _: None])
    timer.start()
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        future.result(timeout=1)
    assert time.monotonic() - started < 1.5
    timer.join()
    (tmp_path / "go").touch()


def test_wait_for_first_completed_and_first_exception(executor, tmp_path):
    slow = executor.submit(wait_for_file, tmp_path / "go")
    quick = executor.submit(add, 1)
    done, pending = cf.wait([slow, quick], timeout=10, return_when=cf.FIRST_COMPLETED)
    assert (done, pending) == ({quick}, {slow})
    failing = executor.submit(fail, ValueError)
    done, pending = cf.wait([slow, failing], timeout=10, return_when=cf.FIRST_EXCEPTION)
    assert (done, pending) == ({failing}, {slow})
    (tmp_path / "go").touch()
    assert cf.wait([slow], timeout=10).done == {slow}


def test_as_completed_yields_each_once(executor):
    futures = [executor.submit(sleep, 0.001 * (number % 7), number) for number in range(100)]
    assert sorted(f.result() for f in cf.as_completed(futures, timeout=30)) == list(range(100))
    with pytest.raises(TimeoutError):
        list(cf.as_completed([executor.submit(sleep, 1)], timeout=0.05))


def test_wait_works_across_kinds_of_future(executor):
    with cf.ThreadPoolExecutor(1) as threads:
        futures = {threads.submit(add, 1), executor.submit(add, 1)}
        assert cf.wait(futures, timeout=10).done == futures


def test_callbacks_before_and_after(executor, tmp_path):
    called = []
    future = executor.submit(wait_for_file, tmp_path / "go", 1)
    future.add_done_callback(lambda f: called.append(("first", f.result())))
    future.add_done_callback(lambda f: 1 // 0)
    future.add_done_callback(lambda f: called.append(("second", f.result())))
    (tmp_path / "go").touch()
    wait_until(lambda: len(called) == 2)
    future.add_done_callback(lambda f: called.append(("late", f.result())))
    assert called == [("first", 1), ("second", 1), ("late", 1)]


def test_a_callback_may_submit_wait_and_raise_anything(executor):
    results, done = [], threading.Event()

    def callback(future):
        results.append(executor.submit(add, future.result()).result(timeout=10))
        done.set()
        raise SystemExit("from a callback")

    executor.submit(add, 1).add_done_callback(callback)
    assert done.wait(10)
    assert results == [3]
    later = executor.submit(add, 5)
    assert cf.wait([later], timeout=10).done == {later}


def interrupt(*_args):
    signal.raise_signal(signal.SIGINT)


def test_an_interrupted_cancel_still_tells_everybody(held):
    """Ctrl-C in a callback is the canceller's; who comes after that callback hears of the future all the same."""
    executor, release = held
    future = executor.submit(add, 1)
    called = []
    future.add_done_callback(lambda _: called.append("first"))
    future.add_done_callback(interrupt)
    future.add_done_callback(lambda _: called.append("last"))
    with pytest.raises(KeyboardInterrupt):
        future.cancel()
    wait_until(lambda: called == ["first", "last"])
    assert cf.wait([future], timeout=10).done == {future}
    release()


class InterruptedWaiter:
    """As those of `concurrent.futures.wait`, with Ctrl-C on the way."""

    def __init__(self):
        self.finished_futures = []
        self.add_cancelled = self.add_result = self.add_exception = self.add

    def add(self, future):
        self.finished_futures.append(future)
        interrupt()


def test_an_interrupted_cancel_still_tells_other_waiters(held):
    executor, release = held
    future = executor.submit(add, 1)
    waiter = InterruptedWaiter()
    future._waiters.append(waiter)
    with cf.ThreadPoolExecutor(1) as threads:
        other = threads.submit(cf.wait, [future], 30)
        wait_until(lambda: len(future._waiters) == 2)
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            future.cancel()
        assert other.result().done == {future}
        assert time.monotonic() - started < 20
    assert waiter.finished_futures == [future], "told once"
    release()


def test_a_callback_may_shut_the_executor_down(make_executor):
    executor, done = make_executor(1), threading.Event()

    def callback(_future):
        executor.shutdown()
        done.set()

    executor.submit(sleep, 0.05).add_done_callback(callback)
    assert done.wait(10)


def test_asyncio(executor):
    async def main():
        loop = asyncio.get_running_loop()
        one = asyncio.wrap_future(executor.submit(add, 1))
        two = loop.run_in_executor(executor, add, 2)
        bad = asyncio.wrap_future(executor.submit(fail, ValueError, "x"))
        return await asyncio.gather(one, two, bad, return_exceptions=True)

    one, two, bad = asyncio.run(main())
    assert (one, two) == (2, 3)
    assert isinstance(bad, ValueError)


def test_asyncio_cancellation_reaches_what_waits(held):
    executor, release = held
    future = executor.submit(add, 1)

    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(future), 0.05)

    asyncio.run(main())
    assert future.cancelled()
    release()


@pytest.mark.parametrize("observed", [False, True])
def test_nobody_else_sets_its_result(held, observed):
    executor, release = held
    future = executor.submit(add, 1)
    if observed:
        future.add_done_callback(id)
    with pytest.raises(cf.InvalidStateError, match="told by its worker"):
        future.set_result(7)
    with pytest.raises(cf.InvalidStateError, match="told by its worker"):
        future.set_exception(ValueError())
    assert not future.done()
    release()
    assert future.result(timeout=10) == 2


def test_memory_of_finished_tasks_is_given_back(executor):
    import psutil

    def rounds():
        for _ in range(20):
            executor.submit(bytes, 5 * 2**20).result(timeout=20)
        return psutil.Process().memory_info().rss

    first = rounds()
    assert max(rounds() for _ in range(3)) - first < 60 * 2**20, "300 MB went through"


def test_eight_threads_look_at_the_same_futures(executor):
    counts, failures, lock = {}, [], threading.Lock()

    def count(future):
        with lock:
            counts[future] = counts.get(future, 0) + 1

    def look(number, futures):
        try:
            for future in futures:
                future.add_done_callback(count)
            if number % 2:
                assert not cf.wait(futures, timeout=60).not_done
            else:
                assert set(cf.as_completed(futures, timeout=60)) == set(futures)
            assert [future.result(timeout=0) for future in futures] == list(range(1, 41))
        except BaseException as exc:
            failures.append(exc)

    for _ in range(15):
        counts.clear()
        futures = [executor.submit(add, value) for value in range(40)]
        threads = [threading.Thread(target=look, args=(number, futures)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        expected = dict.fromkeys(futures, 8)
        wait_until(lambda: counts == expected, 5, "each callback once")  # noqa: B023  called in this very round


def test_threads_become_observers_while_results_arrive(executor):
    for _ in range(300):
        future = executor.submit(add, 1)
        seen = []
        future.add_done_callback(seen.append)
        assert future.result(timeout=10) == 2
        assert cf.wait([future], timeout=10).done
        wait_until(lambda: seen == [future], 5)  # noqa: B023  called in this very round


def test_a_future_does_not_travel_but_as_an_argument(executor):
    future = executor.submit(add, 1)
    for pickled in pickle.dumps, cloudpickle.dumps, copy.copy:
        with pytest.raises(TypeError, match=r"pass future\.result\(\)"):
            pickled(future)


def test_a_repr_says_how_it_ended_without_unpickling(executor):
    def ended(func, *args, **options):
        future = executor.options(**options).submit(func, *args)
        disttask.wait([future], timeout=10)
        return future

    def shown(future):
        return re.fullmatch(r"<disttask\.Future [\w-]+ (.*)>", repr(future))[1]

    future = ended(divide, 0)
    assert shown(future) == "finished raised ZeroDivisionError"
    assert future._kept() is None
    assert type(future.exception()) is ZeroDivisionError
    assert shown(future) == "finished raised ZeroDivisionError"
    assert shown(ended(tasks.exit_seven)) == "finished raised WorkerCrashed"
    assert shown(ended(tasks.spin, timeout=0.1)) == "finished raised TaskTimeout"
    assert shown(ended(threading.Lock)) == "finished raised SerializationError"
    assert shown(ended(abs, -1)) == "finished"
    killed = executor.submit(tasks.spin)
    assert killed.kill()
    assert shown(killed) == "cancelled"
    assert shown(executor.submit(abs, threading.Lock())) == "finished raised SerializationError"


def divide(number):
    return 1 / number
