"""Why a call cannot be pickled: which part of it, how deep that may be, and what to do about it.

It is looked for only after that has failed, when time does not matter any more: parts are pickled by themselves, and
whatever fails is looked into.
"""

from __future__ import annotations

import dis
import functools
import types
from concurrent.futures import Future as StandardFuture

from . import _native
from ._context import Within
from ._described import short_repr
from ._exceptions import SerializationError
from ._functions import Task
from ._inputs import NOT_AMONG_ITEMS
from ._loading import brief_or_raise
from ._options import Guarded
from ._pickling import PROTOCOL, class_name, dumps_by_value, own_failure, task_name, type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any

    Part = tuple[str | None, Any]
    """What to call it, and itself. ``None``: it is what the whole stands for, and needs no name."""

_MAX_TRIED = 10_000
"""Parts that are pickled by themselves. Among more than these nobody would look for one with a debugger, either."""

_MAX_DEPTH = 20

_SHOWN = 4
"""Steps of the way that are named besides the first: the way may lead through the inner life of a library."""

_SIMPLE = (int, float, complex, bool, str, bytes, bytearray, type(None), type(Ellipsis), type(NotImplemented), range)
"""What pickles."""

_NO_STATE = frozenset(("__dict__", "__weakref__", "__module__", "__doc__", "_abc_impl"))
"""In a class, and none of its parts when it travels by value."""

_DESCRIPTORS = (types.GetSetDescriptorType, types.MemberDescriptorType)

_BUILD_IT_THERE = "Pass what it is made from (a path, a URL, plain data) and build it inside the task."

_MAKE_IT_THERE = (
    "Make it in an initializer, as a global of each worker, or put what uses it into a module of its own, which "
    "workers import."
)

_GIVE_IT_AT_THE_START = "Pass it once, as one of Executor(initargs=...), or use a multiprocessing.Manager()."

_FOREIGN_FUTURE = "Only futures of an executor's own tasks can be given to its tasks: pass future.result() of others."

_PASS_THE_FUTURE = (
    "Pass it as an argument of submit, alone or in a container: then the task waits for it and gets its value. Or pass "
    "its result()."
)


def refusal(
    func: Callable[..., object] | None,
    args: Iterable[object],
    kwargs: Mapping[str, object],
    exc: BaseException | None,
    consequence: str = "",
) -> SerializationError:
    """What to raise for a call that cannot be pickled, because of `exc`. Without a function: for values."""
    for description, part in _parts_of_call(func, args, kwargs):
        failure = _failure(part, inside=False)
        if failure is not None:
            return _refused(description, _Search().below(part, failure), consequence)
    return _refused("the task", _Found(None, exc), consequence)


def refusal_to_put(obj: object, exc: BaseException) -> SerializationError:
    """The same for `Executor.put`."""
    return _refused(f"an object of type {class_name(type(obj))}", _Search().below(obj, exc), "")


def _refused(description: str, found: _Found, consequence: str) -> SerializationError:
    exc, value = found.exc, found.value
    why = "None" if exc is None else brief_or_raise(exc)
    where = ""
    if found.path:
        inner = found.path[:0:-1]
        inner[_SHOWN:] = ["..."] * (len(inner) > _SHOWN)
        kind = "disttask.Future" if isinstance(value, _native.Future) else type_name(type(value))
        where = f"{' of '.join([*inner, f'its {found.path[0]}'])} (of type {kind}): "
    advice = _BUILD_IT_THERE
    if "through inheritance" in why:  # `multiprocessing` says so of its locks, queues and shared values
        advice = _GIVE_IT_AT_THE_START
    elif why.endswith(NOT_AMONG_ITEMS):
        advice = ""  # it says so itself
    elif isinstance(value, StandardFuture):
        advice = _PASS_THE_FUTURE if isinstance(value, _native.Future) and found.inside else _FOREIGN_FUTURE
    elif found.is_defined:
        advice = _MAKE_IT_THERE
    return SerializationError(f"{description} cannot be pickled{consequence}: {where}{why}. {advice}".rstrip())


def _parts_of_call(
    func: Callable[..., object] | None, args: Iterable[object], kwargs: Mapping[str, object]
) -> Iterator[tuple[str, object]]:
    if func is None:
        for arg in args:
            yield f"an argument (of type {class_name(type(arg))})", arg
        return
    within = func.func if isinstance(func, Guarded) else func
    if isinstance(within, Within):
        for (_, name), (_, value) in within.values.items():
            yield f"context variable {name!r} (of type {class_name(type(value))})", value
    yield f"the function {task_name(func)}", func
    for position, arg in enumerate(args, 1):
        yield f"argument {position} (of type {class_name(type(arg))})", arg
    for name, arg in kwargs.items():
        yield f"argument {name!r} (of type {class_name(type(arg))})", arg


class _Found:
    """The innermost part that cannot be pickled, and the way there."""

    def __init__(self, value: object, exc: BaseException | None) -> None:
        self.value = value
        self.exc = exc
        self.path: list[str] = []
        self.inside = False
        """Whether it is part of a function: pickled by itself it would be an argument."""
        self.is_defined = False
        """Whether it is part of a function or class, which a module would have."""


class _Search:
    def __init__(self) -> None:
        self._tried: dict[int, Any] = {}
        """By address; held, so that no other gets that."""

    def below(self, value: object, exc: BaseException) -> _Found:
        """Within a value that cannot be pickled."""
        found = _Found(value, exc)
        self._tried[id(value)] = value
        for _ in range(_MAX_DEPTH):
            if not self._go_down(found):
                break
        return found

    def _go_down(self, found: _Found) -> bool:
        whole = found.value
        if isinstance(whole, StandardFuture):
            return False
        inside = found.inside or isinstance(whole, types.FunctionType)
        for name, part in _parts(whole):
            if isinstance(part, _SIMPLE) or id(part) in self._tried:
                continue
            if len(self._tried) == _MAX_TRIED:
                return False
            self._tried[id(part)] = part
            exc = _failure(part, inside)
            if exc is not None:
                found.value, found.exc, found.inside = part, exc, inside
                found.is_defined |= inside or isinstance(whole, type)
                if name is not None:
                    found.path.append(name)
                return True
        return False


def _failure(value: object, inside: bool) -> BaseException | None:
    """What pickling it raises, as a part of a function or by itself. What a signal handler raises is raised."""
    call = _native.Pickling.call()
    before = 0 if call is None else call.inside
    try:
        if call is not None:
            call.inside = before + inside
        dumps_by_value(value)
    except Exception as exc:
        return own_failure(lambda: dumps_by_value(value), exc)
    finally:
        if call is not None:
            call.inside = before
    return None


def _parts(whole: Any) -> Iterator[Part]:
    """What an object is made of, as far as it travels. Where the user's code raises, that is all there is to tell."""
    try:
        yield from _parts_of(whole)
    except Exception as exc:
        if _native.raised_by_handler(exc):
            raise
        return


def _parts_of(whole: Any) -> Iterable[Part]:
    kind = type(whole)
    if kind in (Task, Within):
        return [(None, whole.func)]
    if kind is Guarded:
        return [(None, whole.func), ("option `retry_on`", whole.retry_on)]
    if isinstance(whole, functools.partial):
        numbered = ((f"argument {position}", arg) for position, arg in enumerate(whole.args, 1))
        named = ((f"argument `{name}`", arg) for name, arg in whole.keywords.items())
        return [(None, whole.func), *numbered, *named]
    if isinstance(whole, types.FunctionType):
        return _parts_of_function(whole)
    if isinstance(whole, types.MethodType):
        return [("object", whole.__self__), (None, whole.__func__)]
    if isinstance(whole, (staticmethod, classmethod)):
        return [(None, whole.__func__)]
    if isinstance(whole, property):
        return [(None, whole.fget), (None, whole.fset), (None, whole.fdel)]
    if isinstance(whole, type):
        return _parts_of_class(whole)
    if isinstance(whole, (list, tuple)):
        return _elements(whole)
    if isinstance(whole, dict):
        return _items(whole.items())
    if isinstance(whole, (set, frozenset)):
        return [(f"element {_shown(element)}", element) for element in whole]
    return _parts_of_instance(whole)


def _shown(value: object) -> str:
    return short_repr(value, lets_handlers_through=True)


def _elements(values: Iterable[Any]) -> Iterator[Part]:
    return ((f"element [{index}]", value) for index, value in enumerate(values))


def _items(pairs: Iterable[tuple[Any, Any]]) -> Iterator[Part]:
    for key, value in pairs:
        yield f"key {_shown(key)}", key
        yield f"element [{_shown(key)}]", value


def _parts_of_function(func: types.FunctionType) -> Iterator[Part]:
    code = func.__code__
    for name in _globals_of(code):
        if name in func.__globals__:
            yield f"global `{name}`", func.__globals__[name]
    for name, cell in zip(code.co_freevars, func.__closure__ or (), strict=True):
        try:
            yield f"closure variable `{name}`", cell.cell_contents
        except ValueError:
            continue
    defaults = func.__defaults__ or ()
    parameters = code.co_varnames[: code.co_argcount]
    for name, value in (*zip(reversed(parameters), reversed(defaults)), *(func.__kwdefaults__ or {}).items()):  # noqa: B905
        yield f"default of `{name}`", value
    for name, value in vars(func).items():
        yield f"attribute `{name}`", value


def _globals_of(code: types.CodeType) -> dict[str, None]:
    """The names that code looks up or sets among the globals, and the code within it."""
    names = {step.argval: None for step in dis.get_instructions(code) if step.opname.endswith("_GLOBAL")}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _globals_of(constant)
    return names


def _parts_of_class(cls: type) -> Iterator[Part]:
    for base in cls.__bases__:
        yield f"base class `{base.__name__}`", base
    for name, value in vars(cls).items():
        if name not in _NO_STATE and not isinstance(value, _DESCRIPTORS):
            yield f"{'method' if isinstance(value, types.FunctionType) else 'attribute'} `{name}`", value


def _parts_of_instance(whole: Any) -> Iterator[Part]:
    """As pickle takes it apart."""
    reduced = whole.__reduce_ex__(PROTOCOL)
    if not isinstance(reduced, tuple):
        return
    _, args, state, items, pairs, *_ = (*reduced, None, None, None, None)
    for arg in args or ():
        yield (f"class `{arg.__name__}`" if isinstance(arg, type) else "content"), arg
    for part in state if isinstance(state, tuple) and len(state) == 2 else (state,):
        if isinstance(part, dict):
            for name, value in part.items():
                yield f"attribute `{name}`", value
        else:
            yield "state", part
    yield from _elements(items or ())
    yield from _items(pairs or ())
