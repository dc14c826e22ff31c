"""How a task is run: what `Executor.options`, `disttask.options` and `disttask.task` take."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, TypedDict

    Catch = type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], object]

    class TaskOptions(TypedDict, total=False):
        """The options and their types; `Executor.options` says what they mean."""

        retries: int
        timeout: float | None
        priority: int
        retry_on: Catch | None
        backoff: float | tuple[float, float] | None
        crash_limit: int | None
        name: str | None
        tags: Iterable[str]
        kill_on_cancel: bool


_MAX_COUNT = 2**32 - 1

_MAX_WAIT = _MAX_COUNT / 1000
"""Seconds between retries, 49 days: the scheduler counts milliseconds in 32 bits, for there are many tasks."""

_BACKOFF_CAP = 30.0
"""Seconds. As in `src/scheduler/retry.rs`."""

_MAX_NAME_CHARS = 255
"""As what a server over HTTP makes of a function's name."""

_MAX_TAGS = 16
"""Words for finding a task again; more than a line of a table shows."""


class Options:
    """How a task is run. See `Executor.options`. Not a dataclass: that takes as long to import as all of ours."""

    __slots__ = (
        "backoff", "crash_limit", "kill_on_cancel", "name", "priority", "retries", "retry_on", "tags", "timeout"
    )  # fmt: skip

    def __init__(
        self,
        *,
        retries: int = 0,
        timeout: float | None = None,
        priority: int = 0,
        retry_on: Catch | None = None,
        backoff: float | tuple[float, float] | None = None,
        crash_limit: int | None = None,
        name: str | None = None,
        tags: Iterable[str] = (),
        kill_on_cancel: bool = False,
    ) -> None:
        self.retries = _whole("retries", retries, 0, _MAX_COUNT)
        self.priority = _whole("priority", priority, -(2**31), 2**31 - 1)
        self.crash_limit = None if crash_limit is None else _whole("crash_limit", crash_limit, 1, _MAX_COUNT)
        if timeout is not None:
            _number("timeout", timeout, " or None")
            if not timeout > 0:
                raise ValueError(f"timeout must be more than 0 seconds, not {timeout}; None means no limit")
        self.timeout = timeout
        self.retry_on = _checked_catch(retry_on, retries)
        self.backoff = _checked_backoff(backoff)
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name must be a str or None, not {type(name).__name__}")
        if name is not None and not 1 <= len(name) <= _MAX_NAME_CHARS:
            raise ValueError(f"name must have 1 to {_MAX_NAME_CHARS} characters, not {len(name)}")
        self.name = name
        self.tags = _checked_tags(tags)
        if not isinstance(kill_on_cancel, bool):
            raise TypeError(f"kill_on_cancel must be a bool, not {type(kill_on_cancel).__name__}")
        self.kill_on_cancel = kill_on_cancel

    def changed(self, **changes: Any) -> Options:
        """The same with these changed."""
        return Options(**{name: getattr(self, name) for name in self.__slots__} | changes)

    def given(self) -> dict[str, Any]:
        """Those that differ from the defaults."""
        return {name: getattr(self, name) for name in self.__slots__ if getattr(self, name) != getattr(_DEFAULT, name)}

    def is_default(self) -> bool:
        """Whether they change nothing."""
        return not self.given()

    def speak_of_one_call(self) -> bool:
        """Whether each item of `map` must be a task of its own."""
        return bool(self.timeout is not None or self.retries or self.crash_limit is not None)

    # --- what the native side reads, besides the attributes above ---

    @property
    def retry_timeouts(self) -> bool:
        """Whether what is caught includes `TaskTimeout`. That is raised here, not in the worker."""
        from ._exceptions import TaskTimeout

        catches: list[object] = list(self.retry_on) if isinstance(self.retry_on, tuple) else [self.retry_on]
        return any(isinstance(catch, type) and issubclass(TaskTimeout, catch) for catch in catches)

    @property
    def backoff_ms(self) -> tuple[int, int] | None:
        """The longest wait before the first retry, and before any, in milliseconds."""
        return None if self.backoff is None else (round(self.backoff[0] * 1000), round(self.backoff[1] * 1000))


def _whole(name: str, value: int, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if not low <= value <= high:
        raise ValueError(f"{name} must be between {low} and {high}, not {value}")
    return value


def _number(name: str, value: float, otherwise: str = "") -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds{otherwise}, not {type(value).__name__}")


def _checked_catch(retry_on: Catch | None, retries: int) -> Catch | None:
    if retry_on is None:
        return None
    for catch in retry_on if isinstance(retry_on, tuple) else (retry_on,):
        is_exception = isinstance(catch, type) and issubclass(catch, BaseException)
        if not is_exception and (isinstance(catch, type) or catch is not retry_on or not callable(catch)):
            raise TypeError(
                "retry_on must be an exception class, a tuple of them, or a function that takes the exception, "
                f"not {catch!r}"
            )
    if retries == 0:
        raise ValueError("retry_on needs retries=n, how often the task may run again")
    return retry_on


def _checked_backoff(backoff: float | tuple[float, float] | None) -> tuple[float, float] | None:
    if backoff is None:
        return None
    base, cap = backoff if isinstance(backoff, tuple) and len(backoff) == 2 else (backoff, None)
    _number("backoff", base, " or a pair of them")
    cap = max(base, _BACKOFF_CAP) if cap is None else cap
    _number("backoff", cap, " or a pair of them")
    if not 0 <= base <= cap <= _MAX_WAIT:  # so is NaN refused
        raise ValueError(f"backoff must be 0 <= base <= cap <= {_MAX_WAIT:.0f} seconds, not {backoff}")
    return base, cap


def _checked_tags(tags: Iterable[str]) -> tuple[str, ...]:
    if isinstance(tags, str):
        raise TypeError(f"tags must be several strings, not one: tags=[{tags!r}]")
    found = tuple(tags)
    for tag in found:
        if not isinstance(tag, str):
            raise TypeError(f"tags must be strings, not {type(tag).__name__}")
        if not 1 <= len(tag) <= _MAX_NAME_CHARS:
            raise ValueError(f"a tag must have 1 to {_MAX_NAME_CHARS} characters, not {len(tag)}")
    if len(found) > _MAX_TAGS:
        raise ValueError(f"at most {_MAX_TAGS} tags, not {len(found)}")
    return found


_DEFAULT = Options()


class Guarded:
    """A function, with what is worth another try.

    The worker calls `func`, and `matches` with what that raises: a class cannot be told without unpickling, which the
    host does not do.
    """

    __slots__ = ("func", "retry_on")

    def __init__(self, func: Callable[..., Any], retry_on: Catch) -> None:
        self.func = func
        self.retry_on = retry_on

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self.func(*args, **kwargs)

    def matches(self, exc: BaseException) -> bool:
        """Whether this exception is worth another try."""
        catch = self.retry_on
        return isinstance(exc, catch) if isinstance(catch, (type, tuple)) else bool(catch(exc))

    def __reduce__(self) -> Any:
        return Guarded, (self.func, self.retry_on)
