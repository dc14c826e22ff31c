"""What users read when something is wrong: the error is their own, says how often it was tried, and what to do."""

import asyncio
import inspect
import os
import signal
import sys

import disttask


class Frozen(Exception):
    """Refuses to be written to, as an exception that is a frozen dataclass does."""

    def __setattr__(self, name, value):
        raise AttributeError(name)


class Slotted(Exception):
    """Comes back without its attributes, so without its notes."""

    def __reduce__(self):
        return Slotted, self.args


def broken_predicate(exc):
    return exc.no_such_thing


def exits(exc):
    sys.exit(3)


class AsyncCall:
    async def __call__(self):
        return 1

    async def method(self):
        return 1


class RunsItself:
    """Holds an async function, and runs it."""

    def __init__(self, func):
        self.func = func

    def __call__(self, *args):
        return asyncio.run(self.func(*args))


async def fetch(url):
    return url


def raise_from_here():
    raise ValueError("here")


def count():
    yield 1


async def acount():
    yield 1


def notes(exc):
    return getattr(exc, "__notes__", [])


def again(executor, retries=2, **options):
    return executor.options(retries=retries, backoff=0, **options)


# --- where code that travels by value comes from ----------------------------------------------------------------------


def test_tracebacks_name_the_file_of_a_lambda_and_show_its_line(executor):
    fail = lambda: 1 / 0  # noqa: E731
    line = fail.__code__.co_firstlineno
    for submit in (executor.submit, again(executor, retry_on=KeyError).submit):
        text = str(submit(fail).exception(timeout=10).__cause__)
        assert f'  File "{__file__}", line {line}, in <lambda>\n    fail = lambda: 1 / 0' in text


def test_all_ways_of_pickling_keep_the_file(executor):
    def where():
        def inner():
            return sys._getframe().f_code.co_filename

        return inner(), sys._getframe().f_code.co_filename

    held = []
    uses_what_changes = lambda: (held, where())[1]  # noqa: E731
    expected = (__file__, __file__)
    assert executor.submit(where).result(timeout=10) == expected
    assert executor.submit(uses_what_changes).result(timeout=10) == expected
    assert executor.submit(disttask.task(uses_what_changes)).result(timeout=10) == expected
    assert executor.submit(lambda func: func(), func=where).result(timeout=10) == expected
    assert list(executor.map(lambda _: where(), [1])) == [expected]
    assert executor.submit(lambda: where).result(timeout=10).__code__.co_filename == __file__
    lines = executor.submit(lambda: inspect.getsource(where)).result(timeout=10)
    assert lines.lstrip().startswith("def where():")


def test_the_file_is_kept_where_multiprocessing_pickles(run_script):
    ended = run_script("""
import multiprocessing.reduction, sys
import disttask
with disttask.Executor(1) as executor:
    print(executor.submit(lambda: sys._getframe().f_code.co_filename).result() == __file__)
""")
    assert ended.out == "True\n"


def test_a_function_that_travels_once_still_does(executor):
    made = {}
    exec(compile("def f(x): return x + 1", "<nowhere>", "exec"), made)
    assert executor._function(made["f"]) is not None
    assert executor._function(made["f"]).name == "f"
    assert executor.submit(made["f"], 1).result(timeout=10) == 2


def test_source_that_only_the_host_has_is_shown(executor):
    """As it is with the cells of a notebook."""
    import linecache

    name = "/nowhere/cell.py"
    source = "def f(x):\n    return 1 / x\n"
    made = {}
    exec(compile(source, name, "exec"), made)
    bare = str(executor.submit(made["f"], 0).exception(timeout=10).__cause__)
    assert f'  File "{name}", line 2, in f\nZeroDivisionError' in bare
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    try:
        shown = str(executor.submit(made["f"], 0).exception(timeout=10).__cause__)
    finally:
        del linecache.cache[name]
    assert f'  File "{name}", line 2, in f\n    return 1 / x\nZeroDivisionError' in shown


def test_the_stack_of_a_crash_names_the_file_once(executor):
    def meet_a_signal():
        os.kill(os.getpid(), signal.SIGSEGV)

    crash = executor.submit(meet_a_signal).exception(timeout=20)
    assert str(crash).count(" in test_the_stack_of_a_crash_names_the_file_once.<locals>.meet_a_signal") <= 1
    assert str(crash).count("in meet_a_signal") == 1
    assert f'File "{__file__}"' in crash.stack
