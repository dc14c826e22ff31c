"""What the tests of the HTTP interface share: doors to an executor, a plain client, and raw sockets.

A *door* is a way in: the native server, Flask under waitress, or Flask under waitress below a prefix with the
application's own log-in. The fixtures are in `web_fixtures`.
"""

import contextlib
import http.client
import json
import socket
import threading
from dataclasses import dataclass, field

import waitress.server
from flask import Flask, request

import disttask
from disttask.integrations.flask import Disttask

KINDS = ("native", "flask", "mounted")
LOGIN = {"X-Logged-In": "yes, by the application"}
MAX_BODY = 100_000

HARDENED = {
    "content-security-policy": "default-src 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
}


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self):
        assert self.headers["content-type"] == "application/json", self.headers["content-type"]
        return json.loads(self.body)


@dataclass
class Door:
    """A way to an executor: where it is, and what opens it."""

    executor: disttask.Executor
    port: int
    token: str
    key: dict = field(repr=False)  # headers that let a request in
    login_url: object = None  # makes a link for a browser
    prefix: str = ""

    def call(self, method, path, body=None, *, headers=None, key=True, timeout=30.0):
        """One request on a connection of its own. Every answer must be hardened, whatever it is."""
        headers = {**(self.key if key else {}), **(headers or {})}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if body is not None:
            headers = {"Content-Type": "application/json", **headers}
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)) as connection:
            connection.request(method, self.prefix + path, body, headers)
            return read_answer(connection.getresponse(), path)

    def get(self, path, **kwargs):
        answer = self.call("GET", path, **kwargs)
        assert answer.status == 200, answer
        return answer.json

    def submit(self, func, *args, **options):
        answer = self.call("POST", "/submit_task", {"task": disttask.serialize_task(func, *args), **options})
        assert answer.status == 200, answer
        return answer.json["task_id"]

    def result(self, task_id, *, more=""):
        """The result of a task, waited for."""
        (found,) = self.get(f"/get_results?ids={task_id}&wait=20{more}")["results"]
        assert found["status"] not in ("queued", "running"), found
        return found

    def raw(self, data, *, timeout=10.0):
        """Send bytes and read one answer; `None`: the server has closed the connection without one."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as connection:
            return raw_exchange(connection, data)


def read_answer(response, path):
    endless = (response.headers["content-type"] or "").startswith("text/event-stream")
    answer = Answer(response.status, response.headers, b"" if endless else response.read())
    for name, value in HARDENED.items():
        assert (answer.headers[name] or "").startswith(value), (path, name, answer)
    return answer


def raw_exchange(connection, data):
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(data)
    with contextlib.closing(http.client.HTTPResponse(connection)) as response:
        try:
            response.begin()
            return Answer(response.status, response.headers, response.read())
        except (http.client.HTTPException, ConnectionResetError):
            return None


# --- doors -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def under_waitress(app, listener):
    """Serve a WSGI application from a thread."""
    server = waitress.server.create_server(app, sockets=[listener], threads=8)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()

    def close():
        for channel in list(server.active_channels.values()):
            channel.handle_close()
        server.close()

    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # woken by something else, it has closed everything before it is called
            server.trigger.pull_trigger(close)
        thread.join(5)
        server.task_dispatcher.shutdown()
        assert not thread.is_alive()


@contextlib.contextmanager
def native_door(executor, folder, *, no_auth=False, max_body=MAX_BODY):
    token_file = folder / "native.token"
    with executor.serve(port=0, token_file=token_file, no_auth=no_auth, max_body=max_body) as server:
        key = {} if no_auth else {"Authorization": f"Bearer {server.token}"}
        yield Door(executor, server.port, server.token, key, server.login_url)


@contextlib.contextmanager
def flask_door(executor, folder, *, prefix="", max_body=MAX_BODY, **config):
    """Below a prefix, the application's log-in opens it; without one, the token does."""
    app = Flask("tests")
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    token_file = folder / "flask.token"
    app.config.update(
        DISTTASK_URL_PREFIX=prefix,
        DISTTASK_PORT=port,
        DISTTASK_TOKEN_FILE=token_file,
        DISTTASK_MAX_BODY=max_body,
        DISTTASK_AUTHORIZE=(lambda: request.headers.get("X-Logged-In") == LOGIN["X-Logged-In"]) if prefix else None,
        **config,
    )
    extension = Disttask(app, executor)
    extension.login_url()  # makes the token
    token = token_file.read_text().strip()
    key = LOGIN if prefix else {"Authorization": f"Bearer {token}"}
    with under_waitress(app, listener):
        yield Door(executor, port, token, key, extension.login_url, prefix)


def open_door(kind, executor, folder, **options):
    if kind == "native":
        return native_door(executor, folder, **options)
    return flask_door(executor, folder, prefix="/tasks" if kind == "mounted" else "", **options)


@contextlib.contextmanager
def running_executor(*args, **kwargs):
    executor = disttask.Executor(*args, **kwargs)
    try:
        yield executor
    finally:
        executor.__exit__(KeyboardInterrupt, None, None)  # a test that failed may have left endless tasks
