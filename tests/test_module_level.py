"""Modules that make an executor when they are imported: the workers of that executor import them, too."""

import pytest

import module_level_tasks as tasks
from helpers import is_alive, wait_until
from tasks import add

POOL = """
import os
import disttask

def init():
    pass

executor = disttask.Executor({arguments})
careful = executor.options(retries=1)

def work(x):
    return x + 1

def both(x):
    return executor.submit(work, x).result() + careful.submit(work, x).result()
"""

USES_IT = """
import psutil
import dbpool
from helpers import wait_idle

def processes():
    return len(psutil.Process().children(recursive=True))

wait_idle(dbpool.executor)
executor = dbpool.executor
print(executor.submit(dbpool.work, 1).result(), dbpool.careful.submit(dbpool.work, 2).result())
print(list(executor.map(dbpool.work, range(50))) == list(range(1, 51)), processes())
"""


@pytest.mark.parametrize("arguments", ["2", "2, initializer=init", "2, preload=['dbpool']"])
def test_a_module_that_makes_an_executor_has_its_workers_and_no_more(run_script, tmp_path, arguments):
    (tmp_path / "dbpool.py").write_text(POOL.format(arguments=arguments))
    assert run_script(USES_IT).out == "2 3\nTrue 2\n"


def test_a_task_may_use_the_executor_of_its_module(run_script, tmp_path):
    (tmp_path / "dbpool.py").write_text(POOL.format(arguments="1, initializer=init"))
    source = USES_IT + "print(executor.submit(dbpool.both, 1).result(), processes())"
    assert run_script(source).out == "2 3\nTrue 1\n4 2\n"


@pytest.mark.parametrize(
    "use", ["ex.submit(f, 3).result()", "list(ex.map(f, [3]))", "ex.options(retries=1).submit(f, 3).result()"]
)
def test_a_module_that_uses_an_executor_when_it_is_imported_is_told_so(run_script, tmp_path, use):
    module = f"import disttask\ndef f(x):\n    return x + 1\nex = disttask.Executor(2)\nprint({use})\n"
    (tmp_path / "pipe.py").write_text(module)
    ended = run_script("import pipe", status=1)  # which sees to it that no process is left
    assert "the module pipe uses an Executor while it is imported" in ended.err
    assert "pipe.py, line 5" in ended.err
    assert "use it in a function" in ended.err
    assert "DeserializationError" in ended.err.splitlines()[-1]
    assert ended.out == ""


def test_a_module_that_is_loaded_by_hand_is_told_as_well(run_script, tmp_path):
    (tmp_path / "pipe.py").write_text("import disttask\nprint(disttask.Executor(1).submit(abs, -1).result())\n")
    source = """
import disttask

def by_hand():
    from importlib import util
    spec = util.spec_from_file_location("pipe", __file__.rpartition("/")[0] + "/pipe.py")
    spec.loader.exec_module(util.module_from_spec(spec))

by_hand()
with disttask.Executor(1) as executor:
    print(executor.submit(by_hand).exception())
"""
    one, other = run_script(source).out.splitlines()
    assert one == "1"
    assert other.startswith("the module pipe uses an Executor while it is imported")


def test_an_initializer_that_uses_its_executor_ends_in_an_error(run_script, tmp_path):
    (tmp_path / "deep.py").write_text(
        "import disttask\ndef init():\n    executor.submit(abs, -1).result()\n"
        "executor = disttask.Executor(1, initializer=init)\n"
    )
    ended = run_script("import deep; print(deep.executor.submit(abs, -1).exception())", timeout=60)
    assert "executors are nested 4 processes deep" in ended.out


def test_pools_in_pools_have_a_limit(make_executor):
    exc = make_executor(1).submit(tasks.deeper, 1).exception(timeout=60)
    assert type(exc) is RuntimeError
    assert "executors are nested 4 processes deep" in str(exc)


def test_an_unused_one_starts_nothing(make_executor):
    same, said, errors, status = make_executor(1).submit(tasks.unused).result(timeout=30)
    assert same
    executor = "<disttask.Executor max_workers=2>"
    assert said == (executor, 2, True, None, f"<disttask.Submitter of {executor} with priority=2, retries=1>", 2)
    refused = "RuntimeError: cannot schedule new futures after shutdown"
    assert [error[: len(refused)] for error in errors] == [refused] * len(errors)
    totals = make_executor(1).status()["totals"]
    assert status == {
        "workers": [], "queued": 0, "running": 0, "totals": totals, "accepting": False, "broken": None,
    }  # fmt: skip


def test_wrong_arguments_are_refused_before_the_first_use(make_executor):
    errors = make_executor(1).submit(tasks.wrong).result(timeout=30)
    kinds = ["ValueError", "TypeError", "SerializationError", "ValueError", "ValueError", "TypeError"]
    assert [error.partition(":")[0] for error in errors] == kinds


def test_a_worker_ends_with_one_that_is_unused(make_executor):
    executor = make_executor(1)
    pid = executor.submit(tasks.leave_unused).result(timeout=30)
    executor.shutdown()
    wait_until(lambda: not is_alive(pid), 5, "the worker gone")
    assert executor.status()["totals"]["worker_deaths"] == 0


@pytest.mark.parametrize(("use", "status"), [(False, 7), (True, 6)])
def test_an_unused_one_in_a_forked_child(make_executor, use, status):
    assert make_executor(1).submit(tasks.in_a_forked_child, use).result(timeout=60) == (status, 2)


def test_every_first_use(make_executor):
    found, left = make_executor(1).submit(tasks.first_uses).result(timeout=60)
    assert left == set()
    assert found == {
        "submit": 2, "kept": [2, 2], "map": [2, 3], "chunks": [2, 3], "options": 2, "options, then": [2] * 4,
        "task": 2, "put": 2, "status": True, "closure": [1],
    }  # fmt: skip


def test_users_own_classes(make_executor):
    found = make_executor(1).submit(tasks.subclassed).result(timeout=30)
    assert found == [("me", 1, "Counting"), (2, 0, "Counting")]


def test_two_first_users_start_one_pool(make_executor):
    executor = make_executor(1)
    for _ in range(10):
        values, workers = executor.submit(tasks.threads_at_once, 8).result(timeout=30)
        assert (values, workers) == ([add(number) for number in range(8)], 1)


def test_what_a_signal_handler_raises_in_a_first_use_leaves_room_for_a_second(make_executor):
    wrong, points = make_executor(1).submit(tasks.interrupted_first_uses).result(timeout=100)
    assert wrong == []
    assert points > 30
