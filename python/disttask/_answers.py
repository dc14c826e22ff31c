"""What a server's answers stand for: records, and exceptions."""

from __future__ import annotations

import base64
from typing import Any

from ._exceptions import DisttaskError, InvalidTask, RemoteError, ResultEvicted, UnknownTask, from_failure
from ._loading import load_outcome

_FAILURE_FIELDS = (
    "kind", "task", "name", "tags", "attempts", "pid", "exit_status", "signal", "oom_killed", "peak_memory",
    "memory_limit", "memory_growth", "stderr", "stack", "earlier_attempts"
)  # fmt: skip


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


def refuse(status: int, answer: dict[str, Any]) -> None:
    """Raise what an error answer says."""
    error, message = str(answer.get("error", "error")), str(answer.get("message", answer))
    match error:
        case "unknown_task":
            raise UnknownTask(message)
        case "evicted":
            raise ResultEvicted(message)
        case "invalid_task":
            raise InvalidTask(message)
    raise ServerRefused(status, error, message)


def is_pending(view: dict[str, Any]) -> bool:
    """Whether the task has not ended."""
    return view["status"] in ("queued", "running")


def record_of(view: dict[str, Any]) -> dict[str, Any]:
    """A result of the server, as `disttask.get_results` gives it."""
    record = {"task_id": view["task_id"], "status": view["status"]}
    if view["status"] == "succeeded":
        value, exc = load_outcome("value", base64.b64decode(view["pickle"]))
        return record | ({"result": value} if exc is None else {"status": "failed", "error": exc})
    if view["status"] == "failed":
        if "pickle" in view:
            return record | {"error": load_outcome("error", base64.b64decode(view["pickle"]))[1]}
        return record | {"error": _failure_of(view["error"])}
    return record


def _failure_of(error: dict[str, Any]) -> DisttaskError:
    """`WorkerCrashed`, `TaskTimeout` …, with all that is known."""
    if "failure" not in error:
        return RemoteError(error["type"], error["message"], error["traceback"])
    failure = error["failure"]
    known = {field: failure[field] for field in _FAILURE_FIELDS if field in failure}
    return from_failure({**known, "message": error["message"]})
