"""Tasks as text, and the functions of the module: `serialize_task`, `submit`, `get_results`, `status`."""

from __future__ import annotations

import base64
import binascii
import re
import sys
import time

from . import _handshake
from ._checks import deadline, task_ids, to_submit
from ._default import default_executor
from ._exceptions import InvalidTask, ResultEvicted, SerializationError, UnknownTask, dependency_failed
from ._functions import bringing_options
from ._future import Future
from ._inputs import Collecting, apart
from ._loading import dumps_task, load_outcome
from ._options import Options
from ._pickling import LARGE_BYTES, Pickled, task_name
from ._submitter import Submitter
from ._typed import overload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, TypeVar, Unpack

    from . import _native
    from ._options import TaskOptions

    _T = TypeVar("_T")

_FORMAT = "disttask-1"
_TASK_TEXT = re.compile(
    r"disttask-(?P<format>\d+);py=(?P<python>[\d.]+);code=(?P<code>ref|value);name=(?P<name>[^;]*);"
)
_NOT_IN_NAMES = re.compile(r"[^\w.<>-]", re.ASCII)
_PYTHON = "{}.{}".format(*sys.version_info[:2])


def serialize_task(func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> str:
    """Turn a call into text that travels in JSON, an argument or a file, for `submit` here or on a server.

    The text is ASCII: a header (format, Python version, whether code travels by value, the function's name), then a
    pickle in URL-safe base64. Whoever can submit it can run code, so treat it as code.

    Raises:
        SerializationError: names the part that cannot be pickled.
        TypeError: `func` is not callable, or an ``async def`` function.
    """
    to_submit("serialize_task", func)
    with apart():
        pickled = dumps_task(func, args, kwargs)
    code = "value" if pickled.by_value else "ref"
    name = _NOT_IN_NAMES.sub("_", task_name(func))
    return f"{_FORMAT};py={_PYTHON};code={code};name={name};{base64.urlsafe_b64encode(pickled.data).decode()}"


def parse_task(text: str) -> tuple[Pickled, str]:
    """The pickle and the function's name in a text of `serialize_task`.

    Raises:
        InvalidTask: says what is wrong with the text.
    """
    text = text.strip()  # a line of a file, say
    header = _TASK_TEXT.match(text)
    if header is None:
        raise InvalidTask(f"not a task: expected the text that serialize_task() returns, got {text[:40]!r}")
    if f"disttask-{header['format']}" != _FORMAT:
        raise InvalidTask(f"the task has format {header['format']}, which this version of disttask does not know")
    by_value = header["code"] == "value"
    if by_value and header["python"] != _PYTHON:
        raise InvalidTask(
            f"the task holds code of Python {header['python']}, and this is Python {_PYTHON}: bytecode does not travel "
            "between versions. Serialize it with this version, or put the function into a module that both can import."
        )
    body = text[header.end() :]
    try:
        data = base64.b64decode(body.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError) as exc:
        raise InvalidTask(f"the task is damaged: its body is not base64 ({exc})") from exc
    if not data:
        raise InvalidTask("the task is damaged: its body is empty")
    return Pickled(data, by_value), header["name"]


@overload
def submit(task: str, /) -> Future[Any]: ...
@overload
def submit(task: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]: ...  # noqa: F811
def submit(task: str | Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:  # noqa: F811
    """Submit to the default executor, which starts with the first call; inside a task, to the pool that runs the task.

    Args:
        task: a text of `serialize_task`, or a callable.
        args: arguments for a callable; a text carries its own.
        kwargs: keyword arguments for a callable.

    Returns:
        A `Future`; its ``task_id`` is what `get_results` takes.

    Raises:
        InvalidTask: the text is not a task for this Python.
        TypeError: it is neither a text nor callable, or an ``async def`` function.
        SerializationError: the callable or an argument cannot be pickled.
        ValueError: inside a task, with a time-out.
    """
    return _submit(Options(), task, args, kwargs)


def options(**options: Unpack[TaskOptions]) -> DefaultSubmitter:
    """Options for the module's `submit`: ``disttask.options(retries=3).submit(task)``. See `Executor.options`."""
    return DefaultSubmitter(Options(**options))


class DefaultSubmitter:
    """The module's `submit`, with options. Made by `disttask.options`."""

    __slots__ = ("_options",)

    def __init__(self, options: Options) -> None:
        self._options = options

    @overload
    def submit(self, task: str, /) -> Future[Any]: ...
    @overload
    def submit(self, task: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]: ...  # noqa: F811
    def submit(self, task: str | Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:  # noqa: F811
        """As `disttask.submit`."""
        return _submit(self._options, task, args, kwargs)


def _submit(
    options: Options, task: str | Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Future[Any]:
    if isinstance(task, str):
        if args or kwargs:
            raise TypeError("a task text carries its own arguments: submit(text) takes no others")
        if (guard := options.guard()) is not None:
            raise TypeError(f"{guard} needs a callable: a task text is not unpickled here")
        pickled, name = parse_task(task)
        found: list[_native.Input] = []
    elif callable(task):
        to_submit("submit", task)
        if (bringing := bringing_options(task)) is not None:
            assert bringing[0].options is not None
            options, task = bringing[0].options.changed(**options.given()), bringing[1]
        func = options.guarded(task)
        name = task_name(task)
        if _handshake.nesting is not None:
            return _nested(options)._submit(task, args, kwargs)  # type: ignore[no-any-return]
        executor = default_executor()
        with Collecting(executor._pool.id).noted() as call:
            try:
                pickled = dumps_task(func, args, kwargs)
            except SerializationError:
                if call.failed is not None:
                    return Future._failed(dependency_failed(name, call.failed))
                raise
        found = call.found
        if len(pickled.data) >= LARGE_BYTES:
            from ._captures import note_large

            note_large(executor._pool.id, func, can_be_task=False)
    else:
        advice = ": a text of serialize_task is a str" if isinstance(task, bytes) else ""
        raise TypeError(f"submit needs a task text or a callable, not {type(task).__name__}{advice}")
    if _handshake.nesting is not None:
        return _nested(options)._submit_pickled(pickled.data, name)  # type: ignore[no-any-return]
    executor = default_executor()
    submitter = executor if options.is_default() else Submitter(executor, options)
    future: Future[Any] = submitter._submit_pickled(pickled.data, name, True, found)
    return future


def _nested(options: Options) -> Any:
    """Inside a task: the executor of its own pool."""
    from ._nested import NestedExecutor

    return NestedExecutor().options(**{name: getattr(options, name) for name in Options.__slots__})


def get_results(
    ids: Iterable[str | Future[Any]] | None = None, *, timeout: float | None = None
) -> list[dict[str, Any]]:
    """Results of tasks that were submitted with `submit`. Reading does not consume them.

    They are kept until there are too many, too many bytes, or they are too old (see `configure`).

    Args:
        ids: task ids, or futures of `submit`; the answer has their order. ``None``: all finished tasks in order of
            completion.
        timeout: seconds to wait for tasks that have not finished (with ``ids=None``: for those submitted so far).
            ``None`` waits until they have; 0 takes what there is.

    Returns:
        One dict per task: ``task_id``; ``status``, one of ``succeeded``, ``failed``, ``cancelled``, and, where ids were
        given and the time was not enough, ``queued`` or ``running``; ``result`` (for ``succeeded``) or ``error``, the
        exception (for ``failed``).

    Raises:
        UnknownTask: an id that `submit` of this process did not give out.
        ResultEvicted: a result that is no longer kept.
    """
    executor = default_executor()
    end = deadline(timeout)
    if ids is None:
        for future in executor._pool.retained_pending():
            _wait(future, end)
        return [_record(future) for future in executor._pool.retained_finished()]
    futures = [_find(executor._pool, task) for task in task_ids(ids)]
    for future in futures:
        _wait(future, end)
    return [_record(future) for future in futures]


def status() -> dict[str, Any]:
    """`Executor.status` of the default executor, which is started if need be."""
    return default_executor().status()


def _find(pool: _native.Pool, task: str | Future[Any]) -> _native.Future:
    task_id = task.task_id if isinstance(task, Future) else task
    if not isinstance(task_id, str):
        raise TypeError(f"a task id is a str, not {type(task_id).__name__}")
    found, future = pool.lookup(task_id)
    if future is not None:
        return future
    if found == "evicted":
        raise ResultEvicted(
            f"the result of task {task_id} is not kept any more: fetch results sooner, or raise the bounds with "
            "disttask.configure(keep_results=..., keep_bytes=..., keep_seconds=...)"
        )
    raise UnknownTask(f"no task {task_id!r} was submitted through disttask.submit() in this process")


def _wait(future: _native.Future, deadline: float | None) -> None:
    future._wait(None if deadline is None else max(0.0, deadline - time.monotonic()))


def _record(future: _native.Future) -> dict[str, Any]:
    record: dict[str, Any] = {"task_id": future._task_id}
    outcome = future._outcome()
    if outcome is None:
        return record | {"status": "running" if future._is_running() else "queued"}
    kind, data = outcome
    if kind == "cancelled":
        return record | {"status": "cancelled"}
    value, exc = load_outcome(kind, data)
    if exc is not None:
        return record | {"status": "failed", "error": exc}
    return record | {"status": "succeeded", "result": value}
