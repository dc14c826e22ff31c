"""A large host: a worker's start must not depend on the host's memory or threads, as a fork would."""

KILLS = 20

SOURCE = f"""
import os, signal, statistics, threading, time
import disttask, helpers
ballast = bytearray(os.urandom(2**20) * 1024)
stop = threading.Event()
threads = [threading.Thread(target=stop.wait) for _ in range(200)]
for thread in threads:
    thread.start()
seconds = []
with disttask.Executor(1) as executor:
    for _ in range({KILLS}):
        (pid,) = helpers.wait_idle(executor)
        started = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        helpers.wait_until(lambda: pid not in [w["pid"] for w in executor.status()["workers"]])
        helpers.wait_idle(executor)
        seconds.append(time.monotonic() - started)
stop.set()
print(statistics.median(seconds), max(seconds))
"""


def test_workers_are_replaced_quickly(run_script):
    median, worst = map(float, run_script(SOURCE, timeout=60).out.split())
    assert median < 0.5
    assert worst < 2
