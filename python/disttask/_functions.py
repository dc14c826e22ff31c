"""Which functions need to be pickled once only.

An importable function goes by reference. One that travels by value (a lambda, a closure, anything of ``__main__``) is
pickled with each task, unless that provably changes nothing: everything it uses is immutable, a module, something
importable, or a function for which the same holds. The native side then compares identities, before each submit.
"""

from __future__ import annotations

import functools
import sys
import types
import weakref
from _pickle import dumps as _pickle_dumps

from ._checks import to_submit
from ._inputs import Alone, tell_of_generators
from ._native import mentions
from ._options import Options
from ._pickling import PROTOCOL, importing, own_failure, task_name
from ._references import MAINS, methods_by_name, place
from ._typed import Called, overload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, ParamSpec, TypeVar, Unpack

    from ._options import TaskOptions

    _P = ParamSpec("_P")
    _T = TypeVar("_T")

    Shape = tuple[
        weakref.ref[types.FunctionType],
        types.CodeType,
        Any,
        Any,
        list[tuple[Any, int, Any]],
        dict[str, Any],
        list[tuple[str, int, Any]],
    ]

_PLAIN = (int, float, complex, bool, str, bytes, type(None), type(Ellipsis), type(NotImplemented), range)
"""Immutable, and all the way down."""

_MAX_DEPTH = 20
"""Functions that use functions, and tuples in tuples: deeper than this nobody looks."""

_WRITES = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL"})

_METHODS = (types.MethodType, types.BuiltinMethodType)

_BY_NAME = (types.FunctionType, type, *_METHODS)
"""What may be importable."""

_SAME, _MISSING, _ITSELF = 0, 1, 2
"""Of a name or a cell: it held this value, there was none, it held the function that is examined."""

_MAIN = b"_main__"
"""In ``__main__``, and in ``__mp_main__``."""


class _Mutable(Exception):
    """Something that the function uses may change without being replaced."""


class Task(Called["_P", "_T"]):
    """A function that is pickled once; see `task`."""

    def __init__(self, func: Callable[_P, _T], options: Options | None = None) -> None:
        if isinstance(func, classmethod):
            raise TypeError("task needs a callable, not classmethod: write @classmethod above @disttask.task")
        if not callable(func):
            raise TypeError(f"task needs a callable, not {type(func).__name__}")
        # First: it brings all attributes of a callable object along, which may have some of these names.
        functools.update_wrapper(self, func.__func__ if isinstance(func, staticmethod) else func)
        self.options = options
        self.plain = self if options is None else Task(func)
        # As the function would do it: a builtin or a class among the attributes of a class binds to nothing.
        self._binds = hasattr(type(func), "__get__") and not isinstance(func, (staticmethod, types.MethodType))
        self.func = func.__func__ if isinstance(func, staticmethod) else func

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Call the function, here."""
        return self.func(*args, **kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """Of a class itself, the task; of an object, a method, which brings the task's options along."""
        return self if instance is None or not self._binds else types.MethodType(self, instance)

    def __reduce__(self) -> Any:
        return Task, (self.func,)

    def __repr__(self) -> str:
        options = "" if self.options is None else self.options.in_words()
        return f"<disttask.Task {task_name(self.func)}{options}>"


def bringing_options(func: Any) -> tuple[Task[..., Any], Callable[..., Any]] | None:
    """If this is a task with options, or a method that is one: that task, and what is submitted with its options.

    A method is pickled with each submit, as any other: its object may have changed.
    """
    if type(func) is types.MethodType:
        task = func.__func__
        if type(task) is Task and task.options is not None:
            return task, types.MethodType(task.plain, func.__self__)
    elif type(func) is Task and func.options is not None:
        return func, func.plain
    return None


@overload
def task(func: Callable[_P, _T], /, **options: Unpack[TaskOptions]) -> Task[_P, _T]: ...
@overload
def task(**options: Unpack[TaskOptions]) -> Callable[[Callable[_P, _T]], Task[_P, _T]]: ...  # noqa: F811
def task(  # noqa: F811
    func: Callable[..., Any] | None = None, /, **options: Unpack[TaskOptions]
) -> Task[..., Any] | Callable[[Callable[..., Any]], Task[..., Any]]:
    """The function, to be pickled once per executor, at its first submit: for one that captures much.

    What it captures is then what it was at that time: a later change is not seen. Each task gets a fresh copy, unless
    all of it is immutable. Can be used as a decorator, also with options: ``@disttask.task(retries=3, timeout=60)``.

    A method of a class can be one, too: its object is then pickled with each submit. ``@classmethod`` and
    ``@staticmethod`` go above it.

    A call with keyword arguments, ``retry_on``, ``soft_timeout`` or context variables is pickled as a whole all the
    same: for its data there is `Executor.put`.

    Args:
        func: any callable that can be pickled.
        **options: how it is run, wherever it is submitted; see `Executor.options`. Those given there go first.

    Raises:
        TypeError: it is not callable (as a ``classmethod`` is not), or there is no such option.
        ValueError: an option's value is out of range.
    """
    made = Options(**options) if options else None
    if func is None:
        return lambda func: Task(func, made)
    return Task(func, made)


def prepare(func: Any) -> tuple[bytes, str, list[Shape], bool] | None:
    """The function's pickle, its name, what must be unchanged for it to be used again, whether a worker may keep it.

    ``None``: pickle it with each task.

    Raises:
        TypeError: a call of it would give no result, but a coroutine.
    """
    to_submit("submit", func)
    if isinstance(func, Task):
        if func.options is not None:
            return None  # it goes by its `plain` self, with these options
        return _prepare_once(func.func)
    data = _by_reference(func)
    if data is not None:
        return data, task_name(func), [], True
    shapes = _shapes(func)
    if shapes is None:
        return None
    data = _by_value(func)
    return None if data is None else (data, task_name(func), shapes, True)


def _prepare_once(func: Any) -> tuple[bytes, str, list[Shape], bool] | None:
    data = _by_reference(func)
    if data is not None:
        return data, task_name(func), [], True
    with Alone().noted() as call:
        data = _by_value(func)
    tell_of_generators(call)
    return None if data is None else (data, task_name(func), [], _shapes(func) is not None)


def _by_value(func: Any) -> bytes | None:
    importing("disttask._by_value")
    from . import _by_value

    try:
        return _by_value.dumps(func)
    except Exception as exc:
        own_failure(lambda: _by_value.dumps(func), exc)
        return None  # the submit itself will find out, and say what is wrong


def _shapes(func: Any) -> list[Shape] | None:
    """What the function is made of; ``None`` where some of that is mutable."""
    if not isinstance(func, types.FunctionType):
        return None
    examination = _Examination(func)
    try:
        examination.add(func, _MAX_DEPTH)
    except _Mutable:
        return None
    return list(examination.shapes.values())


def _by_reference(func: Any) -> bytes | None:
    """The pickle, if it is no more than a module and a name."""
    module = getattr(func, "__module__", None)
    bound_to = getattr(func, "__self__", None)
    if not (bound_to is None or isinstance(bound_to, types.ModuleType)):
        if not isinstance(func, _METHODS) or place(func) is None:
            return None
    elif module in MAINS:
        return None
    try:
        data = methods_by_name(func, _pickle_dumps(func, PROTOCOL))
    except Exception as exc:
        own_failure(lambda: methods_by_name(func, _pickle_dumps(func, PROTOCOL)), exc)
        return None
    return None if mentions(data, _MAIN) else data


class _Examination:
    """Of a function, and of those that it uses. Nothing that is noted holds the function itself."""

    def __init__(self, root: types.FunctionType) -> None:
        self.root = root
        self.shapes: dict[int, Shape] = {}

    def add(self, func: types.FunctionType, depth: int) -> None:
        """Note the function's shape, and those of the functions that it uses."""
        if id(func) in self.shapes:
            return
        if func.__kwdefaults__ is not None or func.__dict__ or depth == 0:
            raise _Mutable
        cells = [(cell, *self._noted(_content(cell))) for cell in func.__closure__ or ()]
        scope = func.__globals__
        names = [
            (name, *self._noted(scope[name])) if name in scope else (name, _MISSING, None)
            for name in _global_names(func.__code__)
        ]
        self.shapes[id(func)] = (
            weakref.ref(func), func.__code__, func.__defaults__, func.__closure__, cells, scope, names
        )  # fmt: skip
        for value in func.__defaults__ or ():
            self._check(value, depth - 1)
        for _, mark, value in (*cells, *names):
            if mark == _SAME:
                self._check(value, depth - 1)

    def _noted(self, value: Any) -> tuple[int, Any]:
        return (_ITSELF, None) if value is self.root else (_SAME, value)

    def _check(self, value: Any, depth: int) -> None:
        kind = type(value)
        if kind in _PLAIN or (isinstance(value, types.ModuleType) and sys.modules.get(value.__name__) is value):
            return
        if depth == 0:
            raise _Mutable
        if kind is tuple or kind is frozenset:
            for item in value:
                self._check(item, depth - 1)
        elif isinstance(value, _BY_NAME) and _by_reference(value) is not None:
            return
        elif kind is types.FunctionType:
            self.add(value, depth)
        else:
            raise _Mutable


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        raise _Mutable from None


def _global_names(code: types.CodeType) -> list[str]:
    """Names that the code, and the code within it, may look up among the globals.

    Raises:
        _Mutable: it assigns a global, or a variable of an enclosing function: a copy must be made for each task.
    """
    import dis

    names: dict[str, None] = {}
    for part in _nested(code):
        names.update(dict.fromkeys(part.co_names))
        for instruction in dis.get_instructions(part):
            if instruction.opname in _WRITES:
                raise _Mutable
            if instruction.opname in ("STORE_DEREF", "DELETE_DEREF") and instruction.argval in code.co_freevars:
                raise _Mutable
    return list(names)


def _nested(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _nested(constant)
