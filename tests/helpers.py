"""What the tests share: waiting for conditions, looking at processes and descriptors, running scripts."""

import os
import signal
import subprocess
import sys
import time
import uuid
import weakref
from dataclasses import dataclass
from pathlib import Path

import psutil

TESTS = Path(__file__).resolve().parent
MARK = "DISTTASK_TEST_MARK"

# Each means that the interpreter, or the Rust side, came apart.
ALARMS = ("Fatal", "panicked", "Exception ignored", "Segmentation fault", "core dumped", "ResourceWarning")


def wait_until(condition, timeout=10.0, what=None):
    """Wait for `condition()` to be true, and return its value. What is waited for stands in the failure."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what or condition}")
        time.sleep(0.01)
    return value


def open_fds():
    """Descriptors of this process and what they are."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the one that listed the directory
    return found


def children():
    """Pids of all children of this process, zombies included."""
    return {child.pid for child in psutil.Process().children()}


def zombies():
    return [child.pid for child in psutil.Process().children() if child.status() == psutil.STATUS_ZOMBIE]


def is_alive(pid):
    """Whether there is such a process, and it is no zombie."""
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def workers_in(executor, state):
    return [worker for worker in executor.status()["workers"] if worker["state"] == state]


def wait_idle(executor, timeout=10.0):
    """Wait until each place has an idle worker; return their pids."""

    def all_idle():
        workers = executor.status()["workers"]
        idle = all(worker["state"] == "idle" for worker in workers)
        return [worker["pid"] for worker in workers] if idle else None

    return wait_until(all_idle, timeout, "all workers idle")


def wait_busy(executor, count=1, timeout=10.0):
    """Wait until so many workers are busy; return their pids."""

    def enough():
        pids = [worker["pid"] for worker in workers_in(executor, "busy")]
        return pids if len(pids) >= count else None

    return wait_until(enough, timeout, f"{count} busy workers")


def assert_usable(executor, count=100):
    """The pool takes work and answers it right."""
    futures = [executor.submit(pow, number, 2) for number in range(count)]
    assert [future.result(timeout=20) for future in futures] == [number**2 for number in range(count)]


# --- scripts in a process of their own -------------------------------------------------------------


@dataclass
class Ended:
    """How a script ended."""

    status: int
    out: str
    err: str
    seconds: float


class Script:
    """A script under the interpreter that runs the tests, and everything that it starts."""

    def __init__(self, folder, source, *, args=(), flags=(), stdin=None, env=None):
        self.mark = uuid.uuid4().hex
        self._out, self._err = folder / f"{self.mark}.out", folder / f"{self.mark}.err"
        program = folder / f"script_{self.mark}.py"
        program.write_text(source)
        where = [] if stdin is not None else [str(program), *args]
        environment = {**os.environ, MARK: self.mark, "PYTHONPATH": str(TESTS), **(env or {})}
        self.started = time.monotonic()
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-X", "faulthandler", *flags, *where],
                stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=environment,
                start_new_session=True,
            )
        if stdin is not None:
            self.process.stdin.write(stdin.encode())
            self.process.stdin.close()

    @property
    def pid(self):
        return self.process.pid

    @property
    def out(self):
        return self._out.read_text(errors="replace")

    @property
    def err(self):
        return self._err.read_text(errors="replace")

    def send(self, signum):
        self.process.send_signal(signum)

    def wait_out(self, text, timeout=10.0):
        """Wait until the script has printed this."""
        wait_until(lambda: text in self.out or self.process.poll() is not None, timeout, f"{text!r} printed")
        assert text in self.out, f"ended with {self.process.returncode}:\n{self.out}\n{self.err}"

    def relatives(self):
        """Living processes that descend from the script (they inherit its mark), itself excluded."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.pid != self.pid and process.environ().get(MARK) == self.mark:
                    found.append(process.pid)
            except (psutil.Error, OSError):
                continue
        return found

    def wait(self, timeout=10.0, alarms=ALARMS):
        """Wait for the end; no process may be left one second after it."""
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # faulthandler writes the stacks
            self.process.wait(5)
            self.kill_all()
            raise AssertionError(f"did not end within {timeout} s:\n{self.out}\n{self.err}") from None
        ended = Ended(status, self.out, self.err, time.monotonic() - self.started)
        try:
            wait_until(lambda: not self.relatives(), 1.0, "all workers gone a second after the host")
        finally:
            self.kill_all()
        for alarm in alarms:
            assert alarm not in ended.err, ended.err
        return ended

    def kill_all(self):
        for pid in [self.pid, *self.relatives()]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()


def counted_class():
    """A class that knows how many of it are alive, and travels as its number."""

    class Item:
        alive = 0

        def __init__(self, n):
            self.n = n
            Item.alive += 1
            weakref.finalize(self, Item.died)

        @staticmethod
        def died():
            Item.alive -= 1

        def __reduce__(self):
            return int, (self.n,)

    return Item
