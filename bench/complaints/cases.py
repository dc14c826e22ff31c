"""All cases, in the order of the complaints' numbers."""

from . import calls, data, deaths, programs, world
from .case import CASES as _CASES

_MODULES = (calls, deaths, programs, world, data)


def _place(key: str) -> tuple[bool, int]:
    number = key.partition("-")[0]
    return not number.isdigit(), int(number) if number.isdigit() else 0


CASES = {key: _CASES[key] for key in sorted(_CASES, key=_place)}
"""By key."""
