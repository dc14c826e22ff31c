"""Jupyter, with a real kernel: what appears in which cell, interrupts, and what a kernel leaves behind."""

import time
from pathlib import Path

import nbformat
import psutil
import pytest
from nbclient import NotebookClient

from helpers import is_alive, wait_until
from kernels import Kernel

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # of the client's sockets and event loops
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

EXAMPLE = Path(__file__).parent.parent / "examples" / "notebook.ipynb"

PREPARE = """
import asyncio, concurrent.futures, logging, os, sys, time
import disttask

logging.basicConfig(stream=sys.stdout, force=True)
executor = disttask.Executor(2)

def gated(gate, number=0):
    print("begun", number)
    while not os.path.exists(gate):
        time.sleep(0.01)
    print("ended", number)
    print("an error", number, file=sys.stderr)
    logging.getLogger("app").warning("a warning %s", number)
    return number
"""

GONE_SECONDS = 2
"""How long processes may take to go after their kernel."""


@pytest.fixture(scope="module")
def shared_kernel():
    kernel = Kernel()
    _, answer = kernel.run(PREPARE)
    assert answer["status"] == "ok", answer
    yield kernel
    kernel.close()


@pytest.fixture
def kernel(shared_kernel):
    """A kernel whose executor has nothing to do. A test that fails leaves tasks that never end."""
    if not shared_kernel.value(IS_IDLE):
        shared_kernel.run("executor.__exit__(KeyboardInterrupt, None, None)")
        shared_kernel.run(PREPARE)
    return shared_kernel


IS_IDLE = "(lambda status: status['queued'] + status['running'] == 0)(executor.status())"

KINDS = "[future._kind() for future in futures]"


def test_output_appears_in_the_cell_that_submitted(kernel, tmp_path):
    gate = tmp_path / "gate"
    first, _ = kernel.run(f"slow = executor.submit(gated, {str(gate)!r}, 1)")
    kernel.read_until(lambda: kernel.shown_in(first) == "begun 1\n", "it has begun")
    second, _ = kernel.run("quick = executor.submit(print, 'quick'); print(quick.result())")
    gate.touch()
    third, _ = kernel.run("print(slow.result())")
    shown = "begun 1\nended 1\nWARNING:app:a warning 1\n"
    kernel.read_until(lambda: kernel.shown_in(first) == shown, "the rest in the first cell")
    kernel.read_until(lambda: kernel.shown_in(first, "stderr") == "an error 1\n", "stderr, too")
    assert kernel.shown_in(second) == "quick\nNone\n"
    assert kernel.shown_in(third) == "1\n"
    assert kernel.shown_in(second, "stderr") == kernel.shown_in(third, "stderr") == ""


def test_output_of_a_map_appears_in_the_cell_that_reads_on(kernel):
    cell, _ = kernel.run("items = list(executor.map(lambda n: print('item', n), range(200)))")
    kernel.read_until(lambda: kernel.shown_in(cell).count("item") == 200, "all items")


def test_a_redirected_stream_is_left_alone(kernel):
    code = """
    import contextlib, io
    with contextlib.redirect_stdout(io.StringIO()) as stream:
        executor.submit(print, "hidden").result()
    stream.getvalue()
    """
    cell, _ = kernel.run(code)
    assert kernel.result_of(cell)["text/plain"] == repr("hidden\n")
    assert kernel.shown_in(cell) == ""


def test_the_traceback_of_a_task_shows_the_line_of_its_cell(kernel):
    kernel.run("def divide(x):\n    return 1 / x  # by zero")
    text = kernel.value("str(executor.submit(divide, 0).exception().__cause__)")
    assert ", line 2, in divide\n    return 1 / x  # by zero\nZeroDivisionError" in text


def interrupted(kernel, cell, running):
    """Interrupt a cell once that many of its tasks run; the answer to it."""
    kernel.read_until(lambda: kernel.shown_in(cell).count("begun") == running, f"{running} tasks run")
    kernel.manager.interrupt_kernel()
    return kernel.finish(cell)


@pytest.mark.parametrize(
    "wait",
    [
        "futures[0].result()",
        "futures[-1].exception()",
        "concurrent.futures.wait(futures)",
        "list(concurrent.futures.as_completed(futures))",
        "time.sleep(60)",
    ],
)
def test_an_interrupt_stops_what_the_cell_submitted_and_nothing_else(kernel, tmp_path, wait):
    gate = tmp_path / "gate"
    before, _ = kernel.run(f"other = executor.submit(gated, {str(gate)!r}, 'other')")
    kernel.read_until(lambda: kernel.shown_in(before) == "begun other\n", "another cell's task runs")
    pids = kernel.value("[worker['pid'] for worker in executor.status()['workers'] if worker['task']]")
    cell = kernel.start(f"futures = [executor.submit(gated, '/nowhere', n) for n in range(5)]\n{wait}")
    assert interrupted(kernel, cell, 1)["ename"] == "KeyboardInterrupt"
    wait_until(lambda: kernel.value(KINDS) == ["cancelled"] * 5, 10, "all five are stopped")
    assert kernel.value("other.done()") is False
    assert all(map(is_alive, pids)), "the worker of the other cell's task was killed"
    gate.touch()
    assert kernel.value("other.result(), list(executor.map(abs, range(-3, 3)))") == ("other", [3, 2, 1, 0, 1, 2])


def test_an_interrupt_stops_a_map(kernel):
    cell = kernel.start("list(executor.map(gated, ['/nowhere'] * 100, range(100)))")
    assert interrupted(kernel, cell, 2)["ename"] == "KeyboardInterrupt"
    assert kernel.value("executor.submit(abs, -1).result(timeout=10)") == 1


def test_an_interrupt_stops_what_may_be_tried_again(kernel):
    cell = kernel.start("future = executor.options(retries=5).submit(gated, '/nowhere')\nfuture.result()")
    assert interrupted(kernel, cell, 1)["ename"] == "KeyboardInterrupt"
    wait_until(lambda: kernel.value("future.cancelled()"), 10, "it is not tried again")


def test_an_interrupt_that_the_cell_catches_stops_nothing(kernel, tmp_path):
    gate = tmp_path / "gate"
    code = f"""
    future = executor.submit(gated, {str(gate)!r})
    try:
        future.result()
    except KeyboardInterrupt:
        print("caught")
    """
    cell = kernel.start(code)
    assert interrupted(kernel, cell, 1)["status"] == "ok"
    kernel.read_until(lambda: "caught" in kernel.shown_in(cell))
    gate.touch()
    assert kernel.value("future.result()") == 0


def test_an_error_stops_nothing(kernel, tmp_path):
    gate = tmp_path / "gate"
    _, answer = kernel.run(f"future = executor.submit(gated, {str(gate)!r})\n1 / 0")
    assert answer["ename"] == "ZeroDivisionError"
    gate.touch()
    assert kernel.value("future.result()") == 0


def test_a_cell_that_awaits_is_interrupted_by_cancelling_it(kernel):
    """Which is how kernels do it."""
    code = """
    future = executor.submit(gated, "/nowhere")
    asyncio.get_running_loop().call_later(0.1, asyncio.current_task().cancel)
    await asyncio.sleep(60)
    """
    _, answer = kernel.run(code)
    assert answer["ename"] == "CancelledError"
    wait_until(lambda: kernel.value("future.cancelled()"), 10, "its task is stopped")


def test_awaiting_something_that_is_cancelled_is_no_interrupt(kernel, tmp_path):
    gate = tmp_path / "gate"
    code = f"""
    future = executor.submit(gated, {str(gate)!r})
    task = asyncio.ensure_future(asyncio.sleep(60))
    asyncio.get_running_loop().call_soon(task.cancel)
    await task
    """
    _, answer = kernel.run(code)
    assert answer["ename"] == "CancelledError"
    gate.touch()
    assert kernel.value("future.result()") == 0


def test_a_notebook_shows_them(kernel):
    cell, _ = kernel.run("executor")
    html = kernel.result_of(cell)["text/html"]
    assert "disttask.Executor" in html
    assert html.count("<tr") == 3  # the head, and two workers
    cell, _ = kernel.run("future = executor.submit(abs, -7); future.result(); future")
    html = kernel.result_of(cell)["text/html"]
    assert "succeeded" in html
    assert "int: 7" in html


def worker_pids(kernel):
    """Of both workers; they are there, and busy."""
    pids = kernel.value("[worker['pid'] for worker in executor.status()['workers'] if worker['task']]")
    assert len(pids) == 2
    assert all(map(is_alive, pids))
    return pids


def restart(kernel):
    kernel.manager.restart_kernel(now=True)


def kill(kernel):
    kernel.manager.shutdown_kernel(now=True)


def kill_its_process_only(kernel):
    psutil.Process(kernel.value("os.getpid()")).kill()


def shut_down(kernel):
    began = time.monotonic()
    kernel.manager.shutdown_kernel(now=False)
    assert time.monotonic() - began < kernel.manager.shutdown_wait_time / 2, "work that nobody waits for held it up"


@pytest.mark.parametrize("end", [restart, kill, kill_its_process_only, shut_down])
def test_no_process_is_left_behind(end):
    kernel = Kernel()
    try:
        kernel.run(PREPARE)
        cell, _ = kernel.run("futures = [executor.submit(gated, '/nowhere', n) for n in range(5)]")
        kernel.read_until(lambda: kernel.shown_in(cell).count("begun") == 2, "two tasks run, others wait")
        pids = worker_pids(kernel)
        end(kernel)
        wait_until(lambda: not any(map(is_alive, pids)), GONE_SECONDS, "the workers are gone")
        if end is restart:
            kernel.client.wait_for_ready(timeout=20)
            kernel.run(PREPARE)
            assert kernel.value("executor.submit(abs, -1).result()") == 1
    finally:
        kernel.close()


def test_the_example_runs():
    notebook = nbformat.read(EXAMPLE, as_version=4)
    NotebookClient(notebook, timeout=30, kernel_name="python3").execute()
    cells = {cell.id: cell for cell in notebook.cells}

    def shown(name):
        return "".join(output.text for output in cells[name].outputs if output.output_type == "stream")

    def value(name, media="text/plain"):
        (result,) = [output.data for output in cells[name].outputs if output.output_type == "execute_result"]
        return result[media]

    assert (value("define"), value("redefine")) == ("12", "6.0")
    assert shown("classes") == "caught: 50 is more than 10\n"
    assert shown("later") == "the later cell: 3\n"
    assert "1000/1000" in shown("progress")
    assert "disttask.Executor" in value("executor", "text/html")
    assert "shut down" in value("end", "text/html")
