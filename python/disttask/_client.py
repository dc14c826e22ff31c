"""`Client`: the functions of the module, for a server in another process."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import time
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._exceptions import (
    DisttaskError,
    InvalidTask,
    RemoteError,
    ResultEvicted,
    UnknownTask,
)
from ._pickling import load_outcome
from ._tasks import serialize_task
from ._token import TOKEN_VARIABLE, default_path, read_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

TRIES = 3
"""How often a request that changes nothing, or that never reached the server, is sent before the error is raised."""

RETRY_SECONDS = 0.2
"""The wait before the second try; the third comes after twice as long."""

WAIT_SLICE_SECONDS = 30.0
"""A longer wait for results is asked for in slices of this: the server takes up to 60 s."""

IDS_PER_REQUEST = 200
"""More ids go in several requests, so that no URL grows too long."""


class ServerUnreachable(DisttaskError, ConnectionError):
    """The server does not answer; the text says whether the request may have arrived."""


class ServerRefused(DisttaskError, RuntimeError):
    """The server answered with an error.

    Attributes:
        status: the HTTP status (`int`).
        error: a word for programs, such as ``unauthorized`` (`str`).
    """

    def __init__(self, status: int, error: str, message: str) -> None:
        super().__init__(status, error, message)
        self.status = status
        self.error = error
        self.message = message

    def __str__(self) -> str:
        return f"{self.message} (HTTP {self.status})"


class Client:
    """Submit to a server that ``disttask serve`` or `Executor.serve` has started.

    Args:
        url: where the server is.
        token: its token. ``None``: ``$DISTTASK_TOKEN``, else the user's token file, else none.
        timeout: seconds that one request may take without a sign of life.

    Results are unpickled here: only talk to a server that you trust.
    """

    def __init__(self, url: str = "http://127.0.0.1:5000", *, token: str | None = None, timeout: float = 30.0) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not a server's address: {url!r}; expected something like http://127.0.0.1:5000")
        self._url = parts
        self._timeout = timeout
        self._token = token if token is not None else _found_token()

    def submit(
        self,
        task: str | Callable[..., Any],
        /,
        *args: Any,
        **kwargs: Any,
    ) -> str:
        """Submit a task text or a callable with its arguments. Returns the task's id.

        Raises:
            InvalidTask: the server does not take the text.
            ServerUnreachable: no answer. A request that may have arrived is not sent again: the task might run twice.
            ServerRefused: any other error.
        """
        if not isinstance(task, str):
            task = serialize_task(task, *args, **kwargs)
        elif args or kwargs:
            raise TypeError("a task text carries its own arguments: submit(text) takes no others")
        answer = self._request("POST", "/submit_task", {"task": task})
        with self._understanding():
            return str(answer["task_id"])

    def get_results(self, ids: Iterable[str] | None = None, *, timeout: float | None = None) -> list[dict[str, Any]]:
        """As `disttask.get_results`: results in the order of the ids, or all finished ones by completion.

        With ``ids=None`` nothing is waited for.
        """
        if isinstance(ids, str):
            raise TypeError("ids must be a list of task ids, not one string: get_results([task_id])")
        if ids is None:
            return self._finished()
        deadline = None if timeout is None else time.monotonic() + timeout
        wanted = list(ids)
        records: list[dict[str, Any]] = []
        for start in range(0, len(wanted), IDS_PER_REQUEST):
            records += self._by_id(wanted[start : start + IDS_PER_REQUEST], deadline)
        return records

    def status(self) -> dict[str, Any]:
        """As `Executor.status`."""
        return self._request("GET", "/status")

    def login_path(self) -> str:
        """A new path that logs a browser in, once."""
        answer = self._request("POST", "/api/v1/login", {})
        with self._understanding():
            return str(answer["path"])

    def _finished(self) -> list[dict[str, Any]]:
        records: list[dict[str, Any]] = []
        cursor, more = 0, True
        while more:
            page = self._request("GET", f"/get_results?pickle=true&after={cursor}")
            with self._understanding():
                records += [_record(found) for found in page["results"]]
                cursor, more = page["cursor"], page["more"]
        return records

    def _by_id(self, ids: list[str], deadline: float | None) -> list[dict[str, Any]]:
        query = urllib.parse.quote(",".join(ids), safe=",")
        while True:
            left = WAIT_SLICE_SECONDS if deadline is None else max(0.0, deadline - time.monotonic())
            wait = min(left, WAIT_SLICE_SECONDS)
            answer = self._request("GET", f"/get_results?pickle=true&ids={query}&wait={wait:.3f}", wait=wait)
            with self._understanding():
                found = answer["results"]
                pending = any(one["status"] in ("queued", "running") for one in found)
                if not pending or (wait >= left and deadline is not None):
                    return [_record(one) for one in found]

    def _request(self, method: str, path: str, body: object = None, *, wait: float = 0.0) -> dict[str, Any]:
        """Send, and try again where that cannot do anything twice."""
        for attempt in range(1, TRIES + 1):
            connected = False
            connection = self._connect(wait)
            try:
                connection.connect()
                connected = True
                return self._exchange(connection, method, path, body)
            except (OSError, http.client.HTTPException) as exc:
                repeatable = method == "GET" or not connected
                if attempt == TRIES or not repeatable:
                    raise ServerUnreachable(self._unreachable(exc, method, connected)) from exc
            finally:
                connection.close()
            time.sleep(RETRY_SECONDS * 2 ** (attempt - 1))
        raise AssertionError("unreachable")

    def _connect(self, wait: float) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._url.scheme == "https" else http.client.HTTPConnection
        assert self._url.hostname
        return kind(self._url.hostname, self._url.port, timeout=self._timeout + wait)

    def _exchange(self, connection: http.client.HTTPConnection, method: str, path: str, body: object) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        connection.request(method, self._url.path.rstrip("/") + path, data, headers)
        response = connection.getresponse()
        text = response.read()
        try:
            answer = json.loads(text)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise http.client.HTTPException(f"not an answer of a disttask server: {text[:80]!r}")
        if response.status >= 400:
            _refuse(response.status, answer)
        return answer

    @contextlib.contextmanager
    def _understanding(self) -> Iterator[None]:
        """Around the reading of an answer."""
        try:
            yield
        except (KeyError, TypeError, ValueError) as exc:
            where = self._url.geturl()
            raise ServerUnreachable(f"not an answer of a disttask server, from {where}: {exc!r} in it") from exc

    def _unreachable(self, exc: Exception, method: str, connected: bool) -> str:
        where = self._url.geturl()
        if connected and method != "GET":
            return f"the server at {where} broke off ({exc}); the request may or may not have arrived"
        return f"no server answers at {where} ({exc}): is 'disttask serve' running there?"


def _found_token() -> str | None:
    token = os.environ.get(TOKEN_VARIABLE)
    if token:
        return token
    path = default_path()
    return read_token(path) if Path(path).exists() else None


def _refuse(status: int, answer: dict[str, Any]) -> None:
    error, message = str(answer.get("error", "error")), str(answer.get("message", answer))
    match error:
        case "unknown_task":
            raise UnknownTask(message)
        case "evicted":
            raise ResultEvicted(message)
        case "invalid_task":
            raise InvalidTask(message)
    raise ServerRefused(status, error, message)


def _record(found: dict[str, Any]) -> dict[str, Any]:
    """A result of the server, as `disttask.get_results` gives it."""
    record = {"task_id": found["task_id"], "status": found["status"]}
    if found["status"] == "succeeded":
        value, exc = load_outcome("value", base64.b64decode(found["pickle"]))
        return record | ({"result": value} if exc is None else {"status": "failed", "error": exc})
    if found["status"] == "failed":
        if "pickle" in found:
            return record | {"error": load_outcome("error", base64.b64decode(found["pickle"]))[1]}
        error = found["error"]
        return record | {"error": RemoteError(error["type"], error["message"], error["traceback"])}
    return record
