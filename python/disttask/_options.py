"""How a task is run: what `Executor.options` takes."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MAX_RETRIES = 2**32 - 1


class Options:
    """How a task is run. See `Executor.options`. Not a dataclass: that takes as long to import as all of ours."""

    __slots__ = ("priority", "retries", "timeout")

    def __init__(self, retries: int = 0, timeout: float | None = None, priority: int = 0) -> None:
        for name, value, low, high in (
            ("retries", retries, 0, _MAX_RETRIES),
            ("priority", priority, -(2**31), 2**31 - 1),
        ):
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name} must be an int, not {type(value).__name__}")
            if not low <= value <= high:
                raise ValueError(f"{name} must be between {low} and {high}, not {value}")
        if timeout is not None:
            if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
                raise TypeError(f"timeout must be a number of seconds or None, not {type(timeout).__name__}")
            if not timeout > 0:
                raise ValueError(f"timeout must be more than 0 seconds, not {timeout}; None means no limit")
        self.retries, self.timeout, self.priority = retries, timeout, priority

    def changed(self, **changes: Any) -> Options:
        """The same with these changed."""
        return Options(**{name: getattr(self, name) for name in self.__slots__} | changes)

    def is_default(self) -> bool:
        """Whether they change nothing."""
        return (self.retries, self.timeout, self.priority) == (0, None, 0)
