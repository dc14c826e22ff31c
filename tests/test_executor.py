"""`Executor`: submit, map, options, status, shutdown, context manager."""

import concurrent.futures
import os
import subprocess
import sys
import threading
import time
import weakref
from contextlib import suppress

import pytest

import disttask
from helpers import assert_usable, children, is_alive, wait_busy, wait_idle, wait_until
from tasks import add, burn, fail, lines, log, pid_of_worker, sleep, wait_for_file


def test_submit_passes_arguments_and_returns_the_value(executor):
    assert isinstance(executor, concurrent.futures.Executor)
    assert executor.submit(add, 1, b=41).result() == 42
    assert executor.submit(pow, 2, 10).result() == 1024


def test_no_option_clashes_with_a_functions_own_keywords(executor):
    keywords = {"fn": 1, "self": 2, "timeout": 3, "retries": 4, "priority": 5, "func": 6, "task": 7}
    assert executor.submit(dict, **keywords).result() == keywords
    assert executor.options(retries=1).submit(dict, **keywords).result() == keywords


def test_workers_are_other_processes_and_run_side_by_side(executor, tmp_path):
    first = executor.submit(wait_for_file, tmp_path / "go")
    wait_busy(executor)
    assert executor.submit(pid_of_worker).result(timeout=10) not in (os.getpid(), None)
    (tmp_path / "go").touch()
    assert first.result(timeout=10) is None


@pytest.mark.parametrize("chunksize", [1, 3, 100])
def test_map_keeps_the_order(executor, chunksize):
    assert list(executor.map(add, range(10), range(10), chunksize=chunksize)) == list(range(0, 20, 2))
    assert list(executor.options(priority=1).map(add, range(10), chunksize=chunksize)) == list(range(1, 11))


def test_map_stops_with_the_shortest_input_and_raises_where_it_failed(executor):
    assert list(executor.map(add, [1, 2, 3], [1])) == [2]
    results = executor.map(divmod, [7, 7, 7], [2, 0, 3])
    assert next(results) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_map_with_a_timeout(executor, tmp_path):
    results = executor.map(wait_for_file, [tmp_path / "go"], timeout=0.2)
    with pytest.raises(TimeoutError):
        next(results)
    (tmp_path / "go").touch()
    with pytest.raises(ValueError, match="chunksize"):
        executor.map(add, [1], chunksize=0)


def test_priority_goes_first_and_equals_in_order(make_executor, tmp_path):
    executor = make_executor(1)
    hold = executor.submit(wait_for_file, tmp_path / "go")
    wait_busy(executor)
    order = tmp_path / "order"
    futures = [
        executor.options(priority=priority).submit(log, order, f"{priority}.{number}")
        for number in range(2)
        for priority in (-1, 0, 5)
    ]
    (tmp_path / "go").touch()
    hold.result(timeout=10)
    concurrent.futures.wait(futures, timeout=10)
    assert lines(order) == ["5.0", "5.1", "0.0", "0.1", "-1.0", "-1.1"]


def test_status_has_the_documented_shape(executor, tmp_path):
    wait_idle(executor)
    running = executor.submit(wait_for_file, tmp_path / "go")
    wait_busy(executor)
    status = executor.status()
    assert set(status) == {"workers", "queued", "running", "totals", "accepting", "broken"}
    assert (status["queued"], status["running"]) == (0, 1)
    assert status["accepting"] is True
    assert status["broken"] is None
    totals = {"submitted": 1, "succeeded": 0, "failed": 0, "cancelled": 0, "retried": 0, "worker_deaths": 0}
    assert status["totals"] == totals
    keys = {"worker", "pid", "state", "task", "tasks_done", "restarts", "memory_bytes", "cpu_seconds"}
    assert all(set(worker) == keys for worker in status["workers"])
    busy, idle = sorted(status["workers"], key=lambda worker: worker["state"])
    assert (busy["state"], idle["state"]) == ("busy", "idle")
    assert busy["task"] == {"id": 1, "name": "wait_for_file", "tags": [], "attempt": 1}
    assert idle["task"] is None
    assert {busy["pid"], idle["pid"]} <= children()
    assert all(w["memory_bytes"] > 10**6 and w["cpu_seconds"] >= 0 for w in status["workers"])
    executor.submit(burn, 0.1).result(timeout=20)
    assert sum(w["cpu_seconds"] for w in executor.status()["workers"]) > 0.05
    (tmp_path / "go").touch()
    running.result(timeout=10)
    wait_until(lambda: executor.status()["totals"]["succeeded"] == 2)
    assert sum(worker["tasks_done"] for worker in executor.status()["workers"]) == 2


def test_status_counts_the_queue_and_failures(make_executor, tmp_path):
    executor = make_executor(1)
    executor.submit(wait_for_file, tmp_path / "go")
    wait_busy(executor)
    waiting = [executor.submit(add, 1) for _ in range(5)]
    assert executor.status()["queued"] == 5
    assert waiting[0].cancel()
    assert executor.status()["queued"] == 4
    (tmp_path / "go").touch()
    crash = executor.submit(os._exit, 3)
    assert isinstance(crash.exception(timeout=10), disttask.WorkerCrashed)
    wait_idle(executor)
    status = executor.status()
    counted = {key: status["totals"][key] for key in ("submitted", "succeeded", "failed", "cancelled")}
    assert counted == {"submitted": 7, "succeeded": 5, "failed": 1, "cancelled": 1}
    assert status["totals"]["worker_deaths"] == 1
    assert [worker["restarts"] for worker in status["workers"]] == [1]


def test_shutdown_finishes_accepted_work_and_takes_no_more(make_executor):
    executor = make_executor(2)
    futures = [executor.submit(sleep, 0.01, number) for number in range(20)]
    futures[0].result(timeout=60)
    workers = executor.status()["workers"]  # not those of other executors, which may be leaving
    pids = [worker["pid"] for worker in workers if worker["pid"] is not None]
    executor.shutdown()
    assert [future.result(timeout=0) for future in futures] == list(range(20))
    assert pids
    assert not any(is_alive(pid) for pid in pids)
    executor.shutdown()


def test_shutdown_without_waiting_returns_at_once(make_executor, tmp_path):
    executor = make_executor(1)
    future = executor.submit(wait_for_file, tmp_path / "go", "done")
    executor.shutdown(wait=False)
    assert not future.done()
    (tmp_path / "go").touch()
    assert future.result(timeout=10) == "done"


def test_shutdown_can_cancel_what_waits(make_executor, tmp_path):
    executor = make_executor(1)
    running = executor.submit(wait_for_file, tmp_path / "go", "done")
    wait_busy(executor)
    waiting = [executor.submit(add, 1) for _ in range(3)]
    concurrent.futures.wait(waiting, timeout=0)
    executor.shutdown(wait=False, cancel_futures=True)
    (tmp_path / "go").touch()
    assert running.result(timeout=10) == "done"
    concurrent.futures.wait(waiting, timeout=10)
    assert [future.cancelled() for future in waiting] == [True] * 3


def test_with_block_waits(tmp_path):
    with disttask.Executor(2) as executor:
        future = executor.submit(sleep, 0.2, "done")
    assert future.done()
    assert executor.status()["workers"] == []


def test_interrupted_with_block_kills_running_tasks():
    started = time.monotonic()
    with suppress(KeyboardInterrupt), disttask.Executor(1) as executor:
        future = executor.submit(sleep, 3600)
        wait_busy(executor)
        raise KeyboardInterrupt
    assert time.monotonic() - started < 5
    with pytest.raises(disttask.PoolShutdown, match="shut down before task"):
        future.result(timeout=0)


def test_a_dropped_executor_finishes_its_work_and_lets_its_workers_go():
    before = children()
    executor = disttask.Executor(1)
    future = executor.submit(sleep, 0.3, "done")
    gone = weakref.ref(executor)
    del executor
    assert gone() is None
    assert future.result(timeout=10) == "done"
    wait_until(lambda: children() <= before, 10, "workers of the dropped executor gone")


def test_number_of_workers(make_executor):
    assert len(make_executor(3).status()["workers"]) == 3
    usable = len(os.sched_getaffinity(0))
    assert 1 <= len(make_executor().status()["workers"]) <= usable


def test_many_threads_submit(executor):
    results = []

    def submitter(number):
        results.extend(executor.submit(add, number, 0).result(timeout=30) for _ in range(50))

    threads = [threading.Thread(target=submitter, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == sorted(list(range(8)) * 50)


def test_large_arguments_and_results(executor):
    data = os.urandom(30 * 2**20)
    assert executor.submit(bytes, data).result(timeout=30) == data
    assert_usable(executor)


def test_the_flags_of_the_host_hold_in_the_workers(run_script):
    source = """
import sys, disttask
with disttask.Executor(1) as executor:
    print(executor.submit(lambda: (__debug__, sys.warnoptions)).result())
"""
    assert "(False, ['error'])" in run_script(source, flags=["-O", "-W", "error"]).out


@pytest.mark.parametrize(
    ("flags", "is_usual"),
    [([], True), (["-B"], True), (["-s"], False), (["-B", "-X", "utf8"], False), (["-E", "-bb", "-q"], False)],
    ids=str,
)
def test_each_flag_of_the_host_is_set_in_the_workers(flags, is_usual):
    # Not `run_script`, which has an unusual flag of its own; and nothing is inherited but by flags.
    source = """
import sys, disttask
with disttask.Executor(1) as executor:
    print(executor.submit(lambda: tuple(sys.flags)).result() == tuple(sys.flags))
    print("subprocess" in sys.modules)  # 5 ms of what there is to the first result
"""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, *flags, "-c", source], env=env, capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.split() == ["True", str(not is_usual)]


def test_an_executor_does_not_import_pickle():
    # 1 ms, for what its C part has as well
    source = """
import sys, disttask
with disttask.Executor(1) as executor:
    executor.submit(pow, 2, 3).result()
print("pickle" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "False"


def test_a_worker_imports_functools_when_somebody_needs_it(make_executor):
    # 2 ms of a start, and memory; but where the environment's own start-up files have it
    question = "'functools' in __import__('sys').modules"
    command = [sys.executable, "-c", f"print({question})"]
    bare = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()
    executor = make_executor(1)
    assert str(executor.submit(eval, question).result(timeout=10)) == bare
    assert executor.submit(eval, "__import__('functools').__file__").result(timeout=10).endswith("functools.py")
    same = "__import__('functools').partial is __import__('pickle').loads(b'cfunctools\\npartial\\n.')"
    assert executor.submit(eval, same).result(timeout=10)
    assert executor.submit(eval, "__import__('gc').isenabled()").result(timeout=10)


def test_a_worker_collects_no_garbage_where_that_is_switched_off(run_script, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import gc; gc.disable()")
    source = """
import disttask
with disttask.Executor(1) as executor:
    print(executor.submit(eval, "__import__('gc').isenabled()").result())
"""
    assert run_script(source, env={"PYTHONPATH": str(tmp_path)}).out == "False\n"


def test_a_failing_task_leaves_the_others_alone(executor):
    futures = [executor.submit(fail, ValueError, n) if n % 3 == 0 else executor.submit(add, n) for n in range(30)]
    for number, future in enumerate(futures):
        if number % 3 == 0:
            with pytest.raises(ValueError, match=f"^{number}$"):
                future.result(timeout=10)
        else:
            assert future.result(timeout=10) == number + 1


def test_what_process_pool_executor_keeps_for_itself(executor):
    for name, instead in (("_processes", "kill_workers"), ("_pending_work_items", "max_pending")):
        assert not hasattr(executor, name)
        with pytest.raises(AttributeError, match=f"^'Executor' object has no attribute '{name}'.*{instead}") as caught:
            getattr(executor, name)
        assert (caught.value.name, caught.value.obj) == (name, executor)


def test_what_goes_back_to_the_queue_unbegun_is_no_attempt(executor):
    """Tasks are sent ahead and taken back; `status` speaks of attempts as errors do."""
    seen = set()
    for _ in range(5):
        futures = [executor.submit(time.sleep, 0.01) for _ in range(6)]
        while not all(future.done() for future in futures):
            seen |= {worker["task"]["attempt"] for worker in executor.status()["workers"] if worker["task"]}
    assert seen == {1}
