"""cloudpickle, with code that remembers its file: tracebacks, warnings and `inspect.getsource` in workers go by that.

cloudpickle (from 3.1.3 on) writes ``<dynamic-code>`` instead, so that equal functions of two notebook cells have equal
pickles. Nothing here compares pickles: what travels once is known by its identity.
"""

from __future__ import annotations

import functools
import io
import sys
from collections import ChainMap
from types import CodeType

import cloudpickle

from ._pickling import PROTOCOL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_NO_FILE = "<dynamic-code>"

_reduce = cloudpickle.CloudPickler.dispatch_table[CodeType]


def _reduce_code(code: CodeType) -> tuple[Any, ...]:
    make, args = _reduce(code)
    return make, tuple(code.co_filename if type(arg) is str and arg == _NO_FILE else arg for arg in args)


_Cached: Any = type(functools.lru_cache(len))


def _reduce_cached(function: Any) -> str | tuple[Any, ...]:
    """By its parts: its name, by which cloudpickle has it looked for, is none in a worker. The cache stays here."""
    if function.__module__ != "__main__":
        return function.__reduce__()  # type: ignore[no-any-return]
    kept = {name: value for name, value in vars(function).items() if name != "__wrapped__"}
    parameters = function.cache_parameters()
    return _cached, (function.__wrapped__, parameters["maxsize"], parameters["typed"]), kept


def _cached(function: Callable[..., Any], maxsize: int | None, typed: bool) -> Any:
    return functools.lru_cache(maxsize, typed)(function)


def _reduce_file(file: io.TextIOWrapper) -> tuple[Any, ...]:
    """An opened file stays here, as with plain pickle. cloudpickle would send what can be read of it, as a StringIO."""
    for name in ("stdout", "stderr"):
        if file is getattr(sys, name):
            return getattr, (sys, name)
    raise TypeError(f"cannot pickle '_io.TextIOWrapper' object: the opened file {getattr(file, 'name', '')!r}")


DISPATCH_TABLE = ChainMap(
    {CodeType: _reduce_code, _Cached: _reduce_cached, io.TextIOWrapper: _reduce_file},
    cloudpickle.CloudPickler.dispatch_table,
)
"""How to pickle what has no ``__reduce__`` that would do."""


class _Pickler(cloudpickle.CloudPickler):  # type: ignore[misc]
    dispatch_table = DISPATCH_TABLE


def dumps(obj: object) -> bytes:
    """As `cloudpickle.dumps`."""
    with io.BytesIO() as file:
        _Pickler(file, PROTOCOL).dump(obj)
        return file.getvalue()
