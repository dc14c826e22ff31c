"""What is shown of results without unpickling them: the quick way says what the general one does."""

import json
import math
import sys

import pytest

from disttask import _described, _pickling

VALUES = [
    *(None, True, False, 0, 1, -1, 2**63, 2**64 - 1, 2**64, -(2**64) + 1, -(2**64), 10**30),
    *(0.0, -0.0, 1.5, -1e300, 5e-324, math.pi, math.inf, -math.inf, math.nan),
    *("", "a", "it's", "both ' and \"", "tab\t and \x00", "é", "\u2028", "\U0001f600", "\ud800", "__main__"),
    *("x" * _described.REPR_LIMIT_CHARS, "x" * (_described.REPR_LIMIT_CHARS - 2), "\x00" * 300, "x" * 5000),
    *([], [1, None], {"a": 1.5}, {1: 2}, (1, 2), b"bytes", {1}, print),
]


class Number(int):
    """Not quite what it seems."""

    def __repr__(self):
        return "a number"


class Text(str):
    """Neither is this."""

    __slots__ = ()

    def __repr__(self):
        raise ValueError


def in_general(value):
    try:
        encoded = json.dumps(value, allow_nan=False).encode()
    except (TypeError, ValueError):
        encoded = b""
    pickled = _pickling.dumps(value).data
    return _pickling._join_sections([encoded, _described.short_repr(value).encode(), pickled])


@pytest.mark.parametrize("value", [*VALUES, Number(3), Text("text")], ids=lambda value: ascii(type(value)))
def test_as_in_general(value):
    assert _described.describe(value) == in_general(value)


def test_a_number_too_long_for_the_interpreter_to_write():
    assert b"<int whose repr() raises ValueError>" in _described.describe(10 ** (2 * sys.get_int_max_str_digits()))
