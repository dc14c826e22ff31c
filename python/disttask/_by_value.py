"""cloudpickle, with some differences.

* Code remembers its file: tracebacks, warnings and `inspect.getsource` in workers go by that. cloudpickle (from 3.1.3
  on) writes ``<dynamic-code>`` instead, so that equal functions of two notebook cells have equal pickles. Nothing here
  compares pickles: what travels once is known by its identity.
* What every process has one of (`os.environ`, `sys.path`) goes by name where a function uses it, and so do methods
  that are attributes of a module, as ``random.random`` is.
* A class is made once per process: cloudpickle makes it anew before it looks whether there is one, and so would run
  ``__init_subclass__`` again.
* What pickle would look up by its name in ``__main__`` travels by value, too: see `_named`.
* Futures are not looked for in what a function uses, and generators of random numbers are noted there.
"""

from __future__ import annotations

import dataclasses
import io
import os
import sys
from collections import ChainMap
from types import BuiltinMethodType, CellType, CodeType, FunctionType, MethodType

import cloudpickle

from . import _named, _native, _wrappers
from ._classes import MAKERS
from ._pickling import PROTOCOL
from ._random_state import generator_in, generator_kinds
from ._references import MAINS, Attribute, attribute, place, reduce_method
from ._slots import with_slots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ._inputs import Alone

_NO_FILE = "<dynamic-code>"

_reduce = cloudpickle.CloudPickler.dispatch_table[CodeType]
_reduce_method = cloudpickle.CloudPickler.dispatch_table[MethodType]

_SHARED = (
    *((os, name) for name in ("environ", "environb")),
    *((sys, name) for name in ("path", "modules", "meta_path", "path_hooks", "path_importer_cache")),
)
"""What every process has one of, and a copy of is of no use. `sys.argv` is data: it is not the worker's own, either."""

_STREAMS = ("__stdin__", "__stdout__", "__stderr__", "stdin", "stdout", "stderr")
"""The last ones are what is meant where both are the same."""


def _reduce_code(code: CodeType) -> tuple[Any, ...]:
    make, args = _reduce(code)
    return make, tuple(code.co_filename if type(arg) is str and arg == _NO_FILE else arg for arg in args)


def _reduce_file(file: io.TextIOWrapper) -> tuple[Any, ...]:
    """An opened file stays here, as with plain pickle. cloudpickle would send what can be read of it, as a StringIO."""
    raise TypeError(f"cannot pickle '_io.TextIOWrapper' object: the opened file {getattr(file, 'name', '')!r}")


def _reduce_bound(method: MethodType) -> tuple[Any, ...]:
    found = place(method)
    return _reduce_method(method) if found is None else (attribute, found)


METHODS: dict[type, Callable[[Any], Any]] = {MethodType: _reduce_bound, BuiltinMethodType: reduce_method}


def _reduce_missing(_: object) -> tuple[Any, ...]:
    """What stands for no default among the fields of a dataclass is known by its identity."""
    return attribute, ("dataclasses", "MISSING")


_OURS = {
    CodeType: _reduce_code,
    io.TextIOWrapper: _reduce_file,
    type(dataclasses.MISSING): _reduce_missing,
    **METHODS,
    **_named.NAMED,
    **_wrappers.WRAPPERS,
}

DISPATCH_TABLE = ChainMap(_OURS, cloudpickle.CloudPickler.dispatch_table)
"""How to pickle what has no ``__reduce__`` that would do."""


def _reduce_system_random(generator: Any) -> tuple[Any, ...]:
    """It has no state, and says that it cannot be pickled."""
    return type(generator), ()


_REBUILD = frozenset(
    id(value)
    for value in (
        *vars(sys.modules[_reduce.__module__]).values(),
        attribute,
        *(maker for makers in MAKERS.values() for maker in makers),
        *_named.STANDING,
        *_wrappers.STANDING,
    )
    if isinstance(value, FunctionType) and getattr(sys.modules[value.__module__], value.__name__, None) is value
)
"""Functions that stand in pickles, to be called there. They go by name, and time would be spent on finding that out."""


_REDUCE: Any = object.__reduce__
_REDUCE_EX: Any = object.__reduce_ex__
"""Of a class that has neither of its own."""


class _Step:
    """Stands before and after the parts of a function: what is pickled between two of them is not an argument."""

    __slots__ = ("_by", "_call")

    def __init__(self, call: Alone, by: int) -> None:
        self._call = call
        self._by = by

    def __reduce__(self) -> tuple[type[int], tuple[()]]:
        self._call.inside += self._by
        return int, ()


class Pickler(cloudpickle.CloudPickler):  # type: ignore[misc]
    """cloudpickle's, with the differences that this module has.

    With `marks` it makes no pickle of use, but the call knows at each moment whether it is in a function.
    """

    dispatch_table = DISPATCH_TABLE

    def __init__(self, file: io.BytesIO, call: Alone | None, marks: bool) -> None:
        super().__init__(file, PROTOCOL)
        self._call = call
        self._marks = marks
        self._kinds = () if call is None else generator_kinds()
        self._streams = {id(vars(sys)[name]): name for name in _STREAMS}
        self._shared = {id(getattr(module, name, self)): (module.__name__, name) for module, name in _SHARED}
        if "__mp_main__" in sys.modules:  # to cloudpickle it is a module as any other
            cloudpickle.register_pickle_by_value(sys.modules["__mp_main__"])
        if "random" in sys.modules:
            _OURS.setdefault(sys.modules["random"].SystemRandom, _reduce_system_random)

    def reducer_override(self, obj: Any) -> Any:
        """How to pickle it, which is asked of everything that is not a plain value or container."""
        if isinstance(obj, FunctionType):
            if id(obj) in _REBUILD:
                return NotImplemented
            reduced = super().reducer_override(obj)
            if reduced is NotImplemented:
                return reduced
            by_parts = _wrappers.reduce_function(obj) or _named.reduce_class_method(obj)
            return by_parts or self._function(obj, *reduced)
        if issubclass(type(obj), type):
            reduced = with_slots(obj) or super().reducer_override(obj)
            if reduced is NotImplemented or (makers := MAKERS.get(reduced[0])) is None:
                return reduced
            return makers[_named.is_global(obj)], *reduced[1:]
        if obj is not None and id(obj) in self._streams:
            return attribute, ("sys", self._streams[id(obj)])
        kind = type(obj)
        if (
            (kind.__reduce_ex__ is not _REDUCE_EX or kind.__reduce__ is not _REDUCE)
            and getattr(obj, "__module__", None) in MAINS
            and kind not in DISPATCH_TABLE
        ):
            return _named.reduce_by_name(obj)
        return NotImplemented

    def _function(self, func: FunctionType, make: Any, args: Any, state: Any, *rest: Any) -> tuple[Any, ...]:
        own, slots = state
        scope = slots["__globals__"]
        by_name = self._by_name
        for name, value in scope.items():
            if id(value) in self._shared:
                scope[name] = by_name(value)
        if slots["__defaults__"] is not None:
            slots["__defaults__"] = tuple(map(by_name, slots["__defaults__"]))
        if slots["__closure__"] is not None:
            slots["__closure__"] = tuple(map(self._cell, slots["__closure__"]))
        if self._kinds:
            found = generator_in(func, scope, self._kinds)
            if found is not None and self._call is not None:
                self._call.generators.append(found)
        if self._marks and self._call is not None:
            state = (_Step(self._call, 1), own, slots, _Step(self._call, -1))
        return make, args, state, *rest

    def _by_name(self, value: Any) -> Any:
        place = self._shared.get(id(value))
        return value if place is None else Attribute(*place)

    def _cell(self, cell: CellType) -> CellType:
        try:
            value = cell.cell_contents
        except ValueError:
            return cell
        place = self._shared.get(id(value))
        return cell if place is None else CellType(Attribute(*place))


def dumps(obj: object, pickler: type[Pickler] = Pickler) -> bytes:
    """As `cloudpickle.dumps`.

    Raises:
        TypeError: a function that travels by value uses a future.
    """
    call: Alone | None = _native.Pickling.call()
    if call is None:
        return _dumped(obj, pickler, None)
    futures, generators = call.met, len(call.generators)
    data = _dumped(obj, pickler, call)
    if call.met > futures:  # to look closely takes time, so only for those that have any
        del call.generators[generators:]
        inside = call.inside
        try:
            _dumped(obj, pickler, call, marks=True)
        finally:
            call.inside = inside
    return data


def _dumped(obj: object, pickler: type[Pickler], call: Alone | None, *, marks: bool = False) -> bytes:
    with io.BytesIO() as file:
        pickler(file, call, marks).dump(obj)
        return file.getvalue()
