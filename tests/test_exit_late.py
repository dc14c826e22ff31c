"""What is asked for when the main thread has ended, and other threads go on."""

import pytest

from test_exit import BEGIN


@pytest.mark.parametrize("way", ["submit", "submit with a keyword", "map", "callback"])
def test_what_is_submitted_after_the_end_of_the_main_thread_is_told_so(start_script, way):
    """In the words of the standard library: no new Executor would help."""
    call = {
        "submit": "executor.submit(abs, -1)",
        "submit with a keyword": "executor.submit(int, 'f', base=threading.Lock())",
        "map": "executor.map(abs, [-1])",
        "callback": "executor.submit(abs, -1)",
    }[way]
    ended = start_script(
        BEGIN
        + f"""
def late(*_):
    try:
        while True:
            {call}
            time.sleep(0.001)
    except RuntimeError as exc:
        print(exc, flush=True)

if {way == "callback"}:
    executor.submit(tasks.sleep, 0.1).add_done_callback(late)
else:
    threading.Thread(target=late).start()
"""
    ).wait(10)
    assert ended.out.startswith("cannot schedule new futures after interpreter shutdown: ")
    assert ended.status == 0


def test_a_first_executor_after_the_end_of_the_main_thread(start_script):
    ended = start_script(
        """
import threading
import disttask

def late():
    ended.wait(20)
    try:
        disttask.Executor
    except RuntimeError as exc:
        print(exc)

ended = threading.Event()
threading.Thread(target=late).start()
threading._register_atexit(ended.set)  # while these run no more can be registered
"""
    ).wait(10)
    assert ended.out.startswith("no Executor can be made any more: the main thread has ended")
    assert ended.status == 0
