"""Tasks that fork. A child says what it has seen by its exit status, or in a file."""

import fcntl
import logging
import multiprocessing
import os
import re
import resource
import subprocess
import sys
import threading
import time

import numpy as np

import disttask
from tasks import log


def in_child(function):
    """Run it in a forked child: whether it returned something true. A child that hangs counts as one that says no."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if function() else 1
        finally:
            os._exit(status)
    return ended_well(pid)


def ended_well(pid, seconds=10):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return status == 0
        time.sleep(0.002)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return False


def private_ranges():
    """Parts of the other side's arenas that this process has made its own."""
    with open("/proc/self/maps") as maps:
        return len(re.findall(r" rw-p .*disttask-arena", maps.read()))


# --- arguments ------------------------------------------------------------------------------------------------------


def written_by_the_child(buffer):
    view = memoryview(buffer)

    def write():
        right = view[0] == view[-1] == 1
        view[:] = bytes([2]) * len(view)
        return right

    right = in_child(write)
    return right, view[0], view[-1], len(view)


def written_by_both(buffer, forks):
    """Each child has what its parent had at the fork, and what the parent writes meanwhile is not seen there."""
    view = memoryview(buffer)
    right = 0
    for number in range(1, forks + 1):
        view[0] = view[-1] = number
        go, going = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.read(go, 1)
            os._exit(0 if view[0] == view[-1] == number else 1)
        view[0] = view[-1] = 99
        os.write(going, b"x")
        right += ended_well(pid)
        right += view[0] == view[-1] == 99
        os.close(go)
        os.close(going)
    return right, private_ranges()


def leave_a_child_with(buffer, path):
    """The child outlives the task, looks at its copy when it may, and writes to it."""
    view = memoryview(buffer)
    away, gone = os.pipe()
    if os.fork() == 0:
        os.setsid()  # the group of a worker that dies is killed
        os.write(gone, b"x")
        try:
            while not os.path.exists(f"{path}.go"):
                time.sleep(0.01)
            log(path, f"child sees {view[0]} {view[-1]}")
            view[:] = bytes([7]) * len(view)
            log(path, "child has written")
        finally:
            os._exit(0)
    os.read(away, 1)
    os.close(away)
    os.close(gone)
    return view[0]


def look_while(buffer, path):
    """Let that child go on, and see what becomes of an argument that stands where its one stood."""
    view = memoryview(buffer)
    with open(f"{path}.go", "w"):
        pass
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with open(path, "a+") as notes:
            notes.seek(0)
            if "has written" in notes.read():
                break
        time.sleep(0.01)
    return bytes(view) == bytes([3]) * len(view)


def fork_and_sum(array):
    assert in_child(lambda: array[0] == array[-1])
    assert private_ranges() == 1
    return float(array.sum())


def counted_by_a_thread(array, rounds):
    """A thread adds without the GIL while the main one forks. What it has written must all be there."""
    view = array.view()
    thread = threading.Thread(target=lambda: [np.add(view, 1, out=view) for _ in range(rounds)])
    thread.start()
    while view[0] == 0:  # until it is at it
        pass
    right = in_child(lambda: array.size > 0)
    thread.join()
    return right and bool((array == rounds).all())


def two_threads_fork(array):
    """Whoever comes second waits for what the first has begun, and both children have copies."""
    results = []

    def write():
        array[:] = 5
        return True

    threads = [threading.Thread(target=lambda: results.append(in_child(write))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results, float(array.sum())


def grandchild(array):
    def child():
        array[:] = 2

        def write():
            right = (array == 2).all()
            array[:] = 3
            return right

        return in_child(write) and (array == 2).all()

    return in_child(child) and bool((array == 1).all())


def start_a_program(array):
    """No copies are made for a program."""
    status = subprocess.run([sys.executable, "-S", "-c", ""], check=False).returncode
    return status, private_ranges(), float(array[0])


def fork_without_memory(array):
    """Where no copies can be had, a message says so, and the task goes on."""
    old = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (4096, old[1]))
    try:
        pid = os.fork()
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, old)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    first = private_ranges()
    return first, in_child(lambda: array.fill(9) is None), private_ranges(), float(array.sum())


def fork_with_a_closed_descriptor(array):
    """Something in the task closes all that it knows nothing of, and its number becomes somebody else's."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if "disttask-arena" in os.readlink(f"/proc/self/fd/{name}"):
                os.close(int(name))
                with open("/dev/zero", "r+b") as other:
                    assert fcntl.fcntl(other.fileno(), fcntl.F_DUPFD, int(name)) == int(name)
        except OSError:
            continue
    right = in_child((array == 1).all)
    return right, private_ranges(), float(array.sum())


def _double(array):
    array *= 2
    return array


def _fill(array, queue):
    array[:] = 8
    queue.put(array)


def with_multiprocessing(array):
    context = multiprocessing.get_context("fork")
    with context.Pool(2) as pool:
        doubled = pool.map(_double, [array, array])
    queue = context.SimpleQueue()
    process = context.Process(target=_fill, args=(array, queue))
    process.start()
    filled = queue.get()
    process.join()
    return [float(one[0]) for one in (*doubled, filled)], float(array.sum()), array


def fork_in_a_nested_task(array):
    inner = disttask.submit(written_by_the_child, np.ones(100_000, np.uint8))
    return inner.result()[:3], in_child(lambda: array.fill(9) is None), float(array.sum())


def fork_and_die_once(array, path):
    log(path, "begun")
    assert in_child(lambda: array.fill(9) is None)
    with open(path) as notes:
        if len(notes.readlines()) == 1:
            os.kill(os.getpid(), 9)
    return float(array.sum())


class ForksWhenLoaded:
    """Comes between an array and the end of loading the call."""

    def __reduce__(self):
        return in_child, (bool,)


def load_and_fork(array, _, other):
    assert in_child(lambda: other.fill(9) is None and array.fill(9) is None)
    return float(array.sum()), float(other.sum())


# --- locks ----------------------------------------------------------------------------------------------------------


def forks_while_a_thread_prints(forks, how):
    stop = threading.Event()

    def chat():
        while not stop.is_set():
            print("x" * 2000)

    def say():
        if how == "print":
            print("from the child")
        elif how == "flush":
            sys.stdout.flush()
        elif how == "log":
            logging.getLogger().warning("from the child")
        else:
            threads = [threading.Thread(target=print, args=("from the child",)) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        return True

    thread = threading.Thread(target=chat)
    thread.start()
    try:
        return sum(in_child(say) for _ in range(forks))
    finally:
        stop.set()
        thread.join()


class SlowFinder:
    """The import of a module takes until somebody has forked, or is about to and waits for it."""

    def __init__(self, name):
        self.name, self.begun, self.forked = name, threading.Event(), threading.Event()

    def find_spec(self, name, path=None, target=None):
        if name == self.name:
            self.begun.set()
            self.forked.wait(0.5)


def forks_while_a_thread_imports(name, call):
    """The call is what imports the module. Whether the child can have it, too."""
    assert name not in sys.modules
    finder = SlowFinder(name)
    sys.meta_path.insert(0, finder)
    thread = threading.Thread(target=call)
    thread.start()
    assert finder.begun.wait(10)
    child = os.fork()
    if child == 0:
        __import__(name)
        os._exit(0)
    finder.forked.set()
    thread.join()
    return ended_well(child)


def forks_while_a_thread_submits():
    return forks_while_a_thread_imports("cloudpickle", lambda: disttask.submit(lambda: 1).result())


def half_a_line():
    """The child does not print once more what its parent has begun."""
    print("begun", end=" ")

    def say():
        print("child")
        return True

    assert in_child(say)
    print("ended")


def futures_of_a_thread(seconds):
    """Another thread runs one nested task, and asks about another, while this one forks."""
    slow = disttask.submit(time.sleep, seconds)
    stop, asking = threading.Event(), threading.Event()
    asked = disttask.submit(abs, -1)
    ended = disttask.submit(abs, -2)
    assert ended.result() == 2

    def ask():
        while not stop.is_set():
            asked.running()
            asking.set()

    threads = [threading.Thread(target=slow.result), threading.Thread(target=ask)]
    for thread in threads:
        thread.start()
    assert asking.wait(10)

    def look():
        for call in (slow.result, slow.done, slow.cancel, asked.done, asked.result, asked.cancel):
            try:
                call()
                return False
            except RuntimeError as exc:
                if "a process that a task has forked" not in str(exc):
                    raise
        return ended.result() == 2

    right = sum(in_child(look) for _ in range(20))
    stop.set()
    for thread in threads:
        thread.join()
    return right, asked.result()


def fork_at(item):
    """Both sides return, from the third item of ten."""
    path, number = item
    log(path, str(number))
    if number == 2 and (child := os.fork()):
        os.waitpid(child, 0)
    return number


class Interrupted(BaseException):
    pass


def fork_under_interrupts(path):
    """The child returns into the worker's loop, where signals that raise keep it from leaving for a while."""
    import atexit
    import signal

    def raises(_signum, _frame):
        raise Interrupted

    child = os.fork()
    if child == 0:
        atexit.register(log, path, "exit handlers ran in a child")
        signal.signal(signal.SIGALRM, raises)
        signal.setitimer(signal.ITIMER_REAL, 0.00005, 0.0005)
        return 0
    log(path, "forked")
    return os.waitpid(child, 0)[0]
