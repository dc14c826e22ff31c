"""How a task is run: what `Executor.options`, `disttask.options` and `disttask.task` take."""

from __future__ import annotations

from ._checks import bytes_limit, seconds, seconds_limit, several, truth, whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, TypedDict

    Catch = type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], object]

    class TaskOptions(TypedDict, total=False):
        """The options and their types; `Executor.options` says what they mean."""

        retries: int
        timeout: float | None
        soft_timeout: float | None
        max_memory: int | None
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
        "backoff", "crash_limit", "kill_on_cancel", "max_memory", "name", "priority", "retries", "retry_on",
        "soft_timeout", "tags", "timeout"
    )  # fmt: skip

    def __init__(
        self,
        *,
        retries: int = 0,
        timeout: float | None = None,
        soft_timeout: float | None = None,
        max_memory: int | None = None,
        priority: int = 0,
        retry_on: Catch | None = None,
        backoff: float | tuple[float, float] | None = None,
        crash_limit: int | None = None,
        name: str | None = None,
        tags: Iterable[str] = (),
        kill_on_cancel: bool = False,
        **unknown: object,
    ) -> None:
        for other in unknown:
            raise TypeError(f"there is no option {other!r}: there are {', '.join(self.__slots__)}")
        self.retries = whole("retries", retries, 0, _MAX_COUNT)
        self.priority = whole("priority", priority, -(2**31), 2**31 - 1)
        self.crash_limit = None if crash_limit is None else whole("crash_limit", crash_limit, 1, _MAX_COUNT)
        self.timeout = seconds_limit("timeout", timeout)
        self.soft_timeout = seconds_limit("soft_timeout", soft_timeout)
        if timeout is not None and soft_timeout is not None and not soft_timeout < timeout:
            raise ValueError(
                f"soft_timeout must be less than timeout, not {soft_timeout} and {timeout}: between the two the task "
                "can clean up"
            )
        self.max_memory = bytes_limit("max_memory", max_memory)
        self.retry_on = _checked_catch(retry_on, retries)
        self.backoff = _checked_backoff(backoff)
        if backoff is not None and retries == 0:
            raise ValueError("backoff needs retries=n, how often the task may run again")
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name must be a str or None, not {type(name).__name__}")
        if name is not None and not 1 <= len(name) <= _MAX_NAME_CHARS:
            raise ValueError(f"name must have 1 to {_MAX_NAME_CHARS} characters, not {len(name)}")
        self.name = name
        self.tags = _checked_tags(tags)
        self.kill_on_cancel = truth("kill_on_cancel", kill_on_cancel)

    def changed(self, **changes: Any) -> Options:
        """The same with these changed. Without retries there is nothing left for what was said about them."""
        kept = {name: getattr(self, name) for name in self.__slots__}
        if "retries" in changes and changes["retries"] == 0:
            kept["retry_on"] = kept["backoff"] = None
        return Options(**kept | changes)

    def given(self) -> dict[str, Any]:
        """Those that differ from the defaults."""
        return {name: getattr(self, name) for name in self.__slots__ if getattr(self, name) != getattr(_DEFAULT, name)}

    def in_words(self) -> str:
        """Those that differ from the defaults, as the end of a `repr`."""
        given = ", ".join(f"{name}={value!r}" for name, value in self.given().items())
        return f" with {given}" if given else ""

    def is_default(self) -> bool:
        """Whether they change nothing."""
        return not self.given()

    def speak_of_one_call(self) -> bool:
        """Whether each item of `map` must be a task of its own."""
        limits = (self.timeout, self.soft_timeout, self.max_memory)
        return bool(any(limit is not None for limit in limits) or self.retries or self.crash_limit is not None)

    def guarded(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """The function with those terms of its call that are the worker's business, if there are any."""
        if self.retry_on is None and self.soft_timeout is None:
            return func
        return Guarded(func, self.retry_on, self.soft_timeout, self.name, self.tags)

    def guard(self) -> str | None:
        """Which of them there is."""
        return "retry_on" if self.retry_on is not None else "soft_timeout" if self.soft_timeout is not None else None

    # --- what the native side reads, besides the attributes above ---

    @property
    def retry_timeouts(self) -> bool:
        """Whether what is caught includes `TaskTimeout`. That is raised here, not in the worker."""
        from ._exceptions import TaskTimeout

        return self._covers(TaskTimeout)

    @property
    def retry_over_memory(self) -> bool:
        """The same of `TaskMemoryExceeded`."""
        from ._exceptions import TaskMemoryExceeded

        return self._covers(TaskMemoryExceeded)

    def _covers(self, kind: type[BaseException]) -> bool:
        catches: list[object] = list(self.retry_on) if isinstance(self.retry_on, tuple) else [self.retry_on]
        return any(isinstance(catch, type) and issubclass(kind, catch) for catch in catches)

    @property
    def backoff_ms(self) -> tuple[int, int] | None:
        """The longest wait before the first retry, and before any, in milliseconds."""
        return None if self.backoff is None else (round(self.backoff[0] * 1000), round(self.backoff[1] * 1000))


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
    seconds("backoff", base, " or a pair of them")
    cap = max(base, _BACKOFF_CAP) if cap is None else cap
    seconds("backoff", cap, " or a pair of them")
    if not 0 <= base <= cap <= _MAX_WAIT:  # so is NaN refused
        raise ValueError(f"backoff must be 0 <= base <= cap <= {_MAX_WAIT:.0f} seconds, not {backoff}")
    return base, cap


def _checked_tags(tags: Iterable[str]) -> tuple[str, ...]:
    found: tuple[str, ...] = tuple(several("tags", tags, "strings"))
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
    """A function, with those terms of its call that are the worker's business: `Executor.options` says what they mean.

    The worker calls `func`, interrupts it when `soft_timeout` is over, and asks `matches` about what it raises: a class
    cannot be told without unpickling, which the host does not do.
    """

    __slots__ = ("func", "name", "retry_on", "soft_timeout", "tags")

    def __init__(
        self,
        func: Callable[..., Any],
        retry_on: Catch | None,
        soft_timeout: float | None = None,
        name: str | None = None,
        tags: tuple[str, ...] = (),
    ) -> None:
        self.func = func
        self.retry_on = retry_on
        self.soft_timeout = soft_timeout
        self.name = name
        self.tags = tags
        if soft_timeout is not None:
            from . import _exceptions  # noqa: F401 - a signal handler will need it, which is no place to import

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self.func(*args, **kwargs)

    def matches(self, exc: BaseException) -> bool:
        """Whether this exception is worth another try. What goes wrong in asking is noted on it, and is a no."""
        catch = self.retry_on
        if catch is None:
            return False
        try:
            return isinstance(exc, catch) if isinstance(catch, (type, tuple)) else bool(catch(exc))
        except BaseException as broken:
            from ._pickling import add_note, described

            add_note(exc, f"disttask: not tried again, because retry_on raised:\n{described(broken)}")
            return False

    def __reduce__(self) -> Any:
        return Guarded, (self.func, self.retry_on, self.soft_timeout, self.name, self.tags)
