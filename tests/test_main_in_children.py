"""A child that `multiprocessing` starts knows the script as ``__mp_main__``. What is defined there travels by value."""

import pytest

CHILD = """
import functools, multiprocessing, sys
from dataclasses import dataclass
from typing import NewType
import disttask, by_value_tasks

UserId = NewType("UserId", int)
TABLE = {}

@dataclass
class Point:
    x: int

class Odd(Exception):
    pass

@functools.lru_cache
def square(x):
    return x * x

def double(point):
    return Point(2 * point.x)

def helped(x):
    return double(Point(square(x))), UserId

def fail():
    raise Odd(3)

def fill():
    TABLE["filled"] = True

def child(queue):
    assert __name__ == "__mp_main__"
    with disttask.Executor(1, initializer=fill) as executor:
        for _ in range(2):
            assert executor.submit(double, Point(2)).result() == Point(4)
            assert executor.submit(helped, 3).result() == (Point(18), UserId)
            assert executor.submit(square, 3).result() == 9
            assert executor.submit(disttask.task(double), Point(2)).result() == Point(4)
            assert executor.submit(by_value_tasks.call, double, Point(2)).result() == Point(4)
            assert executor.submit(by_value_tasks.call, list, [Point(2)]).result() == [Point(2)]
            assert executor.submit(lambda: TABLE).result() == {"filled": True}
            assert list(executor.map(double, map(Point, range(3)))) == [Point(0), Point(2), Point(4)]
            assert list(executor.map(Point, range(3), chunksize=1)) == [Point(0), Point(1), Point(2)]
            try:
                executor.submit(fail).result()
            except Odd as exc:
                assert exc.args == (3,)
    queue.put("fine")

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    queue = context.Queue()
    process = context.Process(target=child, args=(queue,))
    process.start()
    process.join()
    assert process.exitcode == 0
    print(queue.get())
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_functions_of_the_script_in_a_child(run_script, method):
    assert run_script(CHILD, args=(method,)).out == "fine\n"
