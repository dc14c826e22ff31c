"""What `multiprocessing` makes: locks, queues, pipes, shared values and memory, managers, sockets."""

import gc
import multiprocessing
import os
import signal
import socket
from multiprocessing import resource_tracker, shared_memory

import pytest

import disttask
import start_tasks
from helpers import is_alive, wait_idle, wait_until
from tasks import DEATHS, pid_of_worker

resource_tracker.ensure_running()  # or the process that it starts would count as one that a test has left behind

SPAWN = multiprocessing.get_context("spawn")
FORK = multiprocessing.get_context("fork")


def test_a_lock_and_a_value_for_all_workers():
    lock, value = SPAWN.Lock(), SPAWN.Value("i", 0, lock=False)
    start = {"initializer": lambda *both: start_tasks.KEPT.extend(both), "initargs": (lock, value)}
    with disttask.Executor(2, **start) as executor:
        futures = [executor.submit(start_tasks.count_up, 500) for _ in range(8)]
        assert [future.result(timeout=30) for future in futures] == [None] * 8
    assert value.value == 4000


def test_a_queue_also_for_a_worker_that_comes_later(make_executor):
    queue = SPAWN.Queue()
    executor = make_executor(1, initializer=start_tasks.take, initargs=(queue,))
    executor.submit(start_tasks.put_kept, "first").result(timeout=20)
    item, pid = queue.get(timeout=10)
    executor.submit(start_tasks.let_go_of_the_queue).result(timeout=20)  # a lock that dies with its holder stays taken
    with pytest.raises(disttask.WorkerCrashed):
        executor.submit(DEATHS["kill"]).result(timeout=20)
    executor.submit(start_tasks.put_kept, "second").result(timeout=20)
    again, other = queue.get(timeout=10)
    assert (item, again) == ("first", "second")
    assert pid != other
    queue.close()
    queue.join_thread()


def test_a_lock_that_nobody_else_holds(make_executor):
    executor = make_executor(1, initializer=start_tasks.take, initargs=(SPAWN.Lock(),))
    gc.collect()
    assert executor.submit(start_tasks.held_lock_is_seen).result(timeout=20), "the worker has it now"
    with pytest.raises(disttask.WorkerCrashed):
        executor.submit(DEATHS["kill"]).result(timeout=20)
    assert not executor.submit(start_tasks.held_lock_is_seen).result(timeout=20), "a later one has it, too: still taken"


def test_an_event(make_executor):
    event = SPAWN.Event()
    executor = make_executor(1, initializer=start_tasks.take, initargs=(event,))
    assert not event.is_set()
    assert executor.submit(start_tasks.event_is_set).result(timeout=20)
    assert event.is_set()


@pytest.mark.parametrize("make", [FORK.Lock, FORK.RLock])
def test_a_lock_of_the_fork_context_that_nobody_has_is_given_a_name(make_executor, make):
    lock = make()
    executor = make_executor(1, initializer=start_tasks.take, initargs=(lock,))
    assert executor.submit(start_tasks.held_lock_is_seen).result(timeout=20), "the worker has it now"
    assert not lock.acquire(block=False)


@pytest.mark.parametrize("make", [FORK.Event, FORK.Queue, lambda: FORK.Value("i")])
def test_other_things_of_the_fork_context_are_an_error_that_says_what_to_do(make):
    with pytest.raises(disttask.SerializationError, match=r'get_context\("spawn"\).*Manager'):
        disttask.Executor(1, initializer=start_tasks.take, initargs=(make(),))


def test_in_an_argument_of_a_task_a_lock_is_an_error_that_says_what_to_do(executor):
    with pytest.raises(disttask.SerializationError, match=r"initargs.*Manager"):
        executor.submit(print, SPAWN.Lock()).result(timeout=20)


def test_a_managers_proxies_go_there_and_back(executor):
    with SPAWN.Manager() as manager:
        numbers = manager.list([1])
        back = executor.submit(start_tasks.new_list, numbers, 2).result(timeout=20)
        assert list(numbers) == list(back) == [1, 2]
        back.append(3)
        assert list(numbers) == [1, 2, 3]
        lock = manager.Lock()
        assert executor.submit(lock.acquire).result(timeout=20)
        assert not lock.acquire(False)


def test_a_manager_of_a_host_that_imports_multiprocessing_after_it_has_made_the_pool(run_script):
    assert run_script(LATE_MANAGER).out.split() == ["False", "[1,", "2]"]


LATE_MANAGER = """
import sys
import disttask

def main():
    with disttask.Executor(1) as executor:
        executor.submit(pow, 2, 3).result()
        print("multiprocessing" in sys.modules)
        import multiprocessing
        with multiprocessing.get_context("spawn").Manager() as manager:
            import start_tasks
            print(executor.submit(start_tasks.new_list, manager.list([1]), 2).result())

if __name__ == "__main__":  # for the manager
    main()
"""


def test_shared_memory_survives_the_worker_that_attached_to_it(make_executor):
    executor = make_executor(1)
    wait_idle(executor)
    memory = shared_memory.SharedMemory(create=True, size=10)
    try:
        pid = executor.submit(start_tasks.fill_shared, memory.name, 7).result(timeout=20)
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not is_alive(pid))
        assert executor.submit(pid_of_worker).result(timeout=20) != pid
        assert os.path.exists(f"/dev/shm/{memory.name}")
        assert memory.buf[0] == 7
    finally:
        memory.close()
        memory.unlink()


@pytest.mark.parametrize("early", [True, False])
def test_the_resource_tracker_is_the_hosts(run_script, early):
    ended = run_script(TRACKER, args=[str(int(early))])
    host, *workers = ended.out.split()
    assert workers == [host, host]
    assert not ended.err, "nobody warns of what leaks"


TRACKER = """
import os, sys
import disttask, start_tasks
from multiprocessing import resource_tracker

def pipe():
    return os.readlink(f"/proc/self/fd/{resource_tracker.getfd()}")

early = int(sys.argv[1])
if early:
    host = pipe()
with disttask.Executor(2) as executor:
    executor.submit(pow, 2, 3).result()
    if not early:
        host = pipe()
    print(host)
    for future in [executor.submit(start_tasks.tracker_pipe) for _ in range(2)]:
        print(future.result())
"""


def test_a_worker_without_multiprocessing_does_not_import_it(executor):
    assert not executor.submit(eval, "'multiprocessing' in __import__('sys').modules").result(timeout=20)


def test_nor_does_the_host(run_script):
    run_script(
        "import sys, disttask\nwith disttask.Executor(1) as e: e.submit(pow, 2, 3).result()\n"
        "assert 'multiprocessing' not in sys.modules"
    )


def test_a_worker_is_a_child_process_to_multiprocessing(executor):
    name, parent, alive = executor.submit(start_tasks.who_am_i).result(timeout=20)
    assert name.startswith("DisttaskWorker-")
    assert parent == os.getpid()
    assert alive


def test_a_connection_and_a_socket_as_arguments_of_a_task():
    ours, theirs = SPAWN.Pipe()
    left, right = socket.socketpair()
    with disttask.Executor(1) as executor:
        future = executor.submit(start_tasks.receive, theirs)
        ours.send("hello")
        assert future.result(timeout=20) == "hello"
        executor.submit(start_tasks.send_over, right, b"abc").result(timeout=20)
        right.close()
        assert left.recv(10) == b"abc"
    left.close()
    ours.close()
    theirs.close()


def test_process_map_of_tqdm(monkeypatch):
    import concurrent.futures

    from tqdm.contrib.concurrent import process_map

    monkeypatch.setattr(concurrent.futures, "ProcessPoolExecutor", disttask.Executor)
    with open(os.devnull, "w") as nowhere:
        assert process_map(abs, range(-20, 0), max_workers=2, file=nowhere) == list(range(20, 0, -1))


def test_too_many_descriptors_are_an_error():
    pipes = [SPAWN.Pipe() for _ in range(130)]
    try:
        with pytest.raises(ValueError, match=r"descriptors: at most \d+"):
            disttask.Executor(1, initializer=print, initargs=tuple(end for pipe in pipes for end in pipe))
    finally:
        for pipe in pipes:
            for end in pipe:
                end.close()
