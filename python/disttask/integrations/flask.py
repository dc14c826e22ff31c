"""disttask inside a Flask application: the same HTTP interface and dashboard that ``disttask serve`` opens.

::

    app = Flask(__name__)
    app.config["DISTTASK_URL_PREFIX"] = "/tasks"
    disttask = Disttask(app)

Every request below the prefix goes to the native router, the one behind ``disttask serve``: the same routes, answers
and checks. Requests need the token (``disttask token`` prints it; `Disttask.login_url` makes a link for a browser), or
the application's own log-in vouches for them: see `Disttask`.

Run the application in *one* process with threads (waitress; ``gunicorn --workers 1 --threads 16``): each process has
workers and task ids of its own, so a second one would not know the tasks of the first. A waiting request and an open
dashboard hold a thread each.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

try:
    from flask import Blueprint, Response, current_app, request
    from werkzeug.routing import BaseConverter
    from werkzeug.wsgi import get_input_stream
except ModuleNotFoundError as exc:
    raise ImportError(
        f"disttask.integrations.flask needs Flask ({exc}): pip install '.[flask]' in disttask's clone"
    ) from exc

from disttask import _native
from disttask._exceptions import DisttaskError
from disttask._executor import Executor
from disttask._serve import LOOPBACK_HOSTS, MAX_BODY_BYTES, PORT, PYTHON
from disttask._token import default_path, ensure_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flask import Flask
    from flask.blueprints import BlueprintSetupState
    from flask.sansio.app import App

_NAME = "disttask"

_QUERY_SAFE = "!$%&'()*+,-./:;=?@[]_~"
"""What a query may hold as it is; the rest of it (quotes, spaces, bytes) is escaped on the way."""


class Disttask:
    """The Flask extension.

    Args:
        app: the application; ``None``: call `init_app` later.
        executor: runs the tasks. ``None``: one is made at the first request (in a server that forks, in each child).
        authorize: the application's own log-in instead of the token. It is called for each request below the prefix,
            in Flask's request context (``session``, ``flask_login.current_user`` …); where it returns ``True``, the
            request is treated as if it carried the token. Who is let in runs code as the user of this process.

    A log-in by cookie is sent along by a browser even when another site makes the request. So the log-in stands in for
    the token only: ``Host`` must be on the list, a foreign ``Origin`` or ``Sec-Fetch-Site`` is refused (also that of
    another port or subdomain), a body must be JSON, and no CORS header is ever sent. An extension that asks for a CSRF
    token of its own on each POST (Flask-WTF's ``CSRFProtect``) has to exempt the blueprint ``disttask``.

    Settings, read by `init_app` from ``app.config``:

    * ``DISTTASK_URL_PREFIX``: such as ``/tasks``. Default: none, and the application's own routes go first.
    * ``DISTTASK_PORT``: the port that browsers see; 5000.
    * ``DISTTASK_ALLOW_HOSTS``: names that clients may call this server by (``Host``), besides 127.0.0.1, localhost
      and [::1]: a list, or a text with commas. A name without a port stands for itself with and without
      ``DISTTASK_PORT``.
    * ``DISTTASK_HTTPS``: whether browsers come by https; ``False``.
    * ``DISTTASK_TOKEN_FILE``: where the token is, or is made, by `init_app`; the user's
      (``~/.local/state/disttask/token``).
    * ``DISTTASK_AUTHORIZE``: as `authorize`.
    * ``DISTTASK_WORKERS``: worker processes of the executor that is made here; one per usable processor.
    * ``DISTTASK_MAX_BODY``: largest request in bytes; 64 MiB.
    """

    def __init__(
        self,
        app: Flask | None = None,
        executor: Executor | None = None,
        *,
        authorize: Callable[[], bool] | None = None,
    ) -> None:
        self._given = executor
        self._authorize = authorize
        self._workers: int | None = None
        self._app = app
        self._forget()
        os.register_at_fork(after_in_child=self._forget)
        if app is not None:
            self.init_app(app)

    def _forget(self) -> None:
        """At first, and in a forked child: executor and interfaces are the parent's, and so may a held lock be."""
        self._lock = threading.Lock()
        self._executor = self._given
        self._doors: dict[_Mount, _Door] = {}

    def init_app(self, app: Flask) -> None:
        """Add the interface to an application. No worker is started yet; the token file is made, if it can be."""
        self._workers = app.config.get("DISTTASK_WORKERS")
        mount = _Mount(self, app, self._authorize)
        blueprint = Blueprint(_NAME, __name__)
        blueprint.record(mount.add_rules)
        app.extensions[_NAME] = mount
        mount.make_token()
        app.register_blueprint(blueprint, url_prefix=mount.prefix or None)

    @property
    def executor(self) -> Executor:
        """The executor behind the interface; made now, if there is none yet."""
        with self._lock:
            return self._get_executor()

    def login_url(self) -> str:
        """A URL that logs one browser in, once; each call makes a new one.

        Raises:
            RuntimeError: there is no application: call it in an application context.
        """
        app = self._app or current_app
        mount: _Mount = app.extensions[_NAME]
        return mount.url + (self._door(mount).api.login_path() or "/")

    def _get_executor(self) -> Executor:
        if self._executor is None:
            self._executor = Executor(self._workers)
        return self._executor

    def _door(self, mount: _Mount) -> _Door:
        door = self._doors.get(mount)
        if door is not None:
            return door
        with self._lock:
            if mount not in self._doors:
                self._doors[mount] = mount.open(self._get_executor())
            return self._doors[mount]


class _Door(NamedTuple):
    api: _native.HttpApi
    token: str


class _Mount:
    """The interface in one application."""

    def __init__(self, extension: Disttask, app: Flask, authorize: Callable[[], bool] | None) -> None:
        get = app.config.get
        self._extension = extension
        self._log = app.logger
        self._authorize = authorize or get("DISTTASK_AUTHORIZE")
        self._port = int(get("DISTTASK_PORT", PORT))
        self._https = bool(get("DISTTASK_HTTPS", False))
        self._max_body = int(get("DISTTASK_MAX_BODY", MAX_BODY_BYTES))
        self._token_file = get("DISTTASK_TOKEN_FILE")
        self._hosts = _host_values(get("DISTTASK_ALLOW_HOSTS") or (), self._port)
        self.prefix: str = _checked_prefix(get("DISTTASK_URL_PREFIX") or "")
        self.url = f"{'https' if self._https else 'http'}://{self._hosts[0]}{self.prefix}"

    def make_token(self) -> None:
        """So that clients find it before the first request. Where that fails, requests are answered with why."""
        try:
            self._token()
        except OSError as exc:
            self._log.warning("disttask: %s", exc)

    def _token(self) -> str:
        return ensure_token(Path(self._token_file) if self._token_file is not None else default_path())

    def open(self, executor: Executor) -> _Door:
        token = self._token()
        api = _native.HttpApi(
            executor._pool,
            hosts=self._hosts,
            port=self._port,
            token=token,
            tls=self._https,
            max_body=self._max_body,
            python=PYTHON,
        )
        return _Door(api, token)

    def add_rules(self, state: BlueprintSetupState) -> None:
        """Take every path and every method: what there is, the native router knows (`Flask.route` lists methods)."""
        endpoint = f"{state.name}.answer"
        state.app.url_map.converters[_EVERYTHING] = _Everything
        for path in ("/", f"/<{_EVERYTHING}:path>", ""):
            rule = f"{state.url_prefix or ''}{path}"
            if rule:
                self._add_rule(state.app, rule, endpoint, bare=not path)
        state.app.view_functions[endpoint] = self.answer

    @staticmethod
    def _add_rule(app: App, path: str, endpoint: str, *, bare: bool) -> None:
        """One that is never answered by the router itself: its redirects and errors would come before the door."""
        defaults = {"bare": True} if bare else None
        app.url_map.add(
            app.url_rule_class(path, endpoint=endpoint, methods=None, merge_slashes=False, defaults=defaults)
        )

    def answer(self, path: str = "", *, bare: bool = False) -> Response:
        """The view: hand the request on, and stream the answer back. The prefix itself leads to what is below it."""
        try:
            door = self._extension._door(self)
        except (DisttaskError, OSError):
            current_app.logger.exception("disttask cannot start")
            return _own_error(503, "unavailable", "disttask cannot start here: the server's log says why")
        query = request.query_string
        target = quote(f"/{path}") + (f"?{quote(query, safe=_QUERY_SAFE)}" if query else "")
        try:
            sent = self._headers(door.token)
            refused = door.api.check(request.method, target, sent)
            if refused is not None:  # nothing is read of its body
                (status, headers), text = refused
                return Response(text, status, headers)
            if bare:
                return _redirect(f"{request.root_path.rstrip('/')}{self.prefix}/")
            (status, headers), pieces = door.api.handle(request.method, target, sent, self._body())
        except ValueError as exc:
            return _own_error(400, "bad_request", str(exc))
        response = Response(pieces, status, headers, direct_passthrough=True)
        if not any(name == "content-type" for name, _ in headers):
            del response.headers["Content-Type"]  # Flask's own idea of it
        return response

    def _headers(self, token: str) -> list[tuple[str, str]]:
        headers = list(request.headers)
        if self._authorize is None or self._authorize() is not True:
            return headers
        headers = [(name, value) for name, value in headers if name.lower() != "authorization"]
        return [*headers, ("Authorization", f"Bearer {token}")]

    def _body(self) -> bytes:
        """The body, or one byte more than is allowed; nothing of one that says that it is too large."""
        length = request.content_length
        if length is not None and length > self._max_body:
            return b""
        return get_input_stream(request.environ).read(self._max_body + 1)


_EVERYTHING = "disttask_everything"


class _Everything(BaseConverter):
    """Any rest of a path, slashes and line breaks included; what else the application has goes first."""

    regex = r"[\s\S]+"
    part_isolating = False
    weight = 1000


def _redirect(location: str) -> Response:
    return _own_answer(308, f"<a href='{quote(location)}'>here</a>", "text/html", {"Location": quote(location)})


def _own_error(status: int, error: str, message: str) -> Response:
    return _own_answer(status, json.dumps({"error": error, "message": message}), "application/json", {})


def _own_answer(status: int, body: str, kind: str, headers: dict[str, str]) -> Response:
    return Response(body, status, {**_native.HARDENING, "Cache-Control": "no-store", **headers}, mimetype=kind)


def _host_values(names: str | Iterable[str], port: int) -> list[str]:
    """Values of ``Host`` that are let in."""
    names = names.split(",") if isinstance(names, str) else names
    values = []
    for name in (*LOOPBACK_HOSTS, *(name.strip() for name in names)):
        has_port = ":" in name.rpartition("]")[2]
        values += [name] if has_port else [f"{name}:{port}", name]
    return values


def _checked_prefix(prefix: str) -> str:
    prefix = prefix.rstrip("/")
    if prefix and not prefix.startswith("/"):
        raise ValueError(f"DISTTASK_URL_PREFIX must begin with a slash, such as /tasks, not {prefix!r}")
    return prefix
