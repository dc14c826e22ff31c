"""Arguments that are numbers: an error names the argument, and says what it must be."""

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


def limit(name: str, value: int | None, most: int, what: str = "an int") -> int | None:
    """The value, cut to what the native side can count (`most`); ``None``: no limit.

    Raises:
        TypeError: it is neither an int (`what`, in words) nor ``None``.
        ValueError: it is less than 1.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be {what} or None, not {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name} must be >= 1, not {value}; None means no limit")
    return min(value, most)


def bytes_limit(name: str, value: int | None) -> int | None:
    """As `limit`, in bytes."""
    return limit(name, value, 2**64 - 1, "a number of bytes (an int)")


def seconds_limit(name: str, value: float | None) -> float | None:
    """The value; ``None``: no limit.

    Raises:
        TypeError: it is neither a number nor ``None``.
        ValueError: it is not more than 0.
    """
    if value is not None and not seconds(name, value, " or None") > 0:
        raise ValueError(f"{name} must be more than 0 seconds, not {value}; None means no limit")
    return value
