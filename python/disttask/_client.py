"""`Client`: the functions of the module, for a server in another process."""

from __future__ import annotations

import math
import os
import time
import urllib.parse
import warnings
from typing import TYPE_CHECKING, Any

from ._answers import ServerRefused, ServerUnreachable, is_pending, record_of
from ._checks import can_be_iterated, deadline, seconds, task_ids
from ._exceptions import UnknownTask
from ._functions import bringing_options
from ._options import Options
from ._proof import ServerUnproven, is_local, token_for
from ._tasks import serialize_task
from ._transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Never

__all__ = ["Client", "ClientSubmitter", "ServerRefused", "ServerUnproven", "ServerUnreachable"]

DEFAULT_URL = "http://127.0.0.1:5000"
"""Where `disttask serve` listens if it is told nothing else."""

WAIT_SLICE_SECONDS = 30.0
"""A longer wait for results is asked for in slices of this: the server takes up to 60 s."""

KILL_SECONDS = 10.0
"""How long a server waits for the end of a process that it has killed (`KILL_PATIENCE` in src/api/tasks.rs)."""

POLL_SECONDS = 0.2
"""How often a wait for everything looks whether there is still something to do."""

_NOT_OVER_HTTP = ("kill_on_cancel", "retry_on", "soft_timeout")
"""Options that `Client.options` does not have."""

_MAX_RETRIES = 1000
"""As in `src/api/submit.rs`."""

IDS_PER_REQUEST = 200
"""More ids go in several requests, so that no URL grows too long."""


class Client(Transport):
    """Submit to a server that ``disttask serve`` or `Executor.serve` has started.

    Args:
        url: where the server is. ``None``: ``$DISTTASK_URL``, else ``http://127.0.0.1:5000``.
        token: its token. ``None``: ``$DISTTASK_TOKEN``, else the user's token file (for a server of this machine, or
            behind https), else none. ``""``: the server asks for none, and is trusted all the same.
        timeout: seconds that one request may take without a sign of life.
        allow_plaintext: talk to another machine without https, where something else encrypts.

    Over plain http the server has to prove, on each connection, that it knows the token, before it is sent: whoever
    else holds the port gets nothing. Results are unpickled here, and only those of a server that has proved itself, by
    the token or its certificate: `ServerUnproven` is raised otherwise.

    Raises:
        ValueError: the address is none, or not one to send a token or a task to; the token cannot be sent; `timeout` is
            not more than 0.
        TokenFileError: the user's token file cannot be used.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        timeout: float = 30.0,
        allow_plaintext: bool = False,
    ) -> None:
        url = os.environ.get("DISTTASK_URL") or DEFAULT_URL if url is None else url
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            shown = url.rpartition("@")[2]  # a password is not for error messages
            raise ValueError(f"not a server's address: {shown!r}; expected something like http://127.0.0.1:5000")
        if parts.scheme == "http" and not is_local(parts.hostname) and not allow_plaintext:
            raise ValueError(
                f"{parts.hostname} is another machine, and without https everybody on the way can read the token and "
                "change the tasks: use https, or say allow_plaintext where something else encrypts"
            )
        self._url = parts
        if not seconds("timeout", timeout) > 0:
            raise ValueError(f"timeout must be more than 0 seconds, not {timeout}")
        self._timeout = timeout
        self._token = token_for(parts, token)
        self._trusted = parts.scheme == "https" or self._token is not None

    def __repr__(self) -> str:
        return f"<disttask.Client of {self._url.geturl()}>"

    def submit(
        self,
        task: str | Callable[..., Any],
        /,
        *args: Any,
        **kwargs: Any,
    ) -> str:
        """Submit a task text or a callable with its arguments. Returns the task's id.

        A `disttask.task` brings its options along; those of `Client.options` go first. A text has none.

        Raises:
            TypeError: an ``async def`` function, or something that is neither text nor callable.
            ValueError: a `disttask.task` has an option that `Client.options` does not have.
            InvalidTask: the server does not take the text.
            ServerUnreachable: no answer. A request that may have arrived is not sent again: the task might run twice.
            ServerRefused: any other error.
        """
        return self.options().submit(task, *args, **kwargs)

    def submit_many(self, tasks: Iterable[str]) -> list[str]:
        """Submit up to 10,000 task texts in one request: all are accepted, or none. Returns their ids.

        Raises:
            InvalidTask: the server does not take one of the texts.
            ServerUnreachable: no answer; see `submit`.
            ServerRefused: any other error.
        """
        return self.options().submit_many(tasks)

    def options(
        self,
        *,
        retries: int = 0,
        timeout: float | None = None,
        max_memory: int | None = None,
        priority: int = 0,
        backoff: float | tuple[float, float] | None = None,
        crash_limit: int | None = None,
        name: str | None = None,
        tags: Iterable[str] = (),
        **others: Never,
    ) -> ClientSubmitter:
        """Options for what is submitted through the object returned; see `Executor.options`.

        Raises:
            TypeError: an option has a wrong type, or is not for what goes to a server.
            ValueError: a value is out of range.
        """
        for other in others:
            raise TypeError(_no_option(other))
        options = Options(
            retries=retries, timeout=timeout, max_memory=max_memory, priority=priority, backoff=backoff,
            crash_limit=crash_limit, name=name, tags=tags,
        )  # fmt: skip
        if options.retries > _MAX_RETRIES:
            raise ValueError(f"retries must be between 0 and {_MAX_RETRIES} for a server, not {retries}")
        if options.timeout == math.inf:
            options.timeout = None
        return ClientSubmitter(self, options)

    def cancel(self, task_id: str) -> bool:
        """Cancel a task that waits. ``False``: it runs or has ended.

        Raises:
            UnknownTask: there is no such task.
        """
        return self._done(_path_of(task_id), "DELETE", "too_late")

    def kill(self, task_id: str) -> bool:
        """Cancel a task, and stop it where a worker runs it: see `Future.kill`. ``False``: it has ended.

        Raises:
            UnknownTask: there is no such task.
            ServerRefused: its process is killed, but does not end for ten seconds.
        """
        return self._done(f"{_path_of(task_id)}?kill=true", "DELETE", "too_late", wait=KILL_SECONDS)

    def restart_worker(self, pid: int) -> bool:
        """Kill a worker; another takes its place, and its task loses an attempt. ``False``: there is no such worker.

        Raises:
            TypeError: a pid is an int.
        """
        if isinstance(pid, bool) or not isinstance(pid, int):
            raise TypeError(f"pid must be an int, as in status()['workers'], not {type(pid).__name__}")
        return self._done(f"/api/v1/workers/{pid}/restart", "POST", "unknown_worker")

    def get_results(self, ids: Iterable[str] | None = None, *, timeout: float | None = None) -> list[dict[str, Any]]:
        """As `disttask.get_results`: results in the order of the ids, or all finished ones by completion.

        With ``ids=None`` nothing is waited for, unless there is a timeout: then, until there is nothing left to do.

        Raises:
            UnknownTask: an id that the server did not give out.
            ResultEvicted: a result that is no longer kept.
            ServerUnproven: nothing is unpickled that came from this server.
        """
        if not self._trusted:
            raise ServerUnproven(
                f"results of {self._url.geturl()} are not unpickled: there is no token by which the server could prove "
                "itself. Give its token; token='' means that it asks for none, and is trusted"
            )
        views = self._views(ids, timeout, pickle=True)
        with self._understanding():
            return [record_of(view) for view in views]

    def describe_results(
        self, ids: Iterable[str] | None = None, *, timeout: float | None = None
    ) -> list[dict[str, Any]]:
        """As `get_results`, as text, with nothing unpickled: what ``GET /get_results`` answers."""
        return self._views(ids, timeout, pickle=False)

    def status(self) -> dict[str, Any]:
        """As `Executor.status`."""
        return self._request("GET", "/status")

    def login_path(self) -> str:
        """A new path below the server's address that logs a browser in, once."""
        answer = self._request("POST", "/api/v1/login", {})
        with self._understanding():
            return str(answer["path"])

    # --- results -----------------------------------------------------------------------------------------------------

    def _views(self, ids: Iterable[str] | None, timeout: float | None, *, pickle: bool) -> list[dict[str, Any]]:
        end = deadline(timeout)
        what = "pickle=true" if pickle else "pickle=false"
        if ids is None:
            if end is not None:
                self._wait_idle(end)
            return self._finished(what)
        wanted = [_checked_id(task_id) for task_id in task_ids(ids)]
        once = list(dict.fromkeys(wanted))
        found: dict[str, dict[str, Any]] = {}
        for start in range(0, len(once), IDS_PER_REQUEST):
            found |= self._by_id(once[start : start + IDS_PER_REQUEST], end, what)
        return [dict(found[task_id]) for task_id in wanted]

    def _wait_idle(self, deadline: float) -> None:
        while (left := deadline - time.monotonic()) > 0:
            status = self.status()
            with self._understanding():
                if status["queued"] + status["running"] == 0:
                    return
            time.sleep(min(left, POLL_SECONDS))

    def _finished(self, what: str) -> list[dict[str, Any]]:
        """All that are kept. A server that was started anew meanwhile is asked from the beginning."""
        views: list[dict[str, Any]] = []
        cursor, more = "", True
        while more:
            after = f"&after={urllib.parse.quote(cursor)}" if cursor else ""
            try:
                page = self._request("GET", f"/get_results?{what}{after}")
            except ServerRefused as exc:
                if exc.error != "stale_cursor":
                    raise
                views, cursor = [], ""
                continue
            with self._understanding():
                views += page["results"]
                if cursor and page["missed"]:
                    text = f"the server has dropped {page['missed']} results before they could be fetched"
                    warnings.warn(text, RuntimeWarning, stacklevel=4)
                cursor, more = str(page["cursor"]), page["more"]
        return views

    def _by_id(self, ids: list[str], deadline: float | None, what: str) -> dict[str, dict[str, Any]]:
        """All of them, by id. What has come is not asked for again."""
        found: dict[str, dict[str, Any]] = {}
        while True:
            left = WAIT_SLICE_SECONDS if deadline is None else max(0.0, deadline - time.monotonic())
            wait = min(left, WAIT_SLICE_SECONDS)
            missing = [task_id for task_id in ids if task_id not in found]
            query = urllib.parse.quote(",".join(missing), safe=",")
            answer = self._request("GET", f"/get_results?{what}&ids={query}&wait={wait:.3f}", wait=wait)
            with self._understanding():
                views = {view["task_id"]: view for view in answer["results"]}
                pending = {task_id: views[task_id] for task_id in missing if is_pending(views[task_id])}
                ended = {task_id: view for task_id, view in views.items() if not is_pending(view)}
                arrived = {task_id: view for task_id, view in ended.items() if not view.get("omitted")}
                if ended and not arrived:
                    raise ValueError("no result")
            found |= arrived
            if len(arrived) == len(ended) and (not pending or (wait >= left and deadline is not None)):
                return found | pending


class ClientSubmitter:
    """`submit` and `submit_many` of a client, with options. Made by `Client.options`."""

    __slots__ = ("_client", "_options")

    def __init__(self, client: Client, options: Options) -> None:
        self._client = client
        self._options = options.given()  # the others may be unknown to an older server

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in sorted(self._options.items()))
        return f"<disttask.ClientSubmitter of {self._client!r}{given and ' with '}{given}>"

    def submit(self, task: str | Callable[..., Any], /, *args: Any, **kwargs: Any) -> str:
        """As `Client.submit`."""
        options = self._options
        if not isinstance(task, str):
            if (bringing := bringing_options(task)) is not None:
                assert bringing[0].options is not None
                options = _over_http(bringing[0].options.changed(**options))
            task = serialize_task(task, *args, **kwargs)
        elif args or kwargs:
            raise TypeError("a task text carries its own arguments: submit(text) takes no others")
        answer = self._client._request("POST", "/submit_task", {"task": task, **options})
        with self._client._understanding():
            return str(answer["task_id"])

    def submit_many(self, tasks: Iterable[str]) -> list[str]:
        """As `Client.submit_many`; the options hold for each task."""
        texts = list(tasks) if can_be_iterated(tasks) else [tasks]
        if not all(isinstance(task, str) for task in texts):
            raise TypeError("submit_many takes task texts: submit_many([serialize_task(f, x) for x in items])")
        body = {"tasks": [{"task": task, **self._options} for task in texts]}
        answer = self._client._request("POST", "/api/v1/tasks", body)
        with self._client._understanding():
            return [str(task_id) for task_id in answer["task_ids"]]


def _no_option(name: str) -> str:
    names = ", ".join(other for other in Options.__slots__ if other not in _NOT_OVER_HTTP)
    if name in _NOT_OVER_HTTP:
        return (
            f"{name} is not for tasks that go to a server, but for those of an Executor: leave it out. Client.options "
            f"takes {names}"
        )
    return f"there is no option {name!r}: Client.options takes {names}"


def _over_http(options: Options) -> dict[str, Any]:
    """Those of a `disttask.task` that are given.

    Raises:
        ValueError: one is not for what goes to a server.
    """
    given = options.given()
    others = sorted(given.keys() & set(_NOT_OVER_HTTP))
    if others:
        raise ValueError(
            f"{', '.join(others)}: not for tasks that go to a server; submit the plain function, the task's `func`"
        )
    return given


def _path_of(task_id: str) -> str:
    if not isinstance(task_id, str):
        raise TypeError(f"a task id is a str, not {type(task_id).__name__}")
    return f"/api/v1/tasks/{urllib.parse.quote(task_id, safe='')}"


def _checked_id(task_id: str) -> str:
    if not isinstance(task_id, str):
        raise TypeError(f"a task id is a str, not {type(task_id).__name__}")
    if not task_id.strip() or "," in task_id:
        raise UnknownTask(f"no task has the id {task_id!r}")
    return task_id.strip()
