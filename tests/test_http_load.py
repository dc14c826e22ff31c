"""Slow clients, many tasks, dying workers: whoever behaves is served, and no result is lost or given twice.

``DISTTASK_FULL=1`` runs them in full size (see `make shows`); CI's are smaller.
"""

import contextlib
import os
import signal
import socket
import threading
import time

import psutil
import pytest

import disttask
import hostile
import tasks
from helpers import wait_until
from web import native_door, running_executor

pytest_plugins = ["web_fixtures"]

HEADER_LIMIT = 10.0
FULL_SIZE = bool(os.environ.get("DISTTASK_FULL"))
SLOW_HEADERS, SLOW_BODIES = (500, 200) if FULL_SIZE else (100, 40)
P99_LIMIT = 0.05 if FULL_SIZE else 0.5
"""Seconds. The small one runs where others work beside it."""
QUEUED = 10_000 if FULL_SIZE else 2000
KILL_EVERY = 1.0 if FULL_SIZE else 0.3
TASK_SECONDS = 0.004
MEMORY_PER_TASK = 4096
"""Bytes that the host may grow by for each of the tasks that it remembers: text, result and history."""


def head_of(door, *lines):
    key = [f"{name}: {value}" for name, value in door.key.items()]
    lines = [f"Host: 127.0.0.1:{door.port}", *key, "Content-Type: application/json", *lines]
    return ("POST /submit_task HTTP/1.1\r\n" + "\r\n".join(lines)).encode()


def drip(connections, stop):
    """One byte each, again and again."""
    while not stop.wait(0.5):
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.send(b"x")


def is_cut(connection):
    """Whether the server has ended this connection."""
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_slow_clients_are_cut_off_and_disturb_nobody(native):
    began = time.monotonic()
    stop = threading.Event()
    with contextlib.ExitStack() as stack:
        connect = lambda: stack.enter_context(socket.create_connection(("127.0.0.1", native.port), timeout=10))  # noqa: E731
        slow_headers = [connect() for _ in range(SLOW_HEADERS)]
        slow_bodies = [connect() for _ in range(SLOW_BODIES)]
        for connection in slow_headers:
            connection.sendall(head_of(native, "X-Slow: "))
        for connection in slow_bodies:
            connection.sendall(head_of(native, "Content-Length: 5000", "", "{"))
        dripping = threading.Thread(target=drip, args=(slow_headers + slow_bodies, stop))
        dripping.start()
        stack.callback(dripping.join)
        stack.callback(stop.set)

        seconds = []
        while not any(map(is_cut, slow_headers)):
            start = time.monotonic()
            assert native.call("GET", "/status").status == 200
            seconds.append(time.monotonic() - start)
            assert native.result(native.submit(tasks.add, 1))["result"] == 2
            assert time.monotonic() - began < HEADER_LIMIT + 10, "slow headers are never cut off"
        assert time.monotonic() - began > HEADER_LIMIT - 1, "too early"
        wait_until(lambda: all(map(is_cut, slow_headers)), 5, "all slow headers cut off")
        assert len(seconds) > 50
        p99 = sorted(seconds)[len(seconds) * 99 // 100]
        print(f"{SLOW_HEADERS} slow headers, {SLOW_BODIES} slow bodies: p99 {1000 * p99:.1f} ms of {len(seconds)}")
        assert p99 < P99_LIMIT
        assert not any(map(is_cut, slow_bodies)), "a body has a minute"


FULL = """
import resource, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))  # half of them: 128 connections
import disttask
executor = disttask.Executor(1)
server = executor.serve(port=0, token_file=sys.argv[1])
print(server.port, flush=True)
signal.sigwait({signal.SIGTERM})
server.stop()
print("stopped", flush=True)
executor.shutdown()
"""


def test_a_server_with_no_place_left_can_be_stopped(start_script, tmp_path):
    script = start_script(FULL, args=[str(tmp_path / "token")])
    script.wait_out("\n")
    address = ("127.0.0.1", int(script.out))
    token = (tmp_path / "token").read_text().strip()
    head = f"GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1:{address[1]}\r\nAuthorization: Bearer {token}\r\n\r\n"
    with contextlib.ExitStack() as stack:
        for _ in range(128):  # streams, which never end by themselves
            stream = stack.enter_context(socket.create_connection(address, timeout=10))
            stream.sendall(head.encode())
            assert stream.recv(12) == b"HTTP/1.1 200"
        waiting = stack.enter_context(socket.create_connection(address, timeout=10))
        waiting.sendall(f"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:{address[1]}\r\n\r\n".encode())
        waiting.settimeout(0.5)
        with pytest.raises(TimeoutError):
            waiting.recv(1)  # it has no place yet
        script.send(signal.SIGTERM)
        script.wait_out("stopped", 8)
    assert script.wait(15).status == 0


def kill_busy_workers(executor, stop, killed):
    while not stop.wait(KILL_EVERY):
        busy = [worker["pid"] for worker in executor.status()["workers"] if worker["state"] == "busy"]
        if busy:
            with contextlib.suppress(ProcessLookupError):
                os.kill(busy[len(killed) % len(busy)], signal.SIGKILL)
                killed.append(busy)


def poll(door, cursor, count, deadline):
    """All results after the cursor, as a client takes them: by the cursor, in pages."""
    found = []
    while len(found) < count:
        assert time.monotonic() < deadline, f"{len(found)} of {count} results"
        page = door.get(f"/get_results?after={cursor}&wait=5&limit=150")
        assert page["missed"] == 0
        found += page["results"]
        cursor = page["cursor"]
    assert door.get(f"/get_results?after={cursor}")["results"] == []
    return found


def test_every_result_arrives_once_while_workers_die(tmp_path):
    log = tmp_path / "runs"
    killed, stop = [], threading.Event()
    with running_executor(2) as executor, native_door(executor, tmp_path, max_body=2**22) as door:
        batch = [
            {"task": disttask.serialize_task(tasks.logged_sleep, str(log), number, TASK_SECONDS), "retries": 100}
            for number in range(QUEUED)
        ]
        memory = psutil.Process().memory_info().rss
        cursor = door.get("/get_results")["cursor"]
        ids = []
        for start in range(0, QUEUED, 500):
            ids += door.call("POST", "/api/v1/tasks", {"tasks": batch[start : start + 500]}).json["task_ids"]
        killing = threading.Thread(target=kill_busy_workers, args=(executor, stop, killed))
        killing.start()
        try:
            found = poll(door, cursor, QUEUED, time.monotonic() + 100)
        finally:
            stop.set()
            killing.join()
        status = door.get("/status")
    runs = len(tasks.lines(log))
    grown = psutil.Process().memory_info().rss - memory
    print(f"{len(killed)} kills, {runs} runs of {QUEUED} tasks, {grown / 2**20:.1f} MiB more, {status['totals']}")
    assert grown < 2**24 + QUEUED * MEMORY_PER_TASK
    assert len(killed) >= 10, "a storm that kills nobody shows nothing"
    assert sorted(one["task_id"] for one in found) == sorted(ids), "each once, none missing"
    values = {one["task_id"]: one.get("result") for one in found}
    assert [values[task_id] for task_id in ids] == list(range(QUEUED))
    assert QUEUED <= runs <= QUEUED + len(killed), "a task runs again only where its worker died"
    assert status["totals"]["retried"] <= len(killed)
    assert {"queued": status["queued"], "running": status["running"]} == {"queued": 0, "running": 0}


def test_a_death_without_retries_is_told_once(native):
    """At most once: what was running fails, and nothing runs twice."""
    ids = [native.submit(tasks.kill_myself) for _ in range(5)] + [native.submit(hostile.echo, 1) for _ in range(5)]
    found = native.get(f"/get_results?ids={','.join(ids)}&wait=30")["results"]
    assert [one["status"] for one in found] == ["failed"] * 5 + ["succeeded"] * 5
    assert {one["error"]["type"] for one in found[:5]} == {"disttask.WorkerCrashed"}
