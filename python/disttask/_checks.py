"""Arguments that are numbers: an error that names the argument, and says what it must be."""

from __future__ import annotations


def whole(name: str, value: int, low: int, high: int) -> int:
    """The value.

    Raises:
        TypeError: it is not an int, or a bool.
        ValueError: it is out of range.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if not low <= value <= high:
        raise ValueError(f"{name} must be between {low} and {high}, not {value}")
    return value


def seconds(name: str, value: float, otherwise: str = "") -> float:
    """The value; `otherwise` is what else it might have been.

    Raises:
        TypeError: it is not a number, or a bool.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds{otherwise}, not {type(value).__name__}")
    return value
