"""What pickle would look up by its name in ``__main__``, which is another module in a worker.

Such objects travel by value, and each process makes one of them: an object that comes back is the one that went, and
what is compared by identity (a sentinel, a ``NewType``) stays the same one. Those of other modules go by name.
"""

from __future__ import annotations

import sys
import typing
import uuid
import weakref
from enum import Enum
from operator import attrgetter
from types import FunctionType, MethodType

import cloudpickle

from ._pickling import PROTOCOL
from ._references import MAINS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_known: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
"""By the token that they travel with."""

_lasting: dict[str, Any] = {}
"""The same for those that cannot be referred to weakly. They are globals, and last as long as their module."""

_tokens: dict[int, tuple[Callable[[], Any], str]] = {}
"""The way back, by address."""

_unfilled: dict[int, Any] = {}
"""By address: what was made, and has no state yet. Loading it goes on, or was interrupted."""

_values: dict[int, list[Any]] = {}
"""By address: where an alias that was made will look for its value, once."""

_HEAP_TYPE = 1 << 9
"""A flag of classes that are not built in."""


def is_importable(obj: Any, name: str) -> bool:
    """Whether workers find it by this name in its module, and nobody has said that the module goes by value."""
    return _goes_by_name(obj.__module__) and _found(obj.__module__, name) is obj


def _goes_by_name(module: Any) -> bool:
    if not isinstance(module, str) or module in MAINS:
        return False
    by_value: set[str] = cloudpickle.list_registry_pickle_by_value()
    return not any(module == each or module.startswith(f"{each}.") for each in by_value)


def reduce_class_method(func: FunctionType) -> tuple[Any, ...] | None:
    """Of the function in a ``@classmethod`` of an importable class: what is found by its name is a bound method."""
    module, name = func.__module__, func.__qualname__
    if not _goes_by_name(module):
        return None
    found = _found(module, name)
    return (function_in, (module, name)) if type(found) is MethodType and found.__func__ is func else None


def function_in(module: str, name: str) -> Any:
    """The function in the bound method that is found there."""
    __import__(module)
    return attrgetter(name)(sys.modules[module]).__func__


def is_global(cls: type) -> bool:
    """Whether it is found by its name in this very program: in ``__main__``, or a class there."""
    return _found("__main__", cls.__qualname__) is cls


def _found(module: str, name: str) -> Any:
    try:
        return attrgetter(name)(sys.modules[module])
    except (KeyError, AttributeError, TypeError):
        return None


# --- one in each process ----------------------------------------------------------------------------------------------


def _token_of(obj: Any, name: str) -> str:
    """What it is known by in all processes. Empty: it is made for one call, and its copies for one each."""
    known = _tokens.get(id(obj))
    if known is not None and known[0]() is obj:
        return known[1]
    token = uuid.uuid4().hex
    return token if _note(obj, token, lasting=_found("__main__", name) is obj) else ""


def _note(obj: Any, token: str, *, lasting: bool) -> bool:
    key = id(obj)

    def forget(gone: object, tokens: dict[int, Any] = _tokens) -> None:
        if key in tokens and tokens[key][0] is gone:
            tokens.pop(key, None)

    try:
        _tokens[key] = weakref.ref(obj, forget), token
        _known[token] = obj
    except TypeError:
        if not lasting:
            return False
        _tokens[key] = (lambda: obj), token
        _lasting[token] = obj
    return True


def known_or_made(token: str, make: Callable[..., Any], *args: Any) -> Any:
    """The one that this process has, or a new one."""
    found = _known.get(token, _lasting.get(token))
    if found is None:
        found = make(*args)
        if token:
            _note(found, token, lasting=True)
    return found


def to_fill(token: str, make: Callable[..., Any], *args: Any) -> Any:
    """The same. A new one has its state set afterwards: it may be part of that."""

    def make_empty() -> Any:
        made = make(*args)
        _unfilled[id(made)] = made
        return made

    return known_or_made(token, make_empty)


def fill(obj: Any, state: Any) -> None:
    """Set the state of what was made just now. What has been there before keeps its own."""
    if id(obj) not in _unfilled:
        return
    if hasattr(type(obj), "__setstate__"):
        obj.__setstate__(state)
    else:
        attributes, slots = state if type(state) is tuple and len(state) == 2 else (state, None)
        if attributes:
            obj.__dict__.update(attributes)
        for name, value in (slots or {}).items():
            object.__setattr__(obj, name, value)
    _unfilled.pop(id(obj), None)


# --- objects that say that they are to be found by their name ---------------------------------------------------------


def reduce_by_name(obj: Any) -> str | tuple[Any, ...]:
    """As the object says. If that is a name in ``__main__``, it goes by value.

    Raises:
        TypeError: it is an extended container, say, whose content only its class knows how to set.
    """
    reduced: str | tuple[Any, ...] = obj.__reduce_ex__(PROTOCOL)
    if not isinstance(reduced, str):
        return reduced
    if isinstance(obj, Enum):
        return type(obj), (obj._value_,)
    if id(obj) not in _tokens and _found("__main__", reduced) is not obj:
        return reduced  # pickle knows what to say
    return _by_parts(obj, reduced)


def _by_parts(obj: Any, name: str) -> tuple[Any, ...]:
    kind = type(obj)
    new_args = getattr(kind, "__getnewargs__", None)
    built_in = next(base for base in kind.__mro__ if not base.__flags__ & _HEAP_TYPE)
    if hasattr(kind, "__getnewargs_ex__") or (new_args is None and built_in is not object):
        raise TypeError(
            f"cannot pickle {kind.__qualname__!r} object: it is to be found as {name!r} in __main__, which is another "
            "module in a worker"
        )
    args = () if new_args is None else new_args(obj)
    state = obj.__getstate__()
    if state is None:
        return known_or_made, (_token_of(obj, name), new, kind, *args)
    return to_fill, (_token_of(obj, name), new, kind, *args), state, None, None, fill


def new(kind: type, *args: Any) -> Any:
    """An object without its state."""
    return kind.__new__(kind, *args)


# --- of the module `typing` -------------------------------------------------------------------------------------------


def _reduce_new_type(obj: Any) -> str | tuple[Any, ...]:
    if is_importable(obj, obj.__qualname__):
        return obj.__reduce__()  # type: ignore[no-any-return]
    return to_fill, (_token_of(obj, obj.__qualname__), new, type(obj)), vars(obj).copy(), None, None, fill


_OPTIONS = ("bound", "covariant", "contravariant", "infer_variance")
"""Of a `ParamSpec`, as far as it has them."""


def _reduce_parameter(obj: Any) -> str | tuple[Any, ...]:
    name = obj.__name__
    if is_importable(obj, name):
        return obj.__reduce__()  # type: ignore[no-any-return]
    options = {option: found for option in _OPTIONS if (found := getattr(obj, f"__{option}__", None))}
    if hasattr(obj, "has_default") and obj.has_default():
        options["default"] = obj.__default__
    return known_or_made, (_token_of(obj, name), make_parameter, type(obj), name, obj.__module__, options)


def make_parameter(kind: Callable[..., Any], name: str, module: str, options: dict[str, Any]) -> Any:
    """A `ParamSpec` or a `TypeVarTuple`."""
    made = kind(name, **options)
    made.__module__ = module
    return made


def _reduce_args(obj: Any) -> tuple[Any, ...]:
    """``P.args``."""
    return getattr, (obj.__origin__, "args")


def _reduce_kwargs(obj: Any) -> tuple[Any, ...]:
    return getattr, (obj.__origin__, "kwargs")


def _reduce_alias(obj: Any) -> str | tuple[Any, ...]:
    """``type X = ...``. Its value may mention itself, if there is no parameter."""
    name = obj.__name__
    if is_importable(obj, name):
        return obj.__reduce__()  # type: ignore[no-any-return]
    token, params = _token_of(obj, name), obj.__type_params__
    if params:
        return known_or_made, (token, make_alias, name, obj.__module__, params, obj.__value__)
    return to_fill, (token, make_empty_alias, name, obj.__module__), _value_of(obj), None, None, fill_alias


def _value_of(alias: Any) -> list[Any]:
    """Its value, or else what is wrong with it: it may name what is imported for type checkers only."""
    try:
        return [alias.__value__]
    except NameError as exc:
        return [None, str(exc)]


def make_alias(name: str, module: str, params: tuple[Any, ...], value: Any) -> Any:
    """One with parameters. It takes its module from its caller."""
    scope = {"__name__": module, "make": vars(typing)["TypeAliasType"]}
    exec("def make_there(name, value, params): return make(name, value, type_params=params)", scope)
    make_there: Any = scope["make_there"]
    return make_there(name, value, params)


def make_empty_alias(name: str, module: str) -> Any:
    """One that looks for its value when it is asked for that."""
    value: list[Any] = []

    def look() -> Any:
        if len(value) > 1:
            raise NameError(value[1])
        return value[0]

    scope = {"__name__": module, "_value": look}
    exec(f"type {name} = _value()", scope)
    made = scope[name]
    _values[id(made)] = value
    return made


def fill_alias(obj: Any, value: list[Any]) -> None:
    """Give it the value, if it was made just now."""
    if _unfilled.pop(id(obj), None) is not None:
        _values.pop(id(obj)).extend(value)


def _of_typing() -> dict[type, Callable[[Any], Any]]:
    found: dict[str, Callable[[Any], Any]] = {
        "NewType": _reduce_new_type,
        "ParamSpec": _reduce_parameter,
        "TypeVarTuple": _reduce_parameter,
        "ParamSpecArgs": _reduce_args,
        "ParamSpecKwargs": _reduce_kwargs,
        "TypeAliasType": _reduce_alias,  # since Python 3.12
    }
    return {vars(typing)[name]: reduce for name, reduce in found.items() if name in vars(typing)}


NAMED = _of_typing()
"""How to pickle what is called after the variable that it stands in."""

STANDING = (function_in, known_or_made, to_fill, fill, new, make_parameter, make_alias, make_empty_alias, fill_alias)
"""What stands in pickles, to be called there."""
