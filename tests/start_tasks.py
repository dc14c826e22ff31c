"""Initializers, and tasks that look at what they have left. For the workers."""

import multiprocessing
import os
import sys
import threading
import time
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory

KEPT = []


def keep(*values):
    KEPT.append((*values, os.getpid()))


def kept(_=None):
    return KEPT


def take(value):
    """An initializer: what is taken can be used by the tasks."""
    KEPT.append(value)


def fail(text):
    raise ValueError(text)


class Wordless(Exception):
    def __str__(self):
        raise SystemExit(3)


def fail_without_words():
    raise Wordless


def say(text):
    """In each of the ways that there are."""
    os.write(1, b"descriptor\n")
    print(text)
    print("half a line", end="")


def say_and_fail(text):
    print(text, end="")
    raise ValueError(text)


def fail_if_exists(path):
    if os.path.exists(path):
        raise ValueError("the second time")


def leave():
    raise SystemExit(3)


def die():
    os._exit(3)


def slowly(path):
    while not os.path.exists(path):
        time.sleep(0.01)
    KEPT.append("slow")


def count_up(times):
    """With a lock and a value that were taken."""
    lock, value = KEPT
    for _ in range(times):
        with lock:
            value.value += 1


def held_lock_is_seen():
    (lock,) = KEPT
    return lock.acquire(block=False)


def put_kept(item):
    KEPT[0].put((item, os.getpid()))


def let_go_of_the_queue():
    """Wait until the thread that feeds the queue has let go of its lock: who reads may have the item before that."""
    with KEPT[0]._wlock:
        pass


def event_is_set():
    KEPT[0].set()
    return KEPT[0].is_set()


def new_list(manager_list, item):
    manager_list.append(item)
    return manager_list


def fill_shared(name, number):
    memory = SharedMemory(name=name)
    memory.buf[0] = number
    memory.close()
    return os.getpid()


def tracker_pipe():
    return os.readlink(f"/proc/self/fd/{resource_tracker.getfd()}")


def who_am_i():
    parent = multiprocessing.parent_process()
    return multiprocessing.current_process().name, parent.pid, parent.is_alive()


def receive(connection):
    return connection.recv()


def send_over(sock, data):
    sock.sendall(data)
    sock.close()


def ignore_sigterm(path):
    """Leave a file on SIGTERM, and go on."""
    import signal

    def note(*_):
        with open(path, "a") as file:
            file.write("term\n")

    signal.signal(signal.SIGTERM, note)
    with open(path, "a") as file:
        file.write("ready\n")
    while True:
        time.sleep(0.01)


def leave_a_thread():
    """A thread that keeps its process from ending."""
    threading.Thread(target=time.sleep, args=(60,)).start()
    return os.getpid()


def take_loaded(name):
    """An initializer: whether that module is imported already."""
    import sys

    KEPT.append(name in sys.modules)


def fork_after_a_late_import():
    """Fork where `logging` comes in by what forks wait for: whether it was there before, and can be locked after."""
    from disttask._pickling import importing

    before = "logging" in sys.modules
    importing("logging")
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return before, can_be_locked_by_a_thread(sys.modules["logging"]._lock)


def can_be_locked_by_a_thread(lock):
    found = []

    def try_it():
        found.append(lock.acquire(blocking=False))
        if found[0]:
            lock.release()

    thread = threading.Thread(target=try_it)
    thread.start()
    thread.join()
    return found[0]
