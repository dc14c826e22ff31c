"""`resize` and `restart` while work runs: nothing is lost, nothing runs twice."""

import os
import signal
import threading
from collections import Counter

import pytest

import disttask
import life_tasks
import start_tasks
from helpers import assert_usable, is_alive, wait_busy, wait_idle, wait_until
from tasks import add, lines, logged_sleep, pid_of_worker, wait_for_file

TASKS = 150
TURNS = 40


def settled(executor, count):
    """The pids of so many idle workers, when there are no others."""

    def look():
        workers = executor.status()["workers"]
        return [w["pid"] for w in workers] if [w["state"] for w in workers] == ["idle"] * count else None

    return wait_until(look, 10, f"{count} idle workers, and no others")


def test_more_and_fewer(make_executor):
    executor = make_executor(1)
    (first,) = settled(executor, 1)
    executor.resize(3)
    assert executor._max_workers == 3
    assert first in settled(executor, 3)
    assert "max_workers=3" in repr(executor)
    executor.resize(2)
    settled(executor, 2)
    executor.resize(None)
    settled(executor, executor._max_workers)
    assert_usable(executor)


def test_new_ones_take_what_waits(make_executor, tmp_path):
    executor = make_executor(1)
    futures = [executor.submit(wait_for_file, str(tmp_path / "go")) for _ in range(3)]
    wait_busy(executor, 1)
    executor.resize(3)
    wait_busy(executor, 3)
    (tmp_path / "go").touch()
    for future in futures:
        future.result(timeout=20)


def test_what_runs_is_finished_and_what_waits_there_goes_elsewhere(make_executor, tmp_path):
    executor = make_executor(2)
    gates = [tmp_path / "a", tmp_path / "b"]
    running = [executor.submit(wait_for_file, str(gate)) for gate in gates]
    wait_busy(executor, 2)
    waiting = [executor.submit(pid_of_worker) for _ in range(20)]
    executor.resize(1)
    for gate in gates:
        gate.touch()
    for future in running:
        future.result(timeout=20)
    pids = {future.result(timeout=20) for future in waiting}
    assert pids == set(settled(executor, 1))
    assert executor.status()["totals"]["worker_deaths"] == 0


def test_options_made_before_follow(make_executor):
    executor = make_executor(1)
    careful = executor.options(retries=1)
    executor.resize(2)
    assert careful._max_workers == 2
    assert list(careful.map(add, range(5), range(5))) == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("killing", [False, True])
def test_nothing_is_lost_under_load(make_executor, tmp_path, killing):
    """Sizes and restarts at random moments; without kills each runs once, with them and retries at least once."""
    executor = make_executor(2)
    path = str(tmp_path / "log")
    stop = threading.Event()

    def disturb():
        for turn in range(TURNS):  # and then what is left is done in peace, on a slow machine as well
            if stop.wait(0.05):
                return
            executor.resize((4, 1, 3, 2)[turn % 4])
            if turn % 3 == 0:
                executor.restart()
            if killing:
                kill_one(executor)

    disturber = threading.Thread(target=disturb)
    disturber.start()
    try:
        submitter = executor.options(retries=1000) if killing else executor
        futures = [submitter.submit(logged_sleep, path, number, 0.002) for number in range(TASKS)]
        assert [future.result(timeout=100) for future in futures] == list(range(TASKS))
    finally:
        stop.set()
        disturber.join()
    times = Counter(lines(path))
    assert set(times) == {str(number) for number in range(TASKS)}
    if not killing:
        assert set(times.values()) == {1}
        assert executor.status()["totals"]["worker_deaths"] == 0
    else:
        assert executor.status()["totals"]["worker_deaths"] > 0
    executor.resize(2)
    settled(executor, 2)
    assert_usable(executor)


def kill_one(executor):
    for worker in executor.status()["workers"]:
        if worker["state"] in ("busy", "draining") and worker["pid"]:
            try:
                os.kill(worker["pid"], signal.SIGKILL)
            except ProcessLookupError:
                continue
            return


def test_many_threads_resize_and_submit(make_executor):
    executor = make_executor(1)

    def work(size):
        for _ in range(20):
            executor.resize(size)
            assert executor.submit(add, size, 1).result(timeout=60) == size + 1

    threads = [threading.Thread(target=work, args=(size,)) for size in (1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    executor.resize(1)
    settled(executor, 1)


def test_restart_replaces_all(make_executor):
    executor = make_executor(2)
    old = wait_idle(executor)
    executor.restart(wait=True)
    assert not any(map(is_alive, old))
    new = settled(executor, 2)
    assert not set(old) & set(new)
    assert executor.submit(pid_of_worker).result(timeout=20) in new
    assert executor.status()["totals"]["worker_deaths"] == 0


def test_what_is_submitted_after_restart_runs_in_new_ones(make_executor, tmp_path):
    executor = make_executor(1)
    running = executor.submit(wait_for_file, str(tmp_path / "go"))
    (old,) = wait_busy(executor)
    waiting = executor.submit(pid_of_worker)  # would have been next there
    executor.restart()
    after = executor.submit(pid_of_worker)
    assert is_alive(old)
    (tmp_path / "go").touch()
    running.result(timeout=20)
    assert old not in (waiting.result(timeout=20), after.result(timeout=20))
    wait_until(lambda: not is_alive(old))


def test_restart_waits_for_a_task(make_executor, tmp_path):
    executor = make_executor(1)
    running = executor.submit(wait_for_file, str(tmp_path / "go"))
    (old,) = wait_busy(executor)
    waiter = threading.Thread(target=executor.restart, kwargs={"wait": True})
    waiter.start()
    waiter.join(0.3)
    assert waiter.is_alive()
    assert is_alive(old)
    (tmp_path / "go").touch()
    running.result(timeout=20)
    waiter.join(10)
    assert not waiter.is_alive()
    assert not is_alive(old)


def test_an_old_one_that_is_killed_in_its_last_task(make_executor, tmp_path):
    executor = make_executor(1)
    running = executor.submit(life_tasks.say_and_wait, str(tmp_path / "begun"), str(tmp_path / "go"))
    wait_until((tmp_path / "begun").exists)
    (old,) = wait_busy(executor)
    executor.restart()
    os.kill(old, signal.SIGKILL)
    with pytest.raises(disttask.WorkerCrashed):
        running.result(timeout=20)
    settled(executor, 1)
    assert_usable(executor)


def test_new_ones_have_called_the_initializer(make_executor):
    executor = make_executor(1, initializer=start_tasks.keep, initargs=("again",))
    first = executor.submit(start_tasks.kept).result(timeout=20)
    executor.restart()
    (second,) = executor.submit(start_tasks.kept).result(timeout=20)
    assert second[0] == "again"
    assert second != first[0]


def test_a_changed_module_is_imported_anew(run_script, tmp_path):
    assert run_script(CHANGED, args=[str(tmp_path)]).out.split() == ["1", "1", "2", "elsewhere", "new", "2"]


CHANGED = """
import os, sys, importlib, disttask

folder = sys.argv[1]
def write(name, text):
    with open(os.path.join(folder, name), "w") as file:
        file.write(text)

sys.dont_write_bytecode = True
write("changing.py", "def version():\\n    return 1\\n")
sys.path.insert(0, folder)
import changing

def where():
    return os.path.basename(os.getcwd()), os.environ.get("SET_LATER"), __import__("added").version()

with disttask.Executor(1) as executor:
    print(executor.submit(changing.version).result())
    write("changing.py", "def version():\\n    return 22 // 11\\n")
    print(executor.submit(changing.version).result())
    executor.restart()
    print(executor.submit(changing.version).result())
    os.mkdir(os.path.join(folder, "elsewhere"))
    os.chdir(os.path.join(folder, "elsewhere"))
    os.environ["SET_LATER"] = "new"
    write("elsewhere/added.py", "def version():\\n    return 2\\n")
    sys.path.append(os.getcwd())
    executor.restart()
    print(*executor.submit(where).result())
"""


@pytest.mark.parametrize("mode", [False, True])
def test_not_after_shutdown(make_executor, mode):
    executor = make_executor(1)
    executor.shutdown()
    with pytest.raises(RuntimeError, match="after a shutdown"):
        executor.resize(2) if mode else executor.restart()
    assert executor._max_workers == 1


def test_a_shutdown_that_waits_for_work_can_have_more_workers(make_executor, tmp_path):
    executor = make_executor(1)
    futures = [executor.submit(wait_for_file, str(tmp_path / "go")) for _ in range(2)]
    wait_busy(executor, 1)
    executor.shutdown(wait=False)
    executor.resize(2)
    wait_busy(executor, 2)
    executor.restart()
    (tmp_path / "go").touch()
    for future in futures:
        future.result(timeout=20)
    executor.shutdown()


def test_not_a_broken_pool(make_executor):
    executor = make_executor(1, initializer=start_tasks.fail, initargs=("no",))
    with pytest.raises(disttask.PoolBroken):
        executor.submit(add, 1).result(timeout=20)
    with pytest.raises(disttask.PoolBroken, match="initializer failed"):
        executor.resize(2)
    with pytest.raises(disttask.PoolBroken, match="initializer failed"):
        executor.restart()


@pytest.mark.parametrize("wrong", [0, -1, 2000, True, "2", 1.5])
def test_a_wrong_size(executor, wrong):
    with pytest.raises((ValueError, TypeError), match="max_workers must be"):
        executor.resize(wrong)
    assert executor._max_workers == 2


def test_restart_wait_is_ended_by_ctrl_c(run_script):
    assert "interrupted" in run_script(INTERRUPTED).out


INTERRUPTED = """
import os, signal, threading, time, disttask

with disttask.Executor(1) as executor:
    executor.submit(time.sleep, 3600)
    while executor.status()["running"] == 0 or executor.status()["workers"][0]["state"] != "busy":
        time.sleep(0.01)
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        executor.restart(wait=True)
    except KeyboardInterrupt:
        print("interrupted")
    executor.kill_workers()
"""
