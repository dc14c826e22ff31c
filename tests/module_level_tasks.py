"""What tasks do with executors of their own, which start nothing before their first use."""

import asyncio
import contextvars
import gc
import os
import sys
import threading

import disttask
from helpers import children, open_fds, wait_until
from tasks import add

USER = contextvars.ContextVar("USER", default="nobody")


def footprint():
    """Processes, threads and descriptors of this process."""
    gc.collect()
    return children(), set(os.listdir("/proc/self/task")), open_fds()


def text_of_error(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except Exception as exc:
        return f"{type(exc).__name__}: {exc}"
    return "no error"


async def async_with(executor):
    async with executor:
        pass


def unused():
    """All that can be done without workers; what was started by it."""
    threading.Thread(target=str).start()  # what the first one brings along
    before = footprint()
    with disttask.Executor(3, initializer=add, initargs=(1,), max_pending=5) as executor:
        executor.resize(2)
        executor.restart()
        said = repr(executor), executor._max_workers, isinstance(executor, disttask.Executor), executor._repr_html_()
        fast = executor.options(retries=1).options(priority=2)
        said += (repr(fast), fast._max_workers)
    asyncio.run(async_with(disttask.Executor(1)))
    errors = [text_of_error(executor.submit, add, 1), text_of_error(fast.submit, add, 1)]
    errors += [text_of_error(executor.map, add, [1]), text_of_error(executor.put, 1)]
    errors += [text_of_error(executor.resize, 3), text_of_error(executor.restart)]
    executor.shutdown()
    executor.kill_workers()
    dropped = disttask.Executor(1).options(retries=1)
    kept = disttask.Executor(1)
    del dropped
    after = footprint()
    kept.terminate_workers()
    return before == after, said, errors, executor.status()


def wrong():
    """What is wrong with the arguments is said at once."""
    return [
        text_of_error(disttask.Executor, 0),
        text_of_error(disttask.Executor, 1, initializer=3),
        text_of_error(disttask.Executor, 1, initializer=print, initargs=(threading.Lock(),)),
        text_of_error(disttask.Executor, 1, max_tasks_per_child=0),
        text_of_error(disttask.Executor, 1, on_full="drop"),
        text_of_error(disttask.Executor, 1, executable=3),
    ]


left = []


def leave_unused():
    """For the end of the worker."""
    left.append(disttask.Executor(2))
    return os.getpid()


def in_a_forked_child(use):
    """A child uses its parent's executor first, or does what it may without; its status, and what the parent gets."""
    executor = disttask.Executor(1)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            if use:
                status = executor.submit(add, 5).result(timeout=20)
                executor.shutdown()
            else:
                before = footprint()
                repr(executor)
                with executor:
                    pass
                status = 7 if footprint() == before else 8
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with executor:
        return status, executor.submit(add, 1).result()


def first_uses():
    """Each kind of first use; the values, and that the executor is what it was."""
    uses = {
        "submit": lambda executor: executor.submit(add, 1).result(),
        "kept": lambda executor: [submit(add, 1).result() for submit in [executor.submit] for _ in range(2)],
        "map": lambda executor: list(executor.map(add, [1, 2])),
        "chunks": lambda executor: list(executor.map(add, [1, 2], chunksize=2)),
        "options": lambda executor: executor.options(retries=1).submit(add, 1).result(),
        "options, then": lambda executor: [
            tasks.submit(add, 1).result() for tasks in [executor.options(retries=1), executor] for _ in range(2)
        ],
        "task": lambda executor: executor.submit(disttask.task(retries=1)(add), 1).result(),
        "put": lambda executor: executor.submit(add, executor.put(1)).result(),
        "status": lambda executor: executor.status()["accepting"],
        "closure": lambda executor: executor.submit(lambda: [executor._max_workers]).result(),
    }
    found = {}
    for name, use in uses.items():
        executor = disttask.Executor(1)
        with executor:
            found[name] = use(executor)
            assert type(executor) is disttask.Executor
        assert not executor.status()["accepting"]
    return found, children()


def who():
    return USER.get()


class Counting(disttask.Executor):
    """A user's."""

    def __init_subclass__(cls, *, kind):
        """Each must say its kind."""

    def __init__(self, workers):
        super().__init__(workers, context=[USER])
        self.calls = 0

    def submit(self, fn, /, *args, **kwargs):
        self.calls += 1
        return super().submit(fn, *args, **kwargs)

    def past_mine(self, fn, *args):
        return super().submit(fn, *args)


def subclassed():
    USER.set("me")
    found = []
    for use in (lambda executor: executor.submit(who), lambda executor: executor.past_mine(add, 1)):
        with Counting(1) as executor:
            found.append((use(executor).result(), executor.calls, type(executor).__name__))
            assert executor.submit(add, 1).result() == 2
    return found


def threads_at_once(count):
    """Many first users; the workers that there are then."""
    executor = disttask.Executor(1)
    barrier = threading.Barrier(count)
    values = []

    def use(number):
        barrier.wait()
        tasks = executor if number % 2 else executor.options(retries=1)
        values.append(tasks.submit(add, number).result())

    threads = [threading.Thread(target=use, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with executor:
        return sorted(values), len(children())


def deeper(level):
    """A pool in each level."""
    with disttask.Executor(1) as executor:
        return level, executor.submit(deeper, level + 1).result()


def interrupted_first_uses():
    """How many points there are in a first use at which a signal handler may raise; after which there is no second."""
    import interrupts

    with disttask.Executor(1) as executor:
        executor.submit(add, 1).result()  # so that all is imported
    wrong, point, hit = [], 0, True
    while hit:
        with disttask.Executor(1) as executor:

            def use(executor=executor):
                executor.submit(add, 1)
                sys.setprofile(None)

            hit = interrupts.interrupted(use, point)
            error = text_of_error(lambda executor=executor: executor.submit(add, 1).result())
            if error != "no error":
                wrong.append((point, error))
        wait_until(lambda: not children(), 10, "all workers reaped")
        point += 1
    return wrong, point
