"""Cases that are programs of their own: scripts, what is typed in, Ctrl-C, and a host that dies."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from .case import Context, case, wait_until
from .processes import MARK, marked
from .systems import Hang, Wrong

START = """
import os, sys, time
from complaints import tasks
from complaints.peers import SYSTEMS
kind = SYSTEMS[os.environ["COMPLAINTS_SYSTEM"]]
"""


class Program:
    """A running script of the case, in a session of its own, as a terminal would start it."""

    def __init__(self, context: Context, source: str, typed_in: bool = False) -> None:
        self._out = context.folder / "out"
        self._err = context.folder / "err"
        script = context.folder / "script.py"
        script.write_text(START + source)
        env = {**os.environ, "COMPLAINTS_SYSTEM": context.system, "PYTHONPATH": str(Path(__file__).parents[1])}
        with self._out.open("wb") as out, self._err.open("wb") as err, script.open("rb") as text:
            self.process = subprocess.Popen(
                [sys.executable] if typed_in else [sys.executable, str(script)],
                stdin=text if typed_in else subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=env,
                cwd=context.folder,
                start_new_session=True,
            )

    def saw(self) -> str:
        """What it prints after ``SAW``, or why there is no such line."""
        wait_until(lambda: "SAW" in self._out.read_text() or self.process.poll() is not None)
        text = self._out.read_text()
        if "SAW" in text:
            return text.split("SAW", 1)[1].strip()
        errors = self._err.read_text()
        raise Wrong(error_name(errors) or f"exit status {self.process.returncode}") from Wrong(errors)

    def expect(self, wanted: str) -> None:
        """It prints this."""
        saw = self.saw()
        if saw != wanted:
            raise Wrong(f"{saw} instead of {wanted}")

    def end(self, seconds: float) -> None:
        """Wait for its end."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Wrong("still runs") from None


def error_name(text: str) -> str:
    """The class of the exception that ended a program, from what it has printed."""
    lines = [line for line in text.splitlines() if re.match(r"[\w.]+(Error|Exception|Interrupt|Pool)\b", line)]
    return lines[-1].partition(":")[0].rpartition(".")[2] if lines else ""


def assert_nothing_left(seconds: float) -> None:
    try:
        wait_until(lambda: not marked(os.environ[MARK]), seconds)
    except Hang:
        raise Wrong(f"{len(marked(os.environ[MARK]))} processes left") from None


TYPED = """
def f(x):
    return x + 1

pool = kind(by_value=True)
first = pool.call(f, 1)

def f(x):
    return x * 10

print("SAW", first, pool.call(f, 1), flush=True)
os._exit(0)
"""


@case(
    "11",
    "Functions of a REPL or a notebook do not reach workers",
    "one that is typed in, and its second version while the pool lives: both have the right results",
    seen="jupyter/notebook#5261",
)
def typed_in(context: Context) -> None:
    Program(context, TYPED, typed_in=True).expect("2 10")


UNGUARDED = """
def f(x):
    return x + 1

print("SAW", kind().call(f, 1), flush=True)
os._exit(0)
"""


@case(
    "12",
    "A script needs a main guard",
    "one without makes a pool, and has a result",
    seen="python/cpython#128145",
)
def unguarded(context: Context) -> None:
    Program(context, UNGUARDED).expect("2")


GLOBALS = """
LIMIT = 1

def f():
    return LIMIT

if __name__ == "__main__":
    pool = kind(by_value=True)
    first = pool.call(f)
    LIMIT = 2
    print("SAW", first, pool.call(f), flush=True)
    os._exit(0)
"""


@case(
    "13",
    "Globals of the script are stale in workers",
    "one is changed between two submits: each task sees the value of its moment",
    seen="python/cpython#126831",
)
def stale_globals(context: Context) -> None:
    Program(context, GLOBALS).expect("1 2")


CLOSURE = """
def adder(n):
    return lambda x: x + n

if __name__ == "__main__":
    pool = kind(by_value=True)
    print("SAW", pool.call(adder(3), 4), flush=True)
    os._exit(0)
"""


@case(
    "13",
    "Closures and lambdas do not reach workers",
    "a closure is submitted: it has its result",
    seen="python/cpython#126831",
)
def closures(context: Context) -> None:
    Program(context, CLOSURE).expect("7")


INTERRUPTED = """
if __name__ == "__main__":
    pool = kind()
    with pool.native:
        handles = [pool.submit(tasks.sleep, 60, "begun") for _ in range(4)]
        for handle in handles:
            pool.result(handle, 60)
"""


@case(
    "14",
    "Ctrl-C does not end the program",
    "in a `with` block, with four tasks of a minute: it ends within 5 s, and no process is left 2 s later",
    seen="python/cpython#125886",
)
def interrupt(context: Context) -> None:
    program = Program(context, INTERRUPTED)
    context.wait_lines("begun", 2)
    time.sleep(0.2)
    os.killpg(program.process.pid, signal.SIGINT)
    program.end(5)
    assert_nothing_left(2)


CAUGHT = """
if __name__ == "__main__":
    pool = kind()
    handle = pool.submit(tasks.sleep, 1, "begun")
    try:
        pool.result(handle, 30)
    except KeyboardInterrupt:
        print("caught", flush=True)
    time.sleep(0.5)  # whoever has died of it is missed by now
    found = [pool.result(handle) for handle in [pool.submit(tasks.identity, n) for n in range(4)]]
    print("SAW", *found, flush=True)
    os._exit(0)
"""


@case(
    "14",
    "A Ctrl-C that is caught spoils the pool",
    "during a task of a second, as a terminal sends it, to all: the next four tasks have results",
    seen="joblib/loky#477",
)
def caught_interrupt(context: Context) -> None:
    program = Program(context, CAUGHT)
    context.wait_lines("begun")
    time.sleep(0.2)
    os.killpg(program.process.pid, signal.SIGINT)
    program.expect("0 1 2 3")


KILLED = """
if __name__ == "__main__":
    pool = kind(3)
    handles = [pool.submit(tasks.sleep, 60, "begun") for _ in range(2)]
    time.sleep(0.5)
    print("SAW", flush=True)
    time.sleep(60)
"""


@case(
    "15",
    "Workers outlive their host",
    "`SIGKILL` for the host, with two workers busy and one idle: no process is left after 2 s",
    seen="joblib/loky#360",
)
def orphans(context: Context) -> None:
    program = Program(context, KILLED)
    context.wait_lines("begun", 2)
    program.saw()
    program.process.kill()
    program.end(5)
    assert_nothing_left(2)


COVERED = """
if __name__ == "__main__":
    import measured
    pool = kind()
    with pool.native:
        assert pool.call(measured.f, 1) == 2
"""


@case(
    "also",
    "Coverage is lost in workers",
    "coverage.py, set up as it says for subprocesses: it has seen the body of a task",
    seen="pytest-dev/pytest-cov#250",
)
def coverage(context: Context) -> None:
    from importlib import import_module

    (context.folder / "measured.py").write_text("def f(x):\n    return x + 1\n")
    (context.folder / "script.py").write_text(START + COVERED)
    (context.folder / "rc").write_text(
        "[run]\nparallel = True\nconcurrency = multiprocessing,thread\nsigterm = True\npatch = subprocess,_exit\n"
    )
    env = {
        **os.environ,
        "COMPLAINTS_SYSTEM": context.system,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), str(context.folder)]),
    }
    command = [sys.executable, "-m", "coverage", "run", "--rcfile=rc", "script.py"]
    try:
        done = subprocess.run(
            command, cwd=context.folder, env=env, timeout=15, capture_output=True, text=True, check=False
        )
    except subprocess.TimeoutExpired:
        raise Hang from None
    if done.returncode:
        raise Wrong(error_name(done.stderr)) from Wrong(done.stderr)
    seen: set[int] = set()
    for file in context.folder.glob(".coverage.*"):
        data = import_module("coverage").CoverageData(basename=str(file))
        data.read()
        seen |= set(data.lines(str(context.folder / "measured.py")) or [])
    if 2 not in seen:
        raise Wrong("not measured")
