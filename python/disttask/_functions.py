"""Which functions need to be pickled once only.

An importable function goes by reference. One that travels by value (a lambda, a closure, anything of ``__main__``) is
pickled with each task, unless that provably changes nothing: everything it uses is immutable, a module, something
importable, or a function for which the same holds. The native side then compares identities, before each submit.
"""

from __future__ import annotations

import builtins
import dis
import pickle
import types
from typing import TYPE_CHECKING, Any

from ._pickling import PROTOCOL, task_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    Shape = tuple[
        types.FunctionType, types.CodeType, Any, Any, list[tuple[Any, Any]], dict[str, Any], list[tuple[str, Any]]
    ]

_PLAIN = (int, float, complex, bool, str, bytes, type(None), type(Ellipsis), type(NotImplemented), range)
"""Immutable, and all the way down."""

_MAX_DEPTH = 20
"""Functions that use functions, and tuples in tuples: deeper than this nobody looks."""

_WRITES = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL"})

_MAIN = b"__main__"


class _Mutable(Exception):
    """Something that the function uses may change without being replaced."""


def prepare(func: Any) -> tuple[bytes, str, list[Shape]] | None:
    """The function's pickle, its name, and what must be unchanged for it to be used again. ``None``: do not."""
    data = _by_reference(func)
    if data is not None:
        return data, task_name(func), []
    if not isinstance(func, types.FunctionType):
        return None
    shapes: dict[int, Shape] = {}
    try:
        _examine(func, shapes, _MAX_DEPTH)
    except _Mutable:
        return None
    import cloudpickle

    try:
        data = cloudpickle.dumps(func, PROTOCOL)
    except Exception:
        return None  # the submit itself will find out, and say what is wrong
    return data, task_name(func), list(shapes.values())


def _by_reference(func: Any) -> bytes | None:
    """The pickle, if it is no more than a module and a name."""
    module = getattr(func, "__module__", None)
    bound_to = getattr(func, "__self__", None)
    if module == "__main__" or not (bound_to is None or isinstance(bound_to, types.ModuleType)):
        return None
    try:
        data = pickle.dumps(func, PROTOCOL)
    except Exception:
        return None
    return None if _MAIN in data else data


def _examine(func: types.FunctionType, shapes: dict[int, Shape], depth: int) -> None:
    """Add the function's shape, and those of the functions that it uses."""
    if id(func) in shapes:
        return
    if func.__kwdefaults__ is not None or func.__dict__ or depth == 0:
        raise _Mutable
    names = _global_names(func.__code__)
    cells = [(cell, _content(cell)) for cell in func.__closure__ or ()]
    found = [(name, func.__globals__.get(name, func)) for name in names]
    shapes[id(func)] = (
        func, func.__code__, func.__defaults__, func.__closure__, cells, func.__globals__, found
    )  # fmt: skip
    for value in func.__defaults__ or ():
        _check(value, shapes, depth - 1)
    for _, value in cells:
        _check(value, shapes, depth - 1)
    for name, value in found:
        if name in func.__globals__:
            _check(value, shapes, depth - 1)
        elif not hasattr(builtins, name):
            continue  # missing, and to be missing still: that is compared, too


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        raise _Mutable from None


def _check(value: Any, shapes: dict[int, Shape], depth: int) -> None:
    kind = type(value)
    if kind in _PLAIN or isinstance(value, types.ModuleType):
        return
    if depth == 0:
        raise _Mutable
    if kind is tuple or kind is frozenset:
        for item in value:
            _check(item, shapes, depth - 1)
        return
    if isinstance(value, (types.FunctionType, types.BuiltinFunctionType, type)) and _by_reference(value) is not None:
        return
    if kind is types.FunctionType:
        _examine(value, shapes, depth)
        return
    raise _Mutable


def _global_names(code: types.CodeType) -> list[str]:
    """Names that the code, and the code within it, may look up among the globals.

    Raises:
        _Mutable: it assigns a global, or a variable of an enclosing function: a copy must be made for each task.
    """
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
