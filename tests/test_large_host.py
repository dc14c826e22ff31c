"""A large host, with much memory and many threads: its workers start and are replaced as any other's."""

KILLS = 20

SOURCE = f"""
import os, signal, threading
import disttask, helpers
ballast = bytearray(os.urandom(2**20) * 1024)
stop = threading.Event()
threads = [threading.Thread(target=stop.wait) for _ in range(200)]
for thread in threads:
    thread.start()
with disttask.Executor(1) as executor:
    for _ in range({KILLS}):
        pid = executor.submit(os.getpid).result()  # an answer: dying young, again and again, would be backed off
        os.kill(pid, signal.SIGKILL)
        helpers.wait_until(lambda: pid not in [w["pid"] for w in executor.status()["workers"]])
    print(executor.status()["totals"]["worker_deaths"])
stop.set()
"""


def test_workers_are_replaced(run_script):
    assert run_script(SOURCE, timeout=60).out == f"{KILLS}\n"
