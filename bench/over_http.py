"""Single `POST /submit_task` of a real no-op, executed: the native server beside Flask under waitress, in the same run.

Needs wrk. Both hand the tasks to an executor of two workers; each in a process of its own; they take turns. A request
counts only when its task was executed: the figure is what the pool says it has done, over the time from the first
request until the last task has ended.
"""

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import disttask

WORKERS = 2
REPEATS = 3
SECONDS = 5
CONNECTIONS = 16
BATCH = 500
BATCH_CONNECTIONS = 4
BATCH_SECONDS = 2
"""They are accepted faster than executed: not so many that the queue is full (503)."""
READY_LIMIT = 20.0

SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = [[{body}]]
"""


def serve_native() -> None:
    """Serve until the standard input ends."""
    with disttask.Executor(WORKERS) as executor, executor.serve(port=0, no_auth=True) as server:
        print(server.port, flush=True)
        sys.stdin.read()
        executor.shutdown(cancel_futures=True)


def serve_flask() -> None:
    """The same endpoint as a view of a Flask application, under waitress."""
    import logging
    import socket

    import waitress  # type: ignore[import-untyped]
    from flask import Flask

    from disttask.integrations.flask import Disttask

    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a line per request would cost the peer dearly
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    app = Flask(__name__)
    app.config["DISTTASK_PORT"] = port
    with disttask.Executor(WORKERS) as executor:
        Disttask(app, executor, authorize=lambda: True)
        print(port, flush=True)
        waitress.serve(app, sockets=[listener], threads=CONNECTIONS)


@contextmanager
def running(kind: str) -> Iterator[int]:
    """A server in a process of its own; its port."""
    command = [sys.executable, __file__, kind]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            port = int(server.stdout.readline())
            deadline = time.monotonic() + READY_LIMIT
            while not all(worker["state"] == "idle" for worker in status(port)["workers"]):
                assert time.monotonic() < deadline, "the workers do not get ready"
                time.sleep(0.05)
            yield port
        finally:
            server.kill()


def status(port: int) -> dict[str, list[dict[str, str]]]:
    """The pool's own account."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=30) as answer:
        found: dict[str, list[dict[str, str]]] = json.load(answer)
    return found


def drained(port: int) -> int:
    """Wait for all tasks; how many have succeeded."""
    while True:
        found: dict[str, int | dict[str, int]] = status(port)  # type: ignore[assignment]
        if not found["queued"] and not found["running"]:
            totals = found["totals"]
            assert isinstance(totals, dict)
            assert totals["succeeded"] == totals["submitted"], totals
            return totals["succeeded"]
        time.sleep(0.01)


def measure(port: int, load: Callable[[int], None]) -> float:
    """Executed tasks per second under this load."""
    before = drained(port)
    began = time.perf_counter()
    load(port)
    return (drained(port) - before) / (time.perf_counter() - began)


def by_wrk(port: int, path: str, body: str, connections: int, seconds: int) -> None:
    """The same request again and again, on connections that are kept. A client in Python would be the slower part."""
    wrk = shutil.which("wrk")
    assert wrk is not None, "install wrk first"
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "post.lua")
        script.write_text(SCRIPT.format(body=body))
        options = ["-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script)]
        done = subprocess.run(
            [wrk, *options, f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True, check=True
        )
    assert "Non-2xx" not in done.stdout, done.stdout


def single(port: int) -> None:
    """One task per request."""
    by_wrk(port, "/submit_task", json.dumps({"task": disttask.serialize_task(abs, -1)}), CONNECTIONS, SECONDS)


def batches(port: int) -> None:
    """Many tasks per request."""
    task = {"task": disttask.serialize_task(abs, -1)}
    by_wrk(port, "/api/v1/tasks", json.dumps({"tasks": [task] * BATCH}), BATCH_CONNECTIONS, BATCH_SECONDS)


def main() -> None:
    """Print the table."""
    found: dict[str, list[float]] = {"native": [], "flask": [], "batches": []}
    for repeat in range(REPEATS):
        for kind in ("native", "flask") if repeat % 2 == 0 else ("flask", "native"):
            with running(kind) as port:
                found[kind].append(measure(port, single))
                if kind == "native":
                    found["batches"].append(measure(port, batches))
    flask = statistics.median(found["flask"])
    print(f"medians of {REPEATS}, {WORKERS} workers, wrk with {CONNECTIONS} kept connections for {SECONDS} s")
    print("| executed tasks/s | median | least | most | to Flask |")
    print("|---|---:|---:|---:|---:|")
    names = {
        "native": "native, one task per request",
        "flask": "Flask under waitress, one task per request",
        "batches": f"native, {BATCH} tasks per request, {BATCH_CONNECTIONS} connections",
    }
    for kind, name in names.items():
        median = statistics.median(found[kind])
        low, high = min(found[kind]), max(found[kind])
        print(f"| {name} | {median:,.0f} | {low:,.0f} | {high:,.0f} | {median / flask:.1f} |")


if __name__ == "__main__":
    {"": main, "native": serve_native, "flask": serve_flask}["".join(sys.argv[1:])]()
