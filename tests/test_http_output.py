"""Over HTTP: what a task has printed, and the stack of one that runs."""

import tasks
from helpers import wait_until

pytest_plugins = ["web_fixtures"]


def test_a_task_shows_what_it_printed(door):
    task_id = door.submit(print, "<b>printed</b>")
    door.result(task_id)
    assert door.get(f"/api/v1/tasks/{task_id}")["output"] == "<b>printed</b>\n"
    silent = door.submit(tasks.add, 1)
    door.result(silent)
    assert door.get(f"/api/v1/tasks/{silent}")["output"] == ""
    assert all("output" not in task for task in door.get("/api/v1/tasks")["past"])


def test_the_beginning_of_much_output_is_not_kept(door):
    task_id = door.submit(tasks.print_much, 10**6)
    door.result(task_id)
    text = door.get(f"/api/v1/tasks/{task_id}")["output"]
    assert text.startswith("[disttask: ")
    assert len(text) < 300_000


def test_the_stack_of_a_task_that_runs(door, hold):
    running = [door.submit(tasks.wait_for_file, str(hold)) for _ in range(2)]
    waiting = door.submit(tasks.add, 1)

    def shown():
        answer = door.call("GET", f"/api/v1/tasks/{running[0]}/stack")
        return answer.status == 200 and " in wait_for_file\n" in answer.json["stack"]

    wait_until(shown, 10, "the stack")
    for task_id, status in ((waiting, 409), ("nobody-1", 404), (waiting.partition("-")[0] + "-999999", 404)):
        assert door.call("GET", f"/api/v1/tasks/{task_id}/stack").status == status
    hold.touch()
    assert door.result(waiting)["status"] == "succeeded"
    assert door.call("GET", f"/api/v1/tasks/{running[0]}/stack").json["error"] == "not_running"
