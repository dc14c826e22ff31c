"""Tasks that submit tasks to their own pool, and wait for them."""

import concurrent.futures as cf
import contextlib
import os
import pickle
import random
import signal
import threading
import time

import numpy as np
import pytest

import disttask
from helpers import assert_usable, wait_until
from tasks import add, fail, lines, log, pid_of_worker, sleep, wait_for_file

DEPTH = 50


def down(depth):
    """Each level waits for the next."""
    return 0 if depth == 0 else 1 + disttask.submit(down, depth - 1).result()


def fib(n):
    if n < 2:
        return n
    one, other = disttask.submit(fib, n - 1), disttask.submit(fib, n - 2)
    return one.result() + other.result()


def fib_with(executor, n):
    if n < 2:
        return n
    one, other = executor.submit(fib_with, executor, n - 1), executor.submit(fib_with, executor, n - 2)
    return one.result() + other.result()


def inner(func, *args):
    return disttask.submit(func, *args).result()


def outcome_of(func, *args):
    """The exception of a nested task, as text."""
    exc = disttask.submit(func, *args).exception()
    return type(exc).__name__, str(exc), isinstance(exc, Exception)


def error_of(func, *args):
    try:
        func(*args)
    except BaseException as exc:
        return f"{type(exc).__name__}: {exc}"
    return "no error"


@pytest.mark.parametrize("workers", [1, 2])
def test_recursion_deeper_than_the_pool_is_wide(make_executor, workers):
    executor = make_executor(workers)
    assert executor.submit(down, DEPTH).result(timeout=30) == DEPTH
    assert executor.submit(fib, 12).result(timeout=60) == 144
    wait_until(lambda: executor.status()["running"] == 0, 5, "all is done")
    status = executor.status()
    totals = status["totals"]
    assert status["queued"] == totals["failed"] == totals["cancelled"] == 0
    assert totals["succeeded"] == totals["submitted"] == 1 + DEPTH + 465  # calls of fib(12)


def test_too_deep_a_recursion_is_an_error_that_says_so(make_executor):
    with pytest.raises(RecursionError, match="nested tasks are 100 deep"):
        make_executor(1).submit(down, 150).result(timeout=30)


def test_an_executor_among_the_arguments_is_the_same_pool(make_executor):
    executor = make_executor(2)
    assert executor.submit(fib_with, executor, 7).result(timeout=30) == 13
    pids = executor.submit(pids_through, executor.options(priority=3, retries=1)).result(timeout=30)
    assert set(pids) <= {worker["pid"] for worker in executor.status()["workers"]}

    def captured():
        return executor.submit(add, 4).result()

    assert executor.submit(captured).result(timeout=10) == 5
    assert executor.submit(same, executor).result(timeout=10) is executor, "back in its own process it is itself"
    assert pickle.loads(pickle.dumps(executor)) is executor


def pids_through(submitter):
    return [future.result() for future in [submitter.submit(pid_of_worker) for _ in range(4)]]


def same(value):
    return value


def test_an_executor_of_another_pool_is_refused(make_executor):
    one, other = make_executor(1), make_executor(1)
    with pytest.raises(disttask.DeserializationError, match="an Executor can be used in the process that has made it"):
        one.submit(fib_with, other, 5).result(timeout=10)


def test_map_wait_and_as_completed_inside_a_task(make_executor):
    for workers in (1, 2):
        executor = make_executor(workers)
        assert executor.submit(map_inside, executor).result(timeout=30) == [1, 2, 3, 4, 5]
        assert executor.submit(wait_inside).result(timeout=30) == ([1, 2, 3, 4, 5], 0, [1, 2, 3, 4, 5], True)


def map_inside(executor):
    return list(executor.map(add, range(5), chunksize=2))


def wait_inside():
    futures = [disttask.submit(add, number) for number in range(5)]
    done, pending = cf.wait(futures, timeout=20)
    again = [disttask.submit(add, number) for number in range(5)]
    values = sorted(future.result() for future in cf.as_completed(again, timeout=20))
    first = [disttask.submit(add, 1), disttask.submit(sleep, 0.2)]
    some, _ = cf.wait(first, return_when=cf.FIRST_COMPLETED)
    return sorted(future.result() for future in done), len(pending), values, len(some) >= 1


def test_errors_of_nested_tasks(make_executor):
    for workers in (1, 2):
        executor = make_executor(workers)
        name, text, plain = executor.submit(outcome_of, fail, ValueError, "no luck").result(timeout=20)
        assert "no luck" in text, name
        assert plain
        with pytest.raises(disttask.SerializationError):
            executor.submit(inner, threading.Lock).result(timeout=20)
        assert "SerializationError" in executor.submit(error_of, inner, len, UNPICKLABLE).result(timeout=20)
        assert_usable(executor)
    name, text = executor.submit(crash_elsewhere).result(timeout=30)
    assert name == "WorkerCrashed"
    assert "status 3" in text
    assert_usable(executor)


def crash_elsewhere():
    future = disttask.submit(os._exit, 3)
    while not future.done():  # asking is not waiting: it is left to the other worker
        time.sleep(0.01)
    exc = future.exception()
    return type(exc).__name__, str(exc)


class Unpicklable:
    """Can be loaded, and not be pickled."""

    def __reduce_ex__(self, protocol):
        if in_worker():
            raise TypeError("not from here")
        return Unpicklable, ()


def in_worker():
    from disttask._handshake import in_worker

    return in_worker()


UNPICKLABLE = Unpicklable()


def test_large_arguments_and_results(make_executor):
    for workers in (1, 2):
        executor = make_executor(workers)
        assert executor.submit(large_inside).result(timeout=60) == (3_000_000, 3_000_000, True)


def large_inside():
    array = np.ones(3_000_000)
    summed = disttask.submit(total, array)
    made = disttask.submit(np.ones, 3_000_000)
    time.sleep(0.3)  # another worker, if there is one, has begun them by now
    value = made.result()
    value += 1  # it can be written to
    return int(summed.result()), len(value), bool((value == 2).all())


def total(array):
    return array.sum()


def test_what_is_cancelled_does_not_run(make_executor, tmp_path):
    ran = tmp_path / "ran"
    executor = make_executor(1)
    assert executor.submit(cancel_inside, str(ran)).result(timeout=20) == (True, True, True, "CancelledError: ", False)
    assert executor.submit(add, 1).result(timeout=10) == 2
    assert not ran.exists()
    assert executor.status()["totals"]["cancelled"] == 1


def cancel_inside(ran):
    future, done = disttask.submit(log, ran, "x"), disttask.submit(add, 1)
    done.result()
    return future.cancel(), future.cancelled(), future.done(), error_of(future.result), done.cancel()


def test_timeouts_of_waiting(make_executor, tmp_path):
    began, go = tmp_path / "began", tmp_path / "go"
    executor = make_executor(2)
    assert executor.submit(impatient, str(began), str(go)).result(timeout=30) == ("TimeoutError: ", True)


def impatient(began, go):
    future = disttask.submit(begin_and_wait, began, go)
    while not (lines(began) and future.running()):
        time.sleep(0.01)
    error = error_of(future.result, 0.1)
    with open(go, "w"):
        pass
    future.result(20)
    return error, future.done()


def begin_and_wait(began, go):
    log(began, os.getpid())
    wait_for_file(go)


def test_what_cannot_be_is_refused_with_a_reason(make_executor):
    executor = make_executor(1)
    for what, says in (
        (bad_timeout, "give the outer task a timeout"),
        (bad_option, "backoff, retry_on: not for tasks that a task submits"),
        (bad_option_of_the_task, "crash_limit: not for tasks that a task submits"),
        (bad_callback, "nobody calls back"),
        (bad_argument, "pass future.result"),
        (bad_shutdown, "a task cannot shut down the executor that runs it"),
        (disttask.status, "inside a task there is disttask.submit"),
        (bad_fork, "a process that a task has forked cannot submit tasks"),
    ):
        assert says in executor.submit(error_of, what).result(timeout=20), what
    assert "a task text or a callable" in executor.submit(error_of, disttask.submit, 3).result(timeout=20)
    text = disttask.serialize_task(add, 41)
    assert executor.submit(inner_text, text).result(timeout=20) == 42


def late_imports(executor):
    """What a look at the executor imports, as far as a fork knows that it is to wait for it."""
    from disttask import _pickling

    assert not hasattr(executor, "resize")
    return list(_pickling._late)


def test_what_is_imported_late_keeps_forks_waiting(make_executor):
    executor = make_executor(1)
    assert "disttask._executor" in executor.submit(late_imports, executor).result(timeout=20)


def inner_text(text):
    return disttask.submit(text).result()


def bad_option():
    disttask.options(retries=1, retry_on=OSError, backoff=1).submit(add, 1)


def bad_option_of_the_task():
    disttask.submit(disttask.task(add, crash_limit=2), 1)


def bad_timeout():
    disttask.options(timeout=3).submit(add, 1)


def bad_callback():
    disttask.submit(add, 1).add_done_callback(print)


def bad_argument():
    disttask.submit(add, disttask.submit(add, 1))


def bad_shutdown():
    from disttask._nested import NestedExecutor

    NestedExecutor().shutdown()


def bad_fork():
    read, write = os.pipe()
    if os.fork() == 0:
        os.write(write, error_of(disttask.submit, add, 1).encode())
        os._exit(0)
    os.wait()
    raise RuntimeError(os.read(read, 10_000).decode())


def test_threads_of_a_task_wait_at_once(make_executor):
    for workers in (1, 2):
        assert make_executor(workers).submit(threads_inside).result(timeout=30) == list(range(1, 41))


def threads_inside():
    shared = disttask.submit(sleep, 0.05)
    with cf.ThreadPoolExecutor(8) as threads:
        results = list(threads.map(inner, [add] * 40, range(40)))
        list(threads.map(lambda _: shared.result(), range(8)))  # one of them runs it
    return results


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_killed_while_it_waits(make_executor, tmp_path, workers):
    """What its task has submitted and nobody has begun is cancelled; the outer task is retried."""
    executor = make_executor(workers)
    began, go = tmp_path / "began", tmp_path / "go"
    future = executor.options(retries=1).submit(killed_outer, str(began), str(go))
    wait_until(lambda: len(lines(began)) >= 1, 10, "it is in its nested task")
    victim = int(lines(began)[0])
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: len(lines(began)) >= 2, 20, "the second attempt")
    go.touch()
    assert future.result(timeout=20) == 7
    wait_until(lambda: executor.status()["running"] == executor.status()["queued"] == 0, 10, "nothing is left")
    totals = executor.status()["totals"]
    ended = totals["succeeded"] + totals["failed"] + totals["cancelled"]
    assert ended == totals["submitted"]
    assert totals["retried"] >= 1
    assert totals["cancelled"] >= (5 if workers == 1 else 0)
    assert_usable(executor)


def killed_outer(began, go):
    kept = [disttask.submit(sleep, 0.01) for _ in range(5)]
    log(began, os.getpid())
    wait_for_file(go)
    for future in kept:
        future.result()
    return 7


def test_a_worker_killed_in_a_task_that_it_runs_within_another(make_executor, tmp_path):
    executor = make_executor(1)
    began = tmp_path / "began"
    future = executor.submit(inner, killed_inner, str(began))
    wait_until(lambda: lines(began), 10, "it is in its nested task")
    os.kill(int(lines(began)[0]), signal.SIGKILL)
    with pytest.raises(disttask.WorkerCrashed):
        future.result(timeout=20)
    wait_until(lambda: executor.status()["totals"]["failed"] == 2, 10, "the inner one has died, too")
    assert executor.status()["running"] == 0
    assert_usable(executor)


def killed_inner(began):
    log(began, os.getpid())
    time.sleep(60)


def test_the_time_out_of_the_outer_task_ends_both(make_executor):
    executor = make_executor(1)
    with pytest.raises(disttask.TaskTimeout):
        executor.options(timeout=0.3).submit(inner, sleep, 60).result(timeout=20)
    assert_usable(executor)


def test_shutdown_lets_accepted_work_finish_with_all_that_it_submits(make_executor, tmp_path):
    began, go = tmp_path / "began", tmp_path / "go"
    executor = make_executor(1)
    future = executor.submit(late_submitter, str(began), str(go))
    wait_until(lambda: lines(began), 10, "it runs")
    executor.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(add, 1)
    go.touch()
    assert future.result(timeout=20) == DEPTH


def late_submitter(began, go):
    log(began, os.getpid())
    wait_for_file(go)
    return down(DEPTH)


def test_shutdown_that_cancels_cancels_nested_tasks_too(make_executor, tmp_path):
    began, go = tmp_path / "began", tmp_path / "go"
    executor = make_executor(1)
    future = executor.submit(cancelled_inside, str(began), str(go))
    wait_until(lambda: lines(began), 10, "it runs")
    executor.shutdown(wait=False, cancel_futures=True)
    go.touch()
    first, second = future.result(timeout=20)
    assert first == "CancelledError: "
    assert "cannot schedule new futures after shutdown" in second


def cancelled_inside(began, go):
    waiting = disttask.submit(add, 1)
    log(began, os.getpid())
    wait_for_file(go)
    return error_of(waiting.result), error_of(disttask.submit, add, 1)


def test_fire_and_forget(make_executor, tmp_path):
    path = tmp_path / "log"
    with make_executor(2) as executor:
        executor.submit(forgetful, str(path)).result(timeout=20)
    assert sorted(int(line) for line in lines(path)) == list(range(20))


def forgetful(path):
    for number in range(20):
        disttask.submit(log, path, number)


def test_an_executor_made_in_a_task_is_a_pool_of_its_own(make_executor):
    pids = make_executor(1).submit(own_pool).result(timeout=60)
    assert len(set(pids)) == 2


def own_pool():
    with disttask.Executor(1) as executor:
        return os.getpid(), executor.submit(inner, pid_of_worker).result()


def test_kills_at_random_leave_nothing_waiting(make_executor):
    """Each outer task ends, with the right value or with a crash, and the books agree."""
    executor = make_executor(3)
    dice = random.Random(5)
    futures = [executor.options(retries=3).submit(slow_fib, 6) for _ in range(12)]
    kills = 0
    while kills < 15 and not all(future.done() for future in futures):
        time.sleep(0.05)
        busy = [worker["pid"] for worker in executor.status()["workers"] if worker["state"] == "busy"]
        if busy:
            kills += 1
            with contextlib.suppress(ProcessLookupError):
                os.kill(dice.choice(busy), signal.SIGKILL)
    for future in futures:
        exc = future.exception(timeout=60)
        assert isinstance(exc, disttask.WorkerCrashed) if exc else future.result() == 8
    wait_until(lambda: executor.status()["running"] == executor.status()["queued"] == 0, 20, "nothing is left")
    totals = executor.status()["totals"]
    assert totals["succeeded"] + totals["failed"] + totals["cancelled"] == totals["submitted"]
    assert totals["worker_deaths"] >= 5
    assert_usable(executor)


def slow_fib(n):
    time.sleep(0.002)
    if n < 2:
        return n
    submitter = disttask.options(retries=5)
    one, other = submitter.submit(slow_fib, n - 1), submitter.submit(slow_fib, n - 2)
    return one.result() + other.result()
