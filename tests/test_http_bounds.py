"""Bounds on answers, results and batches; and a pool that ends under those who wait for it."""

import re
import threading

import disttask
import tasks
from helpers import wait_until
from test_http_api import last_cursor
from web import native_door, open_door, running_executor

pytest_plugins = ["web_fixtures"]


def test_an_id_named_often_is_answered_once(door):
    """A request of a few kilobytes for one result made an answer of a gigabyte."""
    task_id = door.submit(tasks.make_bytes, 500_000)
    door.result(task_id)
    answer = door.call("GET", f"/get_results?pickle=true&ids={','.join([task_id] * 1500)}")
    assert answer.status == 200
    assert [one["task_id"] for one in answer.json["results"]] == [task_id]
    assert len(answer.body) < 5_000_000


def test_a_full_answer_marks_what_it_leaves_out(door):
    """17 MB of JSON fill it: the rest of the large results are named, the small ones are there."""
    ids = [door.submit(tasks.make_text, 3_000_000, str(number)) for number in range(9)] + [door.submit(tasks.add, 1)]
    for task_id in ids:
        wait_until(lambda task_id=task_id: is_done(door, task_id), 20, "the result")
    wanted, seen, rounds = ids, {}, 0
    while wanted:
        answer = door.call("GET", f"/get_results?ids={','.join(wanted)}")
        assert len(answer.body) < 25_000_000
        page = answer.json
        assert [one["task_id"] for one in page["results"]] == wanted
        left_out = [one for one in page["results"] if "omitted" in one]
        for one in left_out:
            assert one == {"task_id": one["task_id"], "status": "succeeded", "omitted": True}
        seen |= {one["task_id"]: one["result"] for one in page["results"] if "omitted" not in one}
        assert page["more"] == bool(left_out)
        wanted, rounds = [one["task_id"] for one in left_out], rounds + 1
    assert rounds == 2
    assert [seen[task_id] for task_id in ids] == [str(number) * 3_000_000 for number in range(9)] + [2]


def is_done(door, task_id):
    return door.get(f"/api/v1/tasks/{task_id}")["status"] == "succeeded"


def test_one_result_that_is_too_large_to_keep(kind, tmp_path):
    with running_executor(1, _keep=(100, 100_000, 60.0)) as executor, open_door(kind, executor, tmp_path) as door:
        cursor = last_cursor(door)
        small = [door.submit(tasks.add, number) for number in range(3)]
        large = door.submit(tasks.make_bytes, 200_000)
        last = door.submit(tasks.add, 9)
        assert door.result(last)["result"] == 10
        answer = door.call("GET", f"/get_results?ids={large}")
        assert (answer.status, answer.json["error"]) == (410, "evicted")
        assert re.search(r"20\d{4} bytes, and at most 100000 are kept", answer.json["message"])
        page = door.get(f"/get_results?after={cursor}")
        assert [one["task_id"] for one in page["results"]] == [*small, last], "nobody else has lost anything"
        assert (page["missed"], page["more"]) == (1, False)


def test_a_driver_that_dies_is_told(start_script, tmp_path):
    """Something in the process closes the pool's descriptors: those who wait learn of it, and so does the status."""
    script = start_script(DRIVER_DIES, args=[str(tmp_path / "token")])
    ended = script.wait(40, alarms=("Fatal", "Segmentation fault"))
    assert ended.out == "waiting\nwoken\nfine\n", ended.err


DRIVER_DIES = """
import os, sys, threading, time
import disttask, tasks

def target(name):
    try:
        return os.readlink(f"/proc/self/fd/{name}")
    except FileNotFoundError:  # another thread has closed it meanwhile
        return ""

def polls():
    return {int(name) for name in os.listdir("/proc/self/fd") if "eventpoll" in target(name)}

before = polls()
executor = disttask.Executor(1)
(epoll,) = polls() - before
server = executor.serve(port=0, token_file=sys.argv[1])
client = disttask.Client(server.url, token=server.token)
task_id = client.submit(tasks.sleep, 100)
while client.status()["running"] != 1:
    time.sleep(0.01)
cursor = client._request("GET", "/get_results")["cursor"]
woken = []
def wait(query):
    woken.append(client._request("GET", f"/get_results?{query}&wait=50", wait=50.0))
waiting = [threading.Thread(target=wait, args=(query,)) for query in (f"ids={task_id}", f"after={cursor}")]
for thread in waiting:
    thread.start()
    thread.join(0.1)
print("waiting", flush=True)
os.close(epoll)
for thread in waiting:
    thread.join(20)
print("woken" if len(woken) == 2 else woken, flush=True)
for page in woken:
    (found,) = page["results"]
    assert (found["task_id"], found["status"]) == (task_id, "failed"), page
    assert found["error"]["type"] == "disttask.PoolBroken", page
status = client.status()
assert not status["accepting"], status
assert "descriptors" in status["broken"], status
assert client._request("GET", f"/api/v1/tasks/{task_id}")["status"] == "failed"
print("fine", flush=True)
os._exit(0)
"""


def test_a_batch_is_accepted_whole_or_not_at_all(tmp_path):
    """A shutdown while batches come in: each is there with all its tasks, or was refused and has none."""
    text = disttask.serialize_task(tasks.add, 1)
    with running_executor(1) as executor:
        accepted, refused = [], []
        with native_door(executor, tmp_path) as door:
            asked = door.call("POST", "/api/v1/tasks", {"tasks": [{"task": text}] * 300})
            assert len(asked.json["task_ids"]) == len(set(asked.json["task_ids"])) == 300

            def send():
                while not refused:
                    answer = door.call("POST", "/api/v1/tasks", {"tasks": [{"task": text}] * 300})
                    (accepted if answer.status == 200 else refused).append(answer)

            senders = [threading.Thread(target=send) for _ in range(3)]
            for sender in senders:
                sender.start()
            wait_until(lambda: len(accepted) > 2, 20, "batches under way")
            executor._pool.shutdown("cancel")
            for sender in senders:
                sender.join(20)
            assert {answer.json["error"] for answer in refused} == {"shut_down"}
            assert door.get("/status")["totals"]["submitted"] == 300 * (1 + len(accepted))
