"""How a task is run and what it is called, over HTTP and from `disttask.Client`."""

import pytest

import disttask
import tasks
from helpers import wait_until
from payloads import PAYLOADS

pytest_plugins = ["web_fixtures"]

LONGEST = "é" * 255
MOST = [f"tag {number}" for number in range(16)]


def submission(**options):
    return {"task": disttask.serialize_task(tasks.add, 1), **options}


@pytest.fixture
def client(native):
    return disttask.Client(f"http://127.0.0.1:{native.port}", token=native.token)


def listed(door, query=""):
    """What a list has, by id."""
    found = door.get(f"/api/v1/tasks?limit=1000{query}")
    return {task["task_id"]: task for task in (*found["present"], *found["past"])}


@pytest.mark.parametrize("name", ["import of May", LONGEST, "<script>alert(1)</script>", "a\nb\0", "x"])
def test_a_name_and_tags_are_shown(door, name):
    task_id = door.submit(tasks.add, 1, name=name, tags=[*MOST[1:], LONGEST])
    door.result(task_id)
    for task in (door.get(f"/api/v1/tasks/{task_id}"), listed(door)[task_id]):
        assert (task["name"], task["tags"]) == (name, [*MOST[1:], LONGEST])


def test_a_task_without_them_is_called_as_its_function(door):
    task_id = door.submit(tasks.add, 1, name=None, tags=[])
    door.result(task_id)
    assert (door.get(f"/api/v1/tasks/{task_id}")["name"], listed(door)[task_id]["tags"]) == ("add", [])


def test_a_failure_has_them(door):
    task_id = door.submit(tasks.kill_myself, name="unlucky", tags=["nightly", "x"])
    error = door.result(task_id)["error"]
    assert (error["failure"]["name"], error["failure"]["tags"]) == ("unlucky", ["nightly", "x"])
    assert "unlucky" in error["message"]


def test_the_crash_limit_is_kept_though_retries_are_left(door):
    task_id = door.submit(tasks.kill_myself, retries=50, crash_limit=2, backoff=0)
    assert door.result(task_id)["error"]["failure"]["attempts"] == 2


@pytest.mark.parametrize("backoff", [0.01, [0, 0.01], 0, None])
def test_backoff_is_a_number_or_a_pair(door, backoff, tmp_path):
    task_id = door.submit(tasks.fail_once, str(tmp_path / "log"), "kill", retries=1, backoff=backoff)
    assert door.result(task_id)["result"] == "survived"


def test_a_long_backoff_is_waited_for(door, tmp_path):
    task_id = door.submit(tasks.fail_once, str(tmp_path / "log"), "kill", retries=1, backoff=[4e6, 4e6])
    wait_until((tmp_path / "log").exists, 10, "begun")
    # The wait is random, between nothing and 46 days.
    assert door.get(f"/get_results?ids={task_id}&wait=0.5")["results"][0]["status"] == "queued"
    assert door.call("DELETE", f"/api/v1/tasks/{task_id}").json["cancelled"]


def test_each_task_of_a_batch_has_its_own(door):
    batch = [submission(name="first", tags=["a", "b"]), submission(), submission(tags=["b"])]
    ids = door.call("POST", "/api/v1/tasks", {"tasks": batch}).json["task_ids"]
    for task_id in ids:
        door.result(task_id)
    found = listed(door)
    assert [(found[one]["name"], found[one]["tags"]) for one in ids] == [
        ("first", ["a", "b"]), ("add", []), ("add", ["b"])
    ]  # fmt: skip


BAD = [
    ({"name": ""}, "name must have 1 to 255 characters, not 0"),
    ({"name": LONGEST + "é"}, "name must have 1 to 255 characters, not 256"),
    ({"name": 5}, "string"),
    ({"name": ["x"]}, "string"),
    ({"tags": "nightly"}, "nightly"),
    ({"tags": [5]}, "string"),
    ({"tags": [None]}, "string"),
    ({"tags": {"a": 1}}, "sequence"),
    ({"tags": ["a", ""]}, "a tag must have 1 to 255 characters, not 0"),
    ({"tags": [LONGEST + "é"]}, "a tag must have 1 to 255 characters, not 256"),
    ({"tags": [*MOST, "one more"]}, "at most 16 tags for a task, not 17"),
    ({"crash_limit": 0}, "crash_limit must be between 1 and 4294967295, not 0"),
    ({"crash_limit": -1}, "-1"),
    ({"crash_limit": 2**32}, "4294967296"),
    ({"crash_limit": 1.5}, "1.5"),
    ({"backoff": 1}, "backoff needs retries=n, how often the task may run again"),
    ({"backoff": 1, "retries": 0}, "backoff needs retries=n, how often the task may run again"),
    ({"backoff": -1}, "backoff must be 0 <= base <= cap <= 4294967 seconds, not -1"),
    ({"backoff": [2, 1]}, "backoff must be 0 <= base <= cap"),
    ({"backoff": 1e9}, "backoff must be 0 <= base <= cap"),
    ({"backoff": [1]}, "backoff must be a number of seconds, or a pair"),
    ({"backoff": [1, 2, 3]}, "backoff must be a number of seconds, or a pair"),
    ({"backoff": "soon"}, "backoff must be a number of seconds, or a pair"),
    ({"backoff": True}, "backoff must be a number of seconds, or a pair"),
]


@pytest.mark.parametrize(("options", "hint"), BAD, ids=[str(options)[:40] for options, _ in BAD])
def test_what_is_no_option_is_explained_and_nothing_is_submitted(door, options, hint):
    before = door.get("/status")["totals"]["submitted"]
    for path, body in (
        ("/submit_task", submission(**options)),
        ("/api/v1/tasks", {"tasks": [submission(), submission(**options)]}),
    ):
        answer = door.call("POST", path, body)
        assert (answer.status, answer.json["error"]) == (400, "bad_request")
        assert hint in answer.json["message"]
    assert door.get("/status")["totals"]["submitted"] == before


def test_lists_are_found_by_name_and_tag(door, hold):
    held = [door.submit(tasks.wait_for_file, str(hold), name="holder", tags=["wanted"]) for _ in range(2)]
    wait_until(lambda: door.executor.status()["running"] == 2, 10, "both workers held")
    batch = [submission(name=f"is {number % 2}", tags=["wanted"] if number < 4 else ["other"]) for number in range(6)]
    ids = door.call("POST", "/api/v1/tasks", {"tasks": batch}).json["task_ids"]

    def check():
        assert set(listed(door, "&tag=wanted")) == {*held, *ids[:4]}
        assert set(listed(door, "&name=is%201")) == {ids[1], ids[3], ids[5]}
        assert set(listed(door, "&name=is%201&tag=wanted")) == {ids[1], ids[3]}
        assert set(listed(door, "&tag=want")) == set(listed(door, "&name=IS%201")) == set(), "whole, and just so"

    check()
    first = door.get("/api/v1/tasks?tag=other&limit=1")
    assert [task["task_id"] for task in first["present"]] == [ids[4]], "as many as asked for, of those that match"
    hold.touch()
    for task_id in (*held, *ids):
        door.result(task_id)
    assert door.get("/api/v1/tasks?tag=wanted")["present"] == []
    check()
    last = door.get("/api/v1/tasks?tag=wanted&limit=1")
    assert [task["status"] for task in last["past"]] == ["succeeded"]


@pytest.mark.parametrize("query", ["tag=", "name=", f"tag={'x' * 256}", "tag=a&tag=b", "tags=a"])
def test_a_list_is_not_asked_for_what_cannot_be(door, query):
    answer = door.call("GET", f"/api/v1/tasks?{query}")
    assert (answer.status, answer.json["error"]) == (400, "bad_request")
    assert any(word in answer.json["message"] for word in ("1 to 255", "duplicate", "unknown field"))


def test_the_description_has_them(door):
    document = door.get("/openapi.json")
    properties = document["components"]["schemas"]["Submission"]["properties"]
    assert {"name", "tags", "crash_limit", "backoff"} <= set(properties)
    assert (properties["name"]["maxLength"], properties["tags"]["maxItems"]) == (255, 16)
    assert properties["crash_limit"]["minimum"] == 1
    assert "Waits" in document["components"]["schemas"]
    asked = {one["name"] for one in document["paths"]["/api/v1/tasks"]["get"]["parameters"]}
    assert asked == {"limit", "name", "tag"}


def test_options_of_the_client(client, native):
    options = client.options(retries=9, crash_limit=2, backoff=(0, 0), name="of the client", tags=("x", "y"))
    text = disttask.serialize_task(tasks.kill_myself)
    ids = [options.submit(tasks.kill_myself), *options.submit_many([text])]
    for record in client.get_results(ids):
        crash = record["error"]
        assert (crash.name, crash.tags, crash.attempts) == ("of the client", ("x", "y"), 2)
    assert set(ids) <= set(listed(native, "&tag=x&name=of%20the%20client"))


def test_options_that_a_task_brings_along(client, native):
    brought = disttask.task(tasks.kill_myself, retries=9, crash_limit=2, backoff=0, name="brought", tags=["its own"])
    ids = [client.submit(brought), client.options(name="given", crash_limit=3).submit(brought)]
    found = [(crash.name, crash.tags, crash.attempts) for crash in (one["error"] for one in client.get_results(ids))]
    assert found == [("brought", ("its own",), 2), ("given", ("its own",), 3)]
    assert set(ids) == set(listed(native, "&tag=its%20own"))
    plain = disttask.task(tasks.add)
    assert client.get_results([client.submit(plain, 1, 2)])[0]["result"] == 3


def test_options_of_a_task_that_are_not_for_servers_are_refused(client):
    refused = {"retries": 1, "retry_on": OSError}, {"soft_timeout": 1}, {"kill_on_cancel": True}
    before = client.status()["totals"]["submitted"]
    for options in refused:
        with pytest.raises(ValueError, match=f"{[*options][-1]}: not for tasks that go to a server; .* `func`"):
            client.submit(disttask.task(tasks.add, **options), 1)
    assert client.status()["totals"]["submitted"] == before


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"name": ""}, ValueError),
        ({"name": 5}, TypeError),
        ({"tags": "x"}, TypeError),
        ({"tags": ["x"] * 17}, ValueError),
        ({"crash_limit": 0}, ValueError),
        ({"backoff": (2, 1)}, ValueError),
        ({"retries": 1001}, ValueError),
        ({"retry_on": OSError}, TypeError),
    ],
    ids=str,
)
def test_the_client_refuses_what_is_no_option(client, options, kind):
    with pytest.raises(kind):
        client.options(**options)


def test_what_options_a_client_has_is_seen(client):
    assert (
        repr(client.options(retries=2, name="x"))
        == f"<disttask.ClientSubmitter of {client!r} with name='x', retries=2>"
    )
    assert repr(client.options()) == f"<disttask.ClientSubmitter of {client!r}>"


def test_only_what_differs_from_the_default_is_sent(client, monkeypatch):
    """A server that does not know an option refuses it."""
    sent = []
    send = client._request
    monkeypatch.setattr(client, "_request", lambda *args, **kwargs: sent.append(args) or send(*args, **kwargs))
    client.submit(tasks.add, 1)
    client.options(tags=["x"], timeout=9).submit(tasks.add, 1)
    client.options(tags=["x"], timeout=float("inf")).submit(tasks.add, 1)
    assert [set(body) for _, _, body in sent] == [{"task"}, {"task", "tags", "timeout"}, {"task", "tags"}]


def test_payloads_come_back_as_they_were(door):
    for start in range(0, len(PAYLOADS), 16):
        tags = [payload[:255] for payload in PAYLOADS[start : start + 16]]
        task_id = door.submit(tasks.add, 1, name=tags[0], tags=tags)
        answer = door.call("GET", f"/api/v1/tasks/{task_id}")
        assert answer.headers["content-type"] == "application/json"
        assert (answer.json["name"], answer.json["tags"]) == (tags[0], tags)
