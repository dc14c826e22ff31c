"""Tasks over HTTP: submit, fetch, watch, cancel. The same through every door."""

import base64
import pickle
import threading
import time

import pytest

import disttask
import memory_tasks
import tasks
from helpers import is_alive, wait_until
from web import open_door, running_executor

pytest_plugins = ["web_fixtures"]


def last_cursor(door):
    """The cursor after everything that the tests before have left to finish."""
    wait_until(lambda: (found := door.get("/status"))["queued"] + found["running"] == 0, 10, "nothing left to do")
    page = door.get("/get_results")
    while page["more"]:
        page = door.get(f"/get_results?after={page['cursor']}")
    return page["cursor"]


def test_submit_and_fetch_by_id(door):
    task_id = door.submit(tasks.add, 3, 4)
    expected = {"task_id": task_id, "status": "succeeded", "result": 7, "result_repr": "7"}
    assert door.result(task_id) == expected
    assert door.result(task_id) == expected, "reading consumes nothing"


def test_several_ids_keep_their_order(door):
    ids = [door.submit(tasks.add, number) for number in range(5)]
    wanted = [ids[3], ids[0], ids[4], ids[0]]
    found = door.get(f"/get_results?ids={','.join(wanted)}&wait=20")
    assert [(one["task_id"], one["result"]) for one in found["results"]] == [(ids[3], 4), (ids[0], 1), (ids[4], 5)]
    assert (found["more"], found["cursor"]) == (False, None)


def test_the_cursor_gives_each_result_once(door):
    cursor = last_cursor(door)
    ids = {door.submit(tasks.add, number) for number in range(5)}
    for task_id in ids:
        door.result(task_id)
    seen, pages, more = [], 0, True
    while more:
        page = door.get(f"/get_results?after={cursor}&limit=2")
        assert page["missed"] == 0
        assert len(page["results"]) <= 2
        seen += [one["task_id"] for one in page["results"]]
        cursor, more, pages = page["cursor"], page["more"], pages + 1
    assert sorted(seen) == sorted(ids)
    assert pages == 3
    assert door.get(f"/get_results?after={cursor}")["results"] == []


def test_a_cursor_of_another_run_is_refused_at_once(door):
    cursor = last_cursor(door)
    run, _, number = cursor.partition(".")
    assert task_prefix(door) == run
    for other in (f"0123456789abcdef.{number}", "0123456789abcdef.0", f"{run}.{int(number) + 1000}"):
        answer = door.call("GET", f"/get_results?after={other}&wait=30")
        assert (answer.status, answer.json["error"]) == (410, "stale_cursor"), other
        assert "without 'after'" in answer.json["message"]


def task_prefix(door):
    return door.submit(tasks.add, 1).partition("-")[0]


@pytest.mark.parametrize("how", ["by id", "by cursor"])
def test_waiting_ends_when_the_task_does(door, hold, how):
    cursor = last_cursor(door)
    task_id = door.submit(tasks.wait_for_file, str(hold), "opened")
    query = f"ids={task_id}" if how == "by id" else f"after={cursor}"
    assert all(one["status"] in ("queued", "running") for one in door.get(f"/get_results?{query}")["results"])
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(door.get(f"/get_results?{query}&wait=50", timeout=60)))
    waiting.start()
    waiting.join(0.2)  # the request is on its way; too early would make this test weaker, not wrong
    assert waiting.is_alive()
    hold.touch()
    waiting.join(10)
    assert [one["result"] for one in answers[0]["results"]] == ["opened"]


def test_waiting_ends_with_its_time(door, hold):
    task_id = door.submit(tasks.wait_for_file, str(hold))
    began = time.monotonic()
    (found,) = door.get(f"/get_results?ids={task_id}&wait=0.3")["results"]
    assert found == {"task_id": task_id, "status": found["status"]}
    assert found["status"] in ("queued", "running")
    assert time.monotonic() - began >= 0.3


def test_a_value_that_is_no_json_has_a_repr_and_a_pickle(door):
    task_id = door.submit(set, [1])
    found = door.result(task_id, more="&pickle=true")
    assert (found["result"], found["result_repr"]) == (None, "{1}")
    assert pickle.loads(base64.b64decode(found["pickle"])) == {1}
    answer = door.call("GET", f"/api/v1/tasks/{task_id}/pickle")
    assert pickle.loads(answer.body) == {1}
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert "pickle" not in door.result(task_id), "only where it was asked for"


def test_an_exception_arrives_as_text(door):
    task_id = door.submit(tasks.fail, LookupError, "nothing there")
    found = door.result(task_id)
    assert found["status"] == "failed"
    assert (found["error"]["type"], found["error"]["message"]) == ("LookupError", "nothing there")
    assert "in fail" in found["error"]["traceback"]
    answer = door.call("GET", f"/api/v1/tasks/{task_id}/pickle")
    assert (answer.status, answer.json["error"]) == (404, "no_value")


def test_a_dead_worker_fails_its_task_only(door):
    crashed, other = door.submit(tasks.exit_seven), door.submit(tasks.add, 1)
    error = door.result(crashed)["error"]
    assert error["type"] == "disttask.WorkerCrashed"
    assert "exit_seven" in error["message"]
    assert door.result(other)["result"] == 2


def test_options(door, tmp_path):
    retried = door.submit(tasks.fail_once, str(tmp_path / "log"), "kill", retries=2)
    assert door.result(retried)["result"] == "survived"
    late = door.submit(tasks.sleep, 60, timeout=0.2)
    assert door.result(late)["error"]["type"] == "disttask.TaskTimeout"
    large = door.submit(memory_tasks.grow, 2000, max_memory=2**24)
    assert door.result(large)["error"]["type"] == "disttask.TaskMemoryExceeded"


def test_priority_goes_first(door, hold):
    for _ in range(2):
        door.submit(tasks.wait_for_file, str(hold))
    wait_until(lambda: door.executor.status()["running"] == 2, 10, "both workers held")
    queued = [door.submit(tasks.add, 1, priority=priority) for priority in (0, 5, -5)]
    listed = [task["task_id"] for task in door.get("/api/v1/tasks")["present"]]
    assert listed[2:] == [queued[1], queued[0], queued[2]]


def test_status_counts(door):
    before = door.get("/status")
    door.result(door.submit(tasks.add, 1))
    for func, args in ((tasks.fail, (ValueError,)), (tasks.kill_myself, ())):
        assert door.result(door.submit(func, *args))["status"] == "failed"
    after = door.get("/status")
    assert after["totals"]["submitted"] == before["totals"]["submitted"] + 3
    assert after["totals"]["failed"] == before["totals"]["failed"] + 2
    assert after["totals"]["succeeded"] == before["totals"]["succeeded"] + 1
    assert after["accepting"] is True
    assert len(after["workers"]) == 2
    assert set(after) == set(door.executor.status())


def test_tasks_are_listed_looked_at_and_cancelled(door, hold):
    running = [door.submit(tasks.wait_for_file, str(hold)) for _ in range(2)]
    wait_until(lambda: door.executor.status()["running"] == 2, 10, "both workers held")
    queued = door.submit(tasks.add, 1)
    present = {task["task_id"]: task for task in door.get("/api/v1/tasks")["present"]}
    assert [present[one]["status"] for one in (*running, queued)] == ["running", "running", "queued"]
    assert present[queued]["name"] == "add"
    assert present[running[0]]["pid"] in door.executor._pool.pids()

    answer = door.call("DELETE", f"/api/v1/tasks/{queued}")
    assert answer.json == {"task_id": queued, "cancelled": True}
    assert door.result(queued) == {"task_id": queued, "status": "cancelled"}
    for late in (queued, running[0]):
        answer = door.call("DELETE", f"/api/v1/tasks/{late}")
        assert (answer.status, answer.json["error"]) == (409, "too_late")
    one = door.get(f"/api/v1/tasks/{queued}")
    assert (one["status"], one["name"]) == ("cancelled", "add")
    assert queued in [task["task_id"] for task in door.get("/api/v1/tasks?limit=1")["past"]]


def test_a_task_is_killed_where_it_runs(door, hold, tmp_path):
    held = door.submit(tasks.wait_for_file, str(hold), "opened")
    log = tmp_path / "log"
    endless = door.submit(tasks.logged_sleep, str(log), "begun", 3600, retries=5)
    wait_until(lambda: tasks.lines(log), 10, "the task begun")
    pid = door.get(f"/api/v1/tasks/{endless}")["pid"]
    for task_id in (door.submit(tasks.add, 1, priority=-5), endless):
        answer = door.call("DELETE", f"/api/v1/tasks/{task_id}?kill=true")
        assert (answer.status, answer.json) == (200, {"task_id": task_id, "cancelled": True})
        assert door.get(f"/get_results?ids={task_id}")["results"] == [{"task_id": task_id, "status": "cancelled"}]
        again = door.call("DELETE", f"/api/v1/tasks/{task_id}?kill=true")
        assert (again.status, again.json["error"]) == (409, "too_late")
        assert "has ended" in again.json["message"]
    assert not is_alive(pid)
    hold.touch()
    assert door.result(held)["result"] == "opened", "nothing else was touched"
    assert tasks.lines(log) == ["begun"]


def test_a_kill_needs_a_key(door, hold):
    held = door.submit(tasks.wait_for_file, str(hold), "opened")
    assert door.call("DELETE", f"/api/v1/tasks/{held}?kill=true", key=False).status in (401, 403)
    hold.touch()
    assert door.result(held)["result"] == "opened"


def test_a_worker_is_restarted(door, hold):
    task_id = door.submit(tasks.wait_for_file, str(hold), "again", retries=1)
    wait_until(lambda: door.executor.status()["running"] == 1, 10, "task running")
    (busy,) = [worker["pid"] for worker in door.get("/api/v1/workers")["workers"] if worker["state"] == "busy"]
    assert door.call("POST", f"/api/v1/workers/{busy}/restart").json == {"pid": busy}
    wait_until(lambda: busy not in door.executor._pool.pids(), 10, "worker gone")
    hold.touch()
    assert door.result(task_id)["result"] == "again"
    wait_until(lambda: len(door.get("/api/v1/workers")["workers"]) == 2, 10, "two workers again")


def test_a_worker_that_is_on_its_way_out_counts_as_restarted(door):
    """Its pid may just have been read. Only one that is gone is unknown."""
    pids = door.executor._pool.pids
    statuses = []
    for _ in range(5):
        door.submit(
            tasks.hold_memory, 256 << 20
        )  # the kernel takes a while to have it back, and the process lasts so long
        wait_until(
            lambda: any(one["memory_bytes"] > 256 << 20 for one in door.executor.status()["workers"]), 10, "memory"
        )
        (pid,) = [one["pid"] for one in door.executor.status()["workers"] if one["state"] == "busy"]
        path = f"/api/v1/workers/{pid}/restart"
        assert door.call("POST", path).status == 200
        statuses.append(door.call("POST", path).status)
        assert statuses[-1] == 200 or pid not in pids()
        wait_until(lambda pid=pid: pid not in pids() and len(pids()) == 2, 10, "another worker in its place")
    assert 200 in statuses, "each was gone at once: this has shown nothing"


def test_many_at_once(door):
    batch = [{"task": disttask.serialize_task(tasks.add, number)} for number in range(50)]
    ids = door.call("POST", "/api/v1/tasks", {"tasks": batch}).json["task_ids"]
    found = door.get(f"/get_results?ids={','.join(ids)}&wait=20")["results"]
    assert [one["result"] for one in found] == list(range(1, 51))


def test_one_bad_task_refuses_the_batch(door):
    before = door.get("/status")["totals"]["submitted"]
    good = {"task": disttask.serialize_task(tasks.add, 1)}
    answer = door.call("POST", "/api/v1/tasks", {"tasks": [good, {"task": "no task"}, good]})
    assert (answer.status, answer.json["error"]) == (422, "invalid_task")
    assert door.get("/status")["totals"]["submitted"] == before


def test_metrics_agree_with_the_status(door):
    door.result(door.submit(tasks.add, 1))
    answer = door.call("GET", "/metrics")
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    lines = answer.body.decode().splitlines()
    assert lines[-1] == "# EOF"
    values = dict(line.split(" ") for line in lines if not line.startswith("#"))
    totals = door.get("/status")["totals"]
    assert float(values["disttask_tasks_submitted_total"]) == totals["submitted"] > 0
    assert float(values["disttask_worker_deaths_total"]) == totals["worker_deaths"]
    assert float(values["disttask_workers"]) == 2


def test_events_stream(door):
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", door.port, timeout=10)
    try:
        connection.request("GET", f"{door.prefix}/api/v1/events", headers=door.key)
        response = connection.getresponse()
        assert response.headers["content-type"].startswith("text/event-stream")
        pictures = 0
        while pictures < 2:
            pictures += response.readline() == b"event: picture\n"
    finally:
        connection.close()


def test_what_was_dropped_is_gone(kind, tmp_path):
    with running_executor(1, _keep=(1, 2**20, 60.0)) as executor, open_door(kind, executor, tmp_path) as door:
        cursor = last_cursor(door)
        first, second = door.submit(tasks.add, 1), door.submit(tasks.add, 2)
        assert door.result(second)["result"] == 3
        answer = door.call("GET", f"/get_results?ids={first}")
        assert (answer.status, answer.json["error"]) == (410, "evicted")
        assert first in answer.json["message"]
        page = door.get(f"/get_results?after={cursor}")
        assert (len(page["results"]), page["missed"]) == (1, 1)


def test_a_task_of_a_future_is_not_kept_for_others(kind, tmp_path):
    with running_executor(1) as executor, open_door(kind, executor, tmp_path) as door:
        future = executor.submit(tasks.add, 1)
        future.result(20)
        answer = door.call("GET", f"/get_results?ids={future.task_id}")
        assert (answer.status, answer.json["error"]) == (410, "evicted")
        assert "future's alone" in answer.json["message"]
        assert "keep more" not in answer.json["message"], "it would not help"


def test_a_pool_that_is_shut_down_takes_nothing(kind, tmp_path):
    with running_executor(1) as executor, open_door(kind, executor, tmp_path) as door:
        task_id = door.submit(tasks.add, 1)
        door.result(task_id)
        executor.shutdown(wait=False)
        answer = door.call("POST", "/submit_task", {"task": disttask.serialize_task(tasks.add, 1)})
        assert (answer.status, answer.json["error"]) == (503, "shut_down")
        assert "Executor" not in answer.json["message"], "who asks has none"
        assert door.get("/status")["accepting"] is False
        assert door.result(task_id)["result"] == 2, "results can still be fetched"
