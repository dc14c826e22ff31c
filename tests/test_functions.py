"""Functions travel once where that changes nothing, and anew where it could: a stale function is a bug."""

import gc
import sys
import textwrap
import types
import weakref

import pytest

import disttask
import tasks
from disttask import _functions


def by_value(source, **names):
    """A function as a script or a notebook would have it: in ``__main__``."""
    module = types.ModuleType("__main__")
    vars(module).update(names)
    exec(textwrap.dedent(source), vars(module))
    return module


def travels_once(executor, func):
    return executor._function(func) is not None


def test_importable_functions_and_builtins_travel_by_name(executor):
    for func in (tasks.add, len, dict, pow):
        assert travels_once(executor, func), func
    assert executor.submit(tasks.add, 1, 2).result(timeout=10) == 3


def test_a_cached_function_of_main_travels_with_an_empty_cache(executor):
    source = """
    import functools
    @functools.lru_cache(maxsize=50, typed=True)
    def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
    fib.note = "mine"
    def use(n): return fib(n), fib.cache_info().misses, fib.cache_parameters(), fib.note
    """
    module = by_value(source)
    module.fib(5)
    expected = (832040, 31, {"maxsize": 50, "typed": True}, "mine")
    assert executor.submit(module.use, 30).result(timeout=10) == expected
    assert executor.submit(module.fib, 30).result(timeout=10) == 832040
    assert list(executor.map(module.fib, range(10))) == [0, 1, 1, 2, 3, 5, 8, 13, 21, 34]


@pytest.mark.parametrize(
    "source",
    [
        "f = lambda x: x + 1",
        "import math\ndef f(x): return math.floor(x) + 1",
        "ONE = 1\ndef f(x): return x + ONE",
        "def g(x): return x + 1\ndef f(x): return g(x)",
        "def make(one):\n    return lambda x: x + one\nf = make(1)",
        "def f(x, one=(1, 'a', b'b', None)): return x + one[0]",
        "def f(x): return x + 1 if x else f(x + 1)",
    ],
)
def test_what_uses_nothing_mutable_travels_once(executor, source):
    func = by_value(source).f
    assert travels_once(executor, func)
    assert [executor.submit(func, x).result(timeout=10) for x in (1, 2)] == [2, 3]


@pytest.mark.parametrize(
    "source",
    [
        "SEEN = []\ndef f(x): SEEN.append(x); return len(SEEN)",
        "def f(x, seen=[]): seen.append(x); return len(seen)",
        "def f(x, *, seen=[]): seen.append(x); return len(seen)",
        "def make():\n    seen = []\n    def f(x): seen.append(x); return len(seen)\n    return f\nf = make()",
        "N = 0\ndef f(x):\n    global N\n    N += 1\n    return N",
        "def make():\n    n = 0\n    def f(x):\n        nonlocal n; n += 1; return n\n    return f\nf = make()",
        "class C:\n    n = 0\ndef f(x): C.n += 1; return C.n",
        "def f(x): f.n += 1; return f.n\nf.n = 0",
        "def g(x, seen=[]): seen.append(x); return len(seen)\ndef f(x): return g(x)",
        "T = ([],)\ndef f(x): T[0].append(x); return len(T[0])",
    ],
)
def test_what_could_change_is_pickled_with_each_task_and_nothing_bleeds(make_executor, source):
    executor = make_executor(1)
    func = by_value(source).f
    assert not travels_once(executor, func)
    assert [executor.submit(func, 0).result(timeout=10) for _ in range(3)] == [1, 1, 1]


def test_a_function_that_is_defined_again_is_another_one(executor):
    scope = by_value("def f(): return 1")
    assert executor.submit(scope.f).result(timeout=10) == 1
    exec("def f(): return 2", vars(scope))
    assert executor.submit(scope.f).result(timeout=10) == 2
    for number in range(50):  # addresses are used again
        exec(f"def f(): return {number}", vars(scope))
        assert executor.submit(scope.f).result(timeout=10) == number


def test_what_it_uses_may_be_replaced_and_is_seen(executor):
    scope = by_value("def g(): return 'old'\nN = 1\ndef f(): return g(), N")
    assert executor.submit(scope.f).result(timeout=10) == ("old", 1)
    scope.N = 2
    assert executor.submit(scope.f).result(timeout=10) == ("old", 2)
    exec("def g(): return 'new'", vars(scope))
    assert executor.submit(scope.f).result(timeout=10) == ("new", 2)
    scope.g.__defaults__ = ()
    scope.N = [3]
    assert executor.submit(scope.f).result(timeout=10) == ("new", [3])
    scope.N.append(4)
    assert executor.submit(scope.f).result(timeout=10) == ("new", [3, 4])


def test_parts_of_the_function_may_be_replaced_and_are_seen(executor):
    scope = by_value(
        "def make(n): return lambda: n\nf = make(1)\ndef g(x=1): return x\ndef h(): return 1\ndef i(): return 2"
    )
    assert executor.submit(scope.f).result(timeout=10) == 1
    scope.f.__closure__[0].cell_contents = 5
    assert executor.submit(scope.f).result(timeout=10) == 5
    assert executor.submit(scope.g).result(timeout=10) == 1
    scope.g.__defaults__ = (7,)
    assert executor.submit(scope.g).result(timeout=10) == 7
    assert executor.submit(scope.h).result(timeout=10) == 1
    scope.h.__code__ = scope.i.__code__
    assert executor.submit(scope.h).result(timeout=10) == 2
    scope.h.__kwdefaults__ = {"x": 1}
    assert executor.submit(scope.h).result(timeout=10) == 2


def test_a_global_that_was_missing_and_came(executor):
    scope = by_value("def f():\n    try:\n        return LATE\n    except NameError:\n        return 'missing'")
    assert executor.submit(scope.f).result(timeout=10) == "missing"
    scope.LATE = "here"
    assert executor.submit(scope.f).result(timeout=10) == "here"


def test_a_dead_function_is_forgotten_and_its_captures_freed(executor):
    scope = by_value("def make(data):\n    return lambda: f and len(data)\nf = make(b'x' * 1000)")
    data = scope.f.__closure__[0].cell_contents
    assert executor.submit(scope.f).result(timeout=10) == 1000
    assert travels_once(executor, scope.f)
    dead, before = weakref.ref(scope.f), sys.getrefcount(data)
    scope.f = None
    gc.collect()
    assert dead() is None
    gc.collect()
    assert sys.getrefcount(data) < before


def test_task_pickles_once_whatever_it_captures(executor):
    scope = by_value("SEEN = [1]\ndef f(x): SEEN.append(x); return list(SEEN)")
    once = disttask.task(scope.f)
    assert executor.submit(once, 2).result(timeout=10) == [1, 2]
    scope.SEEN.append(9)
    assert executor.submit(once, 3).result(timeout=10) == [1, 3], "as it was, and nothing bleeds from task to task"
    assert executor.submit(scope.f, 3).result(timeout=10) == [1, 9, 3]
    assert once(4) == [1, 9, 4], "here it is the function itself"
    assert once.__name__ == "f"


def test_task_as_a_decorator(executor):
    scope = by_value("@task\ndef f(x, y=1): return x + y", task=disttask.task)
    assert executor.submit(scope.f, 1).result(timeout=10) == 2
    assert executor.submit(scope.f, 1, y=5).result(timeout=10) == 6
    assert list(executor.map(scope.f, range(3))) == [1, 2, 3]
    with pytest.raises(TypeError, match="callable"):
        disttask.task(3)


def test_an_unpicklable_function_says_so(executor):
    import threading

    lock = threading.Lock()
    once = disttask.task(lambda: lock)
    with pytest.raises(disttask.SerializationError):
        executor.submit(once).result(timeout=10)


def test_every_shape_that_is_sent_is_one_that_is_compared():
    scope = by_value("def h(): return 1\ndef g(): return h()\ndef f(): return g()")
    _, _, shapes, reuse = _functions.prepare(scope.f)
    assert [shape[0]() for shape in shapes] == [scope.f, scope.g, scope.h]
    assert reuse


class Counter:
    """With tasks among its methods."""

    step = 10

    def __init__(self, start):
        self.start = start

    @disttask.task(name="adding")
    def add(self, number):
        return self.start + number

    @disttask.task
    def plain(self, number):
        return self.start + number

    @classmethod
    @disttask.task(name="stepping")
    def steps(cls, number):
        return cls.step * number

    @staticmethod
    @disttask.task(name="doubling")
    def double(number):
        return 2 * number

    @disttask.task(name="tripling")
    @staticmethod
    def triple(number):
        return 3 * number

    @disttask.task(name="inner")
    def inner(self, number):
        return disttask.submit(self.add, number).result()

    biggest = disttask.task(max)


def submitted(executor, method, *args):
    future = executor.submit(method, *args)
    return future.result(timeout=10), future._name()


def test_a_method_can_be_a_task(executor):
    counter = Counter(1)
    assert isinstance(Counter.add, disttask.Task)
    assert counter.add(2) == counter.plain(2) == 3
    assert (Counter.steps(2), counter.steps(3), Counter.double(2), counter.double(3)) == (20, 30, 4, 6)
    assert (Counter.triple(2), counter.triple(3), counter.biggest(1, 2)) == (6, 9, 2)

    assert submitted(executor, counter.add, 2) == (3, "adding")
    assert submitted(executor, counter.plain, 2) == (3, "Counter.plain")
    assert submitted(executor, Counter.add, counter, 2) == (3, "adding")
    assert submitted(executor, Counter.steps, 2) == submitted(executor, counter.steps, 2) == (20, "stepping")
    assert submitted(executor, counter.double, 2) == (4, "doubling")
    assert submitted(executor, counter.triple, 2) == (6, "tripling")
    assert submitted(executor, counter.inner, 2) == (3, "inner")
    assert submitted(executor.options(priority=1), counter.add, 2) == (3, "adding")
    for method, results in ((counter.add, [3, 4]), (counter.plain, [3, 4]), (Counter.steps, [20, 30])):
        assert list(executor.map(method, [2, 3])) == results

    counter.start = 5
    assert submitted(executor, counter.add, 2) == (7, "adding"), "the object goes along as it is now"


def test_what_python_3_13_makes_of_a_class_method(executor):
    method = types.MethodType(vars(Counter)["steps"].__func__, Counter)
    assert (method(2), submitted(executor, method, 2)) == (20, (20, "stepping"))


def test_a_method_of_main_can_be_a_task(run_script):
    ended = run_script("""
import disttask
class Counter:
    @disttask.task(name="adding")
    def add(self, number): return number + 1
with disttask.Executor(1) as executor:
    future = executor.submit(Counter().add, 2)
    print(future.result(), future._name(), list(executor.map(Counter().add, [1, 2])))
print(disttask.submit(Counter().add, 2)._name())
""")
    assert ended.out == "3 adding [2, 3]\nadding\n"


def test_methods_that_cannot_be_tasks_are_refused_in_words(executor):
    with pytest.raises(TypeError, match=r"write @classmethod above @disttask\.task"):
        disttask.task(classmethod(len))

    class Slow:
        @disttask.task
        async def work(self):
            pass

    with pytest.raises(TypeError, match="async def"):
        executor.submit(Slow().work)


class Remembering:
    """A wrapper with attributes, as those of caching libraries."""

    def __init__(self, func):
        self.func = func
        self.options = {"verbose": 1}
        self.plain = None

    def __call__(self, x):
        return "remembered", self.func(x)


def test_a_callable_object_with_attributes_of_a_tasks_names(executor):
    task = disttask.task(Remembering(abs))
    assert task(-1) == ("remembered", 1)
    assert executor.submit(task, -1).result(timeout=10) == ("remembered", 1)
    assert list(executor.map(task, [-1])) == [("remembered", 1)]
    assert disttask.task(retries=3)(disttask.task(abs)).options.retries == 3
