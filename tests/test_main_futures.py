"""A future in a function is no argument: nobody would know what the task waits for. And what else cannot travel."""

import functools
import threading

import pytest

import by_value_tasks
import disttask
import tasks
from helpers import assert_usable


def refused(future, *texts):
    error = future.exception(10)
    assert isinstance(error, disttask.SerializationError), error
    for text in texts:
        assert text in str(error), error


def test_a_future_that_a_function_uses_is_no_dependency(executor, tmp_path):
    gate = tmp_path / "gate"
    endless = executor.submit(tasks.wait_for_file, gate)
    failed = executor.submit(tasks.fail, ValueError)
    pending = {"list": [endless]}
    holder = type("Holder", (), {})()
    holder.pending = pending

    def default(future=endless):
        return future

    def attribute():
        pass

    attribute.future = endless

    def helper():
        return endless

    try:
        advice = "Pass it as an argument of submit, alone or in a container"
        refused(executor.submit(lambda: endless), "its closure variable `endless` (of type disttask.Future)", advice)
        refused(executor.submit(lambda: failed.result(5)), "its closure variable `failed`", advice)
        refused(executor.submit(lambda: pending), "element [0] of element ['list'] of its closure variable", advice)
        refused(executor.submit(lambda: holder), "of attribute `pending` of its closure variable `holder`", advice)
        refused(executor.submit(default), "its default of `future`", advice)
        refused(executor.submit(attribute), "its attribute `future`", advice)
        refused(executor.submit(lambda: helper() or 1), "`endless` of its closure variable `helper`", advice)
        refused(executor.submit(lambda x=None: endless, x=1), advice)
        refused(executor.options(retries=1, retry_on=OSError).submit(lambda: endless), advice)
        refused(executor.submit(by_value_tasks.call, lambda: endless), "argument 1 (of type function)", advice)
        refused(executor.submit(disttask.task(lambda: endless)), "closure variable `endless`", advice)
        with pytest.raises(disttask.SerializationError, match="closure variable `endless`"):
            executor.map(lambda _: endless, [1])
    finally:
        gate.touch()
    assert_usable(executor, 10)


def test_a_function_that_uses_futures_is_not_run_because_others_fail(run_script):
    run_script("""
import disttask
executor = disttask.Executor(1)
FUTURES = [executor.submit(int, "x")]
def count(): return len(FUTURES)
error = executor.submit(count).exception()
assert isinstance(error, disttask.SerializationError), error
assert "the function count cannot be pickled" in str(error), error
assert "element [0] of its global `FUTURES`" in str(error), error
""")


def test_futures_are_dependencies_in_what_a_function_is_called_with(executor):
    one = executor.submit(tasks.add, 0, 1)
    numbers = [10]

    class Adder:
        def __init__(self, future):
            self.future = future

        def add(self, other):
            return self.future + other + numbers[0]

    assert executor.submit(Adder(one).add, one).result(10) == 12
    assert executor.submit(lambda x, y: x + y + numbers[0], one, y=one).result(10) == 12
    assert executor.submit(by_value_tasks.call, lambda x: x + numbers[0], one).result(10) == 11


# --- what cannot be pickled, and where it is --------------------------------------------------------------------------


class Box:
    def __init__(self, lock):
        self.lock = lock

    def work(self):
        return self.lock


def holding(lock):
    def inner():
        return lock

    return inner


LOCK = threading.Lock()
MAKE = "Make it in an initializer"
BUILD = "build it inside the task"

CALLS = {
    "closure": (lambda: (holding(LOCK),), "function holding.<locals>.inner", "its closure variable `lock`", MAKE),
    "list": (lambda: (len, [1, [LOCK]]), "argument 1 (of type list)", "element [0] of its element [1]", BUILD),
    "dict": (lambda: (len, {"a": 1, "b": LOCK}), "argument 1 (of type dict)", "its element ['b']", BUILD),
    "instance": (lambda: (len, Box({LOCK})), "argument 1 (of type Box)", "of its attribute `lock`", BUILD),
    "method": (lambda: (Box(LOCK).work,), "the function Box.work", "attribute `lock` of its object", BUILD),
    "partial": (lambda: (functools.partial(len, LOCK),), "the function len", "its argument 1", BUILD),
    "itself": (lambda: (len, LOCK), "argument 1 (of type lock) cannot be pickled, so", "worker: TypeError", BUILD),
    "in a function": (lambda: (len, holding(LOCK)), "argument 1", "its closure variable `lock`", MAKE),
    "in both": (lambda: (len, holding(Box(LOCK))), "attribute `lock` of its closure variable `lock`", MAKE),
    "a generator": (lambda: (len, (n for n in ())), "argument 1", "cannot pickle 'generator'", BUILD),
}


@pytest.mark.parametrize("call", CALLS)
def test_the_part_that_cannot_be_pickled_is_named(executor, call):
    make, *texts = CALLS[call]
    refused(executor.submit(*make()), "cannot be pickled, so the task cannot be sent to a worker", *texts)
    with pytest.raises(disttask.SerializationError):
        disttask.serialize_task(*make())


def test_map_names_it_too(executor):
    with pytest.raises(disttask.SerializationError, match="its closure variable `lock` "):
        executor.map(holding(LOCK), [1])
    with pytest.raises(disttask.SerializationError, match=r"an argument \(of type Box\) .* its attribute `lock` "):
        list(executor.map(len, [Box(LOCK)]))


class Hostile:
    """Nothing of it can be looked at."""

    def __reduce_ex__(self, protocol):
        raise RuntimeError("no")


def test_the_search_ends(executor):
    circle = []
    circle += [circle, Hostile(), list(range(100_000))]
    refused(executor.submit(len, circle), "its element [1] (of type test_main_futures.Hostile): RuntimeError: no")
    deep = LOCK
    for _ in range(100):
        deep = [deep]
    refused(executor.submit(len, deep), "element [0] of ... of its element [0]")
    refused(executor.submit(len, [Box(n) for n in range(12_000)] + [LOCK]), "argument 1 (of type list)")


LOCKED = """
import disttask, threading
results_lock = threading.Lock()
def work(_=None):
    with results_lock:
        return helper()
def helper():
    return connection
class Job:
    lock = threading.Lock()
    def run(self):
        return work()
executor = disttask.Executor(1)
for submit in lambda f: executor.submit(f).result(), lambda f: list(executor.map(f, [1])):
    for func in work, disttask.task(work), Job().run:
        try:
            submit(func)
        except disttask.SerializationError as error:
            print(error)
"""


def test_in_a_script(run_script):
    out = run_script(LOCKED).out.splitlines()
    named = "its global `results_lock` (of type _thread.lock): TypeError: cannot pickle '_thread.lock' object"
    assert len(out) == 6
    for line in out[0], out[1], out[3], out[4]:
        assert line.startswith("the function work cannot be pickled"), line
        assert named in line
        assert MAKE in line
    for line in out[2], out[5]:
        assert line.startswith("the function Job.run cannot be pickled"), line
        assert "attribute `lock` of class `Job` of its object" in line
        assert MAKE in line
