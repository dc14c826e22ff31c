"""cloudpickle, with code that remembers its file: tracebacks, warnings and `inspect.getsource` in workers go by that.

cloudpickle (from 3.1.3 on) writes ``<dynamic-code>`` instead, so that equal functions of two notebook cells have equal
pickles. Nothing here compares pickles: what travels once is known by its identity.
"""

from __future__ import annotations

import io
from collections import ChainMap
from types import CodeType

import cloudpickle

from ._pickling import PROTOCOL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NO_FILE = "<dynamic-code>"

_reduce = cloudpickle.CloudPickler.dispatch_table[CodeType]


def _reduce_code(code: CodeType) -> tuple[Any, ...]:
    make, args = _reduce(code)
    return make, tuple(code.co_filename if type(arg) is str and arg == _NO_FILE else arg for arg in args)


DISPATCH_TABLE = ChainMap({CodeType: _reduce_code}, cloudpickle.CloudPickler.dispatch_table)
"""How to pickle what has no ``__reduce__`` that would do."""


class _Pickler(cloudpickle.CloudPickler):  # type: ignore[misc]
    dispatch_table = DISPATCH_TABLE


def dumps(obj: object) -> bytes:
    """As `cloudpickle.dumps`."""
    with io.BytesIO() as file:
        _Pickler(file, PROTOCOL).dump(obj)
        return file.getvalue()
