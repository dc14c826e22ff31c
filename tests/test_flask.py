"""The Flask extension: its prefix, the application's own log-in, its settings, and forks."""

import contextlib
import http.client
import io
import json
import logging
import re
import socket
import threading
import time

import pytest
from flask import Flask, session

import disttask
import tasks
from disttask.integrations.flask import Disttask
from web import HARDENED, LOGIN, flask_door, native_door, running_executor

pytest_plugins = ["web_fixtures"]

HOST = {"Host": "127.0.0.1:5000"}


@pytest.fixture
def executor():
    with running_executor(1) as executor:
        yield executor


@pytest.fixture
def make_app(executor, tmp_path):
    """Makes applications with the extension in them: ``make_app(DISTTASK_URL_PREFIX="/tasks")``."""

    def make(*, authorize=None, **config):
        app = Flask("tests")
        app.config.update({"DISTTASK_TOKEN_FILE": tmp_path / "token", **config})
        app.get("/")(lambda: "the application's own")
        Disttask(app, executor, authorize=authorize)
        return app

    return make


def bearer(tmp_path):
    return {**HOST, "Authorization": f"Bearer {(tmp_path / 'token').read_text().strip()}"}


def test_without_a_prefix_the_application_goes_first(make_app, tmp_path):
    client = make_app().test_client()
    assert client.get("/", headers=HOST).text == "the application's own"
    assert client.get("/healthz", headers=HOST).text == "ok\n"
    assert client.get("/status", headers=HOST).status_code == 401
    assert client.get("/status", headers=bearer(tmp_path)).json["accepting"] is True


@pytest.mark.parametrize("prefix", ["/tasks", "/tasks/", "/a/b"])
def test_a_prefix(make_app, prefix, tmp_path):
    client = make_app(DISTTASK_URL_PREFIX=prefix).test_client()
    short = prefix.rstrip("/")
    assert client.get("/", headers=HOST).text == "the application's own"
    assert client.get("/healthz", headers=HOST).status_code == 404
    assert client.get(f"{short}/healthz", headers=HOST).text == "ok\n"
    assert client.get(f"{short}/status", headers=bearer(tmp_path)).json["accepting"] is True
    page = client.get(f"{short}/", headers=bearer(tmp_path))
    assert "<title>disttask</title>" in page.text
    links = re.findall(r'(?:href|src)="([^"]+)"', page.text)
    assert links
    for link in links:
        assert client.get(f"{short}/{link}", headers=bearer(tmp_path)).status_code == 200, "links keep the prefix"
    answer = client.get(short, headers=bearer(tmp_path))
    assert (answer.status_code, answer.headers["Location"]) == (308, f"{short}/")
    assert hardened(answer)
    assert client.get(short, headers=HOST).status_code == 401, "the door comes first"
    for odd in ("//", "//healthz", "/a//b", "/%0a", "/%0astatus", "/healthz/", "/api/v1/../../status"):
        for headers, statuses in ((HOST, {401}), (bearer(tmp_path), {404}), ({"Host": "evil.com"}, {421})):
            answer = client.get(f"{short}{odd}", headers=headers)
            assert answer.status_code in statuses, (odd, headers)
            assert hardened(answer), odd


def hardened(answer):
    return all((answer.headers.get(name) or "").startswith(value) for name, value in HARDENED.items())


class NotToBeRead(io.RawIOBase):
    """A body of a megabyte that the door has no business with."""

    at = 0

    def seek(self, offset, whence=0):
        self.at = offset if whence == 0 else 1_000_000
        return self.at

    def tell(self):
        return self.at

    def read(self, *_):
        raise AssertionError("read before the door")

    def readinto(self, *_):
        raise AssertionError("read before the door")


@pytest.mark.parametrize(
    ("headers", "status"), [(HOST, 401), ({"Host": "evil.com"}, 421)], ids=["no key", "other host"]
)
def test_no_body_is_read_for_who_is_not_let_in(make_app, headers, status):
    client = make_app(DISTTASK_URL_PREFIX="/tasks").test_client()
    answer = client.post(
        "/tasks/submit_task",
        headers={**headers, "Content-Type": "application/json"},
        input_stream=NotToBeRead(),
    )
    assert answer.status_code == status
    assert hardened(answer)


def test_a_client_below_a_prefix(executor, tmp_path):
    with flask_door(executor, tmp_path, prefix="/a/b") as door:
        url = f"http://127.0.0.1:{door.port}/a/b"
        client = disttask.Client(url, token=door.token)
        assert client.get_results([client.submit(tasks.add, 1)])[0]["result"] == 2
        link = url + client.login_path()
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", door.port, timeout=10)) as connection:
            connection.request("GET", link.partition(f":{door.port}")[2])
            answer = connection.getresponse()
            assert (answer.status, answer.headers["location"]) == (303, "./")


def test_a_wrong_prefix(make_app):
    with pytest.raises(ValueError, match="must begin with a slash"):
        make_app(DISTTASK_URL_PREFIX="tasks")


# --- the application's own log-in ------------------------------------------------------------------


def boom():
    raise RuntimeError("the log-in is broken")


@pytest.mark.parametrize("says", [False, None, 1, "yes", [True]], ids=repr)
def test_only_true_lets_in(make_app, says):
    client = make_app(authorize=lambda: says).test_client()
    assert client.get("/status", headers=HOST).status_code == 401


def test_true_lets_in(make_app):
    for client in (
        make_app(authorize=lambda: True).test_client(),
        make_app(DISTTASK_AUTHORIZE=lambda: True).test_client(),
    ):
        assert client.get("/status", headers=HOST).json["accepting"] is True
        basic = {**HOST, "Authorization": "Basic eDp5"}
        assert client.get("/status", headers=basic).status_code == 200, "the application's own kind of log-in"
        assert client.delete("/api/v1/tasks/nobody-1", headers=HOST).status_code == 404


def test_a_broken_log_in_lets_nobody_in(make_app, caplog):
    assert make_app(authorize=boom).test_client().get("/status", headers=HOST).status_code == 500
    assert "the log-in is broken" in caplog.text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "evil.com"}, 421),
        ({"Host": "evil.com:5000"}, 421),
        ({"Origin": "http://evil.com"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:8080"}, 403),
        ({"Origin": "http://127.0.0.1"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ],
    ids=repr,
)
def test_a_log_in_by_cookie_opens_nothing_to_other_sites(make_app, headers, status):
    """The browser sends the application's cookie along, whoever asks it to."""
    app = make_app(authorize=lambda: session.get("user") == "ada")
    app.secret_key = "for this test"
    app.post("/enter", endpoint="enter")(lambda: session.update(user="ada") or "in")
    client = app.test_client(use_cookies=False)
    task = {"task": disttask.serialize_task(tasks.add, 1)}
    assert client.post("/submit_task", json=task, headers=HOST).status_code == 401
    cookie = client.post("/enter", headers=HOST).headers["Set-Cookie"].partition(";")[0]
    entered = {**HOST, "Cookie": cookie}
    before = client.get("/status", headers=entered).json["totals"]["submitted"]
    sent = {**entered, "Content-Type": "application/json", **headers}
    assert client.post("/submit_task", data=json.dumps(task), headers=sent).status_code == status
    assert client.get("/status", headers=entered).json["totals"]["submitted"] == before + (status == 200)


# --- settings --------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [["app.example", "other.example:8443"], "app.example, other.example:8443"], ids=type)
def test_hosts(make_app, tmp_path, names):
    client = make_app(DISTTASK_ALLOW_HOSTS=names, DISTTASK_PORT=8000).test_client()
    client.get("/status")
    key = bearer(tmp_path)
    good = ["app.example", "app.example:8000", "other.example:8443", "127.0.0.1:8000", "localhost", "[::1]:8000"]
    bad = ["other.example", "other.example:8000", "127.0.0.1:5000", "app.example:80", "x.app.example", "0.0.0.0:8000"]
    assert [client.get("/status", headers={**key, "Host": host}).status_code for host in good] == [200] * len(good)
    assert [client.get("/status", headers={**key, "Host": host}).status_code for host in bad] == [421] * len(bad)


def test_what_is_refused_names_the_settings_of_the_application(make_app, tmp_path):
    """Not the options of a command line that nobody has typed."""
    client = make_app(DISTTASK_MAX_BODY=100).test_client()
    answer = client.get("/status", headers={"Host": "localhost:8080"})
    assert answer.status_code == 421
    assert "DISTTASK_PORT" in answer.json["message"]
    assert "DISTTASK_ALLOW_HOSTS" in answer.json["message"]
    assert "--" not in answer.json["message"]
    answer = client.post("/submit_task", json={"task": "x" * 200}, headers=bearer(tmp_path))
    assert answer.status_code == 413
    assert "DISTTASK_MAX_BODY" in answer.json["message"]
    assert "--" not in answer.json["message"]


def test_https(make_app):
    app = make_app(DISTTASK_HTTPS=True, DISTTASK_URL_PREFIX="/tasks")
    with app.app_context():
        url = app.extensions["disttask"]._extension.login_url()
    assert url.startswith("https://127.0.0.1:5000/tasks/login?token=")
    client = app.test_client(use_cookies=False)
    answer = client.get(url.partition(":5000")[2], headers=HOST)
    assert answer.status_code == 303
    assert "; Secure" in answer.headers["Set-Cookie"]
    for origin, status in (("https://127.0.0.1:5000", 401), ("http://127.0.0.1:5000", 403)):
        assert client.get("/tasks/status", headers={**HOST, "Origin": origin}).status_code == status


def test_an_application_factory(executor, tmp_path):
    extension = Disttask(executor=executor)
    apps = []
    for name in ("one", "two"):
        apps.append(Flask(name))
        apps[-1].config.update(DISTTASK_TOKEN_FILE=tmp_path / name)
        extension.init_app(apps[-1])
    with pytest.raises(RuntimeError, match="application context"):
        extension.login_url()
    for app in apps:
        with app.app_context():
            path = extension.login_url().partition(":5000")[2]
        assert app.test_client().get(path, headers=HOST).status_code == 303
    assert (tmp_path / "one").read_text() != (tmp_path / "two").read_text()


def test_a_token_file_of_no_use(make_app, tmp_path, caplog):
    (tmp_path / "token").write_text("x" * 43)
    (tmp_path / "token").chmod(0o644)
    with caplog.at_level(logging.ERROR):
        answer = make_app().test_client().get("/status", headers=HOST)
    assert (answer.status_code, answer.json["error"]) == (503, "unavailable")
    assert str(tmp_path) not in answer.text
    assert "others can read" in caplog.text, "the owner is told, not the caller"


def test_what_is_no_http_is_a_bad_request(make_app, tmp_path):
    answer = make_app().test_client().open("/status", method="BAD METHOD", headers=HOST)
    assert (answer.status_code, answer.json["error"]) == (400, "bad_request")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(("more", "status"), [(0, 200), (1, 413)])
def test_a_body_of_unknown_length_is_read_up_to_the_limit(make_app, tmp_path, more, status):
    """As gunicorn hands a chunked body over."""
    client = make_app(DISTTASK_MAX_BODY=5000).test_client()
    client.get("/status", headers=HOST)
    body = json.dumps({"task": disttask.serialize_task(tasks.add, 1)}).encode().ljust(5000 + more)
    headers = {**bearer(tmp_path), "Content-Type": "application/json", "Transfer-Encoding": "chunked"}
    stream = {
        "input_stream": io.BytesIO(body),
        "environ_overrides": {"wsgi.input_terminated": True, "CONTENT_LENGTH": ""},
    }
    assert client.post("/submit_task", headers=headers, **stream).status_code == status


# --- beside other interfaces, and in other processes -----------------------------------------------


def test_two_interfaces_hear_of_the_same_task(executor, tmp_path):
    """The second one does not take the first one's place."""
    with native_door(executor, tmp_path) as native, flask_door(executor, tmp_path) as flask:
        gate = tmp_path / "gate"
        task_id = native.submit(tasks.wait_for_file, str(gate), "open")
        found = []

        def wait(door):
            found.extend(door.get(f"/get_results?ids={task_id}&wait=50", timeout=60)["results"])

        waiting = [threading.Thread(target=wait, args=(door,)) for door in (native, flask)]
        for thread in waiting:
            thread.start()
        busy = time.process_time()
        waiting[0].join(0.6)
        assert time.process_time() - busy < 0.15, "who waits does not spin"
        assert native.get("/status")["running"] == 1, "a wait does not hold the server up"
        gate.touch()
        for thread in waiting:
            thread.join(10)
        assert [one["result"] for one in found] == ["open", "open"]


def test_a_reader_that_leaves_frees_its_thread(executor, tmp_path):
    """An event stream never ends by itself, and there are eight threads."""
    with flask_door(executor, tmp_path, prefix="/tasks") as door:
        for _ in range(3):
            with contextlib.ExitStack() as stack:
                for _ in range(8):
                    connection = stack.enter_context(contextlib.closing(stream(door)))
                    assert connection.recv(12) == b"HTTP/1.1 200"
            assert door.get("/status", timeout=10)["accepting"]


def stream(door):
    connection = socket.create_connection(("127.0.0.1", door.port), timeout=10)
    login = "".join(f"{name}: {value}\r\n" for name, value in LOGIN.items())
    head = f"GET {door.prefix}/api/v1/events HTTP/1.1\r\nHost: 127.0.0.1:{door.port}\r\n{login}\r\n"
    connection.sendall(head.encode())
    return connection


def test_flask_is_asked_for_by_name(run_script):
    ended = run_script(
        """
import sys
import disttask, disttask.integrations
assert "flask" not in sys.modules
sys.modules["flask"] = None
try:
    import disttask.integrations.flask
except ImportError as exc:
    print(exc)
"""
    )
    assert "pip install '.[flask]'" in ended.out
    assert "disttask[flask]" not in ended.out, "a stranger's package on PyPI"


def test_the_token_is_there_before_the_first_request(make_app, tmp_path):
    make_app()
    assert len((tmp_path / "token").read_text().strip()) >= 43
