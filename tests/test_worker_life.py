"""How workers begin, live and end: recycling by age and memory, finalizer, preload, environment, threads, seeds."""

import functools
import logging
import os
import signal
import time

import pytest

import disttask
import life_tasks
import start_tasks
from helpers import assert_usable, is_alive, wait_idle, wait_until
from tasks import add, lines, logged_sleep, pid_of_worker, wait_for_file

# --- recycling --------------------------------------------------------------------------------------------------------


def test_a_worker_that_is_too_old_is_replaced(make_executor):
    executor = make_executor(2, max_worker_age=0.5)
    old = wait_idle(executor)
    wait_until(lambda: not any(map(is_alive, old)), 10, "replaced, though idle")
    assert_usable(executor)
    assert executor.status()["totals"]["worker_deaths"] == 0


def test_age_waits_for_the_task_and_loses_none(make_executor, tmp_path):
    executor = make_executor(2, max_worker_age=0.3)
    path = str(tmp_path / "log")
    futures = [executor.submit(logged_sleep, path, number, 0.02) for number in range(200)]
    assert [future.result(timeout=60) for future in futures] == list(range(200))
    assert sorted(lines(path)) == sorted(map(str, range(200))), "each once"
    totals = executor.status()["totals"]
    assert totals["worker_deaths"] == 0
    assert sum(worker["restarts"] for worker in executor.status()["workers"]) > 0


def test_one_at_a_time_by_age(make_executor):
    """Each takes its time to start; there is always one that works."""
    executor = make_executor(2, max_worker_age=0.2, initializer=time.sleep, initargs=(0.3,))
    first = executor.submit(pid_of_worker).result(timeout=20)
    seen = set()

    def all_replaced():
        states = [worker["state"] for worker in executor.status()["workers"]]
        seen.add(executor.submit(pid_of_worker).result(timeout=20))
        assert states.count("starting") <= 1
        return first not in seen or len(seen) > 3

    wait_idle(executor)
    wait_until(all_replaced, 20)


def test_a_worker_that_is_too_large_is_replaced(make_executor):
    executor = make_executor(1, max_worker_memory=200 * 2**20)
    small = executor.submit(life_tasks.hold, 1).result(timeout=20)
    time.sleep(1.2)  # two looks
    assert executor.submit(life_tasks.hold, 300).result(timeout=20) == small
    wait_until(lambda: not is_alive(small), 10, "replaced")
    assert executor.submit(pid_of_worker).result(timeout=20) != small
    assert executor.status()["totals"]["worker_deaths"] == 0


def test_a_limit_below_what_a_worker_begins_with(make_executor):
    """It can only be above it: each still gets something done, and an idle pool stands still."""
    executor = make_executor(1, max_worker_memory=1)
    before = wait_idle(executor)
    time.sleep(1.2)
    assert wait_idle(executor) == before
    assert [executor.submit(add, number, 1).result(timeout=20) for number in range(50)] == list(range(1, 51))


def test_a_task_is_finished_before(make_executor, tmp_path):
    executor = make_executor(1, max_worker_age=0.1, max_worker_memory=1)
    running = executor.submit(wait_for_file, str(tmp_path / "go"))
    waiting = [executor.submit(pid_of_worker) for _ in range(5)]
    time.sleep(1.2)
    (tmp_path / "go").touch()
    running.result(timeout=20)
    assert all(future.result(timeout=20) for future in waiting)


def test_killed_while_it_leaves(make_executor, tmp_path):
    executor = make_executor(1, max_worker_age=0.1)
    running = executor.submit(wait_for_file, str(tmp_path / "go"))
    (worker,) = wait_until(lambda: [w for w in executor.status()["workers"] if w["state"] == "busy"])
    time.sleep(1.2)
    os.kill(worker["pid"], signal.SIGKILL)
    with pytest.raises(disttask.WorkerCrashed):
        running.result(timeout=20)
    assert_usable(executor)


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), "1", True])
def test_a_wrong_age(wrong):
    with pytest.raises((ValueError, TypeError), match="max_worker_age must be"):
        disttask.Executor(1, max_worker_age=wrong)


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "1G", True])
def test_a_wrong_memory(wrong):
    with pytest.raises((ValueError, TypeError), match="max_worker_memory must be"):
        disttask.Executor(1, max_worker_memory=wrong)


def test_endless_is_allowed(make_executor):
    executor = make_executor(1, max_worker_age=float("inf"), max_worker_memory=2**80)
    assert executor.submit(add, 1).result(timeout=20) == 2


# --- the end ----------------------------------------------------------------------------------------------------------


def test_finalizer_then_atexit_at_shutdown(make_executor, tmp_path):
    path = str(tmp_path / "log")
    executor = make_executor(1, finalizer=functools.partial(life_tasks.finalize, path))
    executor.submit(life_tasks.note_at_exit, path).result(timeout=20)
    executor.shutdown()
    assert lines(path) == ["finalizer", "atexit"]


def test_finalizer_when_workers_are_replaced(make_executor, tmp_path):
    path = str(tmp_path / "log")
    executor = make_executor(1, finalizer=functools.partial(life_tasks.finalize, path), max_tasks_per_child=1)
    for _ in range(3):
        executor.submit(add, 1).result(timeout=20)
    wait_until(lambda: lines(path) == ["finalizer"] * 3)
    wait_idle(executor)
    executor.restart(wait=True)
    assert lines(path) == ["finalizer"] * 4


def test_no_finalizer_where_a_worker_is_killed(make_executor, tmp_path):
    path = str(tmp_path / "log")
    executor = make_executor(1, finalizer=functools.partial(life_tasks.finalize, path))
    (pid,) = wait_idle(executor)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid))
    busy = executor.submit(time.sleep, 60)  # an idle one may have left before it is killed
    wait_until(busy.running)
    executor.kill_workers()
    executor.shutdown()
    assert lines(path) == []


def test_what_a_finalizer_prints_is_shown_and_is_no_tasks(make_executor, capsys):
    executor = make_executor(1, finalizer=life_tasks.finalize_aloud)
    future = executor.submit(add, 1, 2)
    assert future.result() == 3
    executor.restart(wait=True)
    shown = []
    wait_until(lambda: shown.append(capsys.readouterr().out) or "".join(shown) == "the finalizer prints", 5, "shown")
    assert_usable(executor)
    executor.shutdown()
    assert capsys.readouterr().out == "the finalizer prints"
    assert future.output() == ""


def test_a_restart_keeps_capture_and_takes_log_levels_anew(make_executor, capsys):
    executor = make_executor(1)
    assert executor.submit(life_tasks.print_and_log).result() == logging.WARNING
    logger = logging.getLogger("life_tasks")
    logger.setLevel(logging.DEBUG)
    try:
        executor.restart(wait=True)
    finally:
        logger.setLevel(logging.NOTSET)
    future = executor.submit(life_tasks.print_and_log)
    assert future.result() == logging.DEBUG
    assert future.output("stdout") == "printed\n"
    assert future.output("log") == "DEBUG:life_tasks:logged\n"
    assert capsys.readouterr().out == "printed\n" * 2


def test_a_finalizer_that_raises(run_script):
    ended = run_script(FINALIZER.format("life_tasks.finalize_wrongly"))
    assert "the finalizer failed in worker pid" in ended.err
    assert "ValueError: finalizer went wrong" in ended.err


def test_a_finalizer_that_does_not_end_has_five_seconds(run_script):
    assert 4 < run_script(FINALIZER.format("life_tasks.finalize_for_ever")).seconds < 12


FINALIZER = """
import disttask, life_tasks
with disttask.Executor(1, finalizer={}) as executor:
    executor.submit(pow, 2, 3).result()
"""


def test_what_the_initializer_set_in_main(run_script):
    assert "closed model" in run_script(IN_MAIN).out


IN_MAIN = """
import disttask, os

def load():
    global model
    model = "model"

def close():
    os.write(1, f"closed {model}".encode())

with disttask.Executor(1, initializer=load, finalizer=close) as executor:
    executor.submit(pow, 2, 3).result()
"""


def test_a_finalizer_that_cannot_be_called_or_pickled():
    with pytest.raises(TypeError, match="finalizer must be a callable"):
        disttask.Executor(1, finalizer=3)
    lock = __import__("threading").Lock()
    with pytest.raises(disttask.SerializationError, match="finalizer cannot be pickled"):
        disttask.Executor(1, finalizer=lambda: lock)


# --- the beginning ----------------------------------------------------------------------------------------------------


def test_preload(make_executor):
    executor = make_executor(1, preload=["colorsys", "xml.dom.minidom"])
    assert executor.submit(life_tasks.loaded, "colorsys").result(timeout=20)
    assert executor.submit(life_tasks.loaded, "xml.dom.minidom").result(timeout=20)
    assert not make_executor(1).submit(life_tasks.loaded, "colorsys").result(timeout=20)


def test_preload_comes_before_the_initializer(make_executor):
    executor = make_executor(1, preload=["colorsys"], initializer=start_tasks.take_loaded, initargs=("colorsys",))
    assert executor.submit(start_tasks.kept).result(timeout=20) == [True]


def test_a_module_that_cannot_be_imported_breaks_the_pool(make_executor):
    executor = make_executor(1, preload=["json", "there_is_no_such_module"])
    with pytest.raises(disttask.PoolBroken) as caught:
        executor.submit(add, 1).result(timeout=20)
    assert "the import of there_is_no_such_module, which preload names, failed in worker pid" in str(caught.value)
    assert "ModuleNotFoundError" in str(caught.value)


@pytest.mark.parametrize("wrong", ["json", [3], ["json; import os"], [""], [".x"]])
def test_a_wrong_preload(wrong):
    with pytest.raises((ValueError, TypeError), match="preload"):
        disttask.Executor(1, preload=wrong)


def test_env(make_executor, monkeypatch):
    monkeypatch.setenv("FROM_HOST", "host")
    monkeypatch.setenv("CHANGED", "host")
    executor = make_executor(1, env={"CHANGED": "worker", "ADDED": "ä=1", "PYTHONHASHSEED": "7"})
    names = ("FROM_HOST", "CHANGED", "ADDED", "PYTHONHASHSEED")
    expected = ["host", "worker", "ä=1", "7"]
    assert executor.submit(life_tasks.environment, *names).result(timeout=20) == expected
    (pid,) = wait_idle(executor)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid))
    assert executor.submit(life_tasks.environment, *names).result(timeout=20) == expected


@pytest.mark.parametrize("wrong", [{"A": 1}, {1: "a"}, {"": "a"}, {"A=B": "a"}, {"A": "a\0"}])
def test_a_wrong_env(wrong):
    with pytest.raises((ValueError, TypeError), match="env"):
        disttask.Executor(1, env=wrong)


THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


@pytest.fixture
def threads(monkeypatch, make_executor):
    """What workers are told, by way of an executor with these arguments."""
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)

    def told(*args, **kwargs):
        executor = make_executor(*args, **kwargs)
        return executor.submit(life_tasks.environment, *THREADS).result(timeout=20)

    return told


def test_threads_share_the_processors(threads):
    cpus = disttask.Executor.__init__.__globals__["_native"].usable_cpus()
    assert threads(1) == [str(cpus)] * 6
    assert threads(cpus) == ["1"] * 6
    assert threads(cpus + 1) == ["1"] * 6
    assert "OMP_NUM_THREADS" not in os.environ


def test_threads_as_said(threads):
    assert threads(2, blas_threads=3) == ["3"] * 6
    assert threads(2, blas_threads=False) == [None] * 6


def test_threads_that_the_user_set(threads, monkeypatch):
    monkeypatch.setenv("MKL_NUM_THREADS", "5")
    assert threads(2) == ["1", "1", "5", "1", "1", "1"]
    assert threads(2, env={"NUMEXPR_NUM_THREADS": "7"}) == ["1", "1", "5", "1", "1", "7"]
    assert threads(2, blas_threads=2, env={"NUMEXPR_NUM_THREADS": "7"}) == ["2"] * 5 + ["7"]
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert threads(2) == ["4", None, "5", None, None, None], "the others follow it by themselves"


def test_threads_after_resize(make_executor, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cpus = disttask.Executor.__init__.__globals__["_native"].usable_cpus()
    executor = make_executor(cpus)
    executor.resize(1)
    executor.restart()
    assert executor.submit(life_tasks.environment, "OMP_NUM_THREADS").result(timeout=20) == [str(cpus)]


@pytest.mark.parametrize("wrong", [0, -1, True, "2", 1.5])
def test_wrong_threads(wrong):
    with pytest.raises((ValueError, TypeError), match="blas_threads must be"):
        disttask.Executor(1, blas_threads=wrong)


def test_random_numbers_differ(make_executor):
    """Also between a worker and its successor."""
    pytest.importorskip("numpy")
    executor = make_executor(2, max_tasks_per_child=1)
    drawn = [future.result(timeout=60) for future in [executor.submit(life_tasks.draw, 0.05) for _ in range(6)]]
    pids, numbers, arrays = map(set, zip(*drawn, strict=True))
    assert len(pids) == len(numbers) == len(arrays) == 6


COVERAGE = """
[run]
parallel = true
source = measured
"""


def test_coverage_sees_tasks(run_script, tmp_path):
    """As its documentation says for subprocesses: a variable, and a line that each interpreter runs at its start."""
    coverage = pytest.importorskip("coverage")
    (tmp_path / "measured.py").write_text("def f(x):\n    return x + 1\n")
    (tmp_path / "sitecustomize.py").write_text("import coverage\ncoverage.process_startup()\n")
    (tmp_path / "rc").write_text(COVERAGE + f"data_file = {tmp_path / 'data'}\n")
    path = os.pathsep.join([str(tmp_path), os.path.dirname(__file__)])
    env = {"COVERAGE_PROCESS_START": str(tmp_path / "rc"), "PYTHONPATH": path}
    run_script(COVERED, env=env)
    data = coverage.CoverageData(basename=str(tmp_path / "data.all"))
    files = sorted(tmp_path.glob("data.*"))
    assert len(files) >= 2
    for file in files:
        part = coverage.CoverageData(basename=str(file))
        part.read()
        data.update(part)
    assert 2 in data.lines(str(tmp_path / "measured.py")), "the body ran in the worker only"


COVERED = """
import disttask, measured
with disttask.Executor(1) as executor:
    assert executor.submit(measured.f, 1).result() == 2
"""
