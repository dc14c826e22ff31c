"""`Executor(context=[...])`: context variables that have in a task the values that they had where it was submitted."""

from __future__ import annotations

import contextvars
import functools
import sys
from types import ModuleType

from ._checks import several
from ._references import MAINS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Name = tuple[str, str]
    """A module, and what the variable is called in it."""


class Context:
    """The variables of one executor."""

    def __init__(self, variables: dict[Name, contextvars.ContextVar[Any]]) -> None:
        self._variables = variables

    @classmethod
    def of(cls, variables: Iterable[contextvars.ContextVar[Any]]) -> Context:
        """These.

        Raises:
            TypeError: they are no list of context variables.
            ValueError: one is not in a module, by whose name workers could find it.
        """
        found: list[contextvars.ContextVar[Any]] = several("context", variables, "contextvars.ContextVar")
        for variable in found:
            if not isinstance(variable, contextvars.ContextVar):
                raise TypeError(f"context must hold contextvars.ContextVar only, not {type(variable).__name__}")
        return cls({_name(variable): variable for variable in found})

    @classmethod
    def named(cls, names: Iterable[Name]) -> Context:
        """In a worker: those that the host has."""
        return cls({name: _variable(*name) for name in names})

    def names(self) -> list[Name]:
        """Where workers find them."""
        return list(self._variables)

    def around(self, func: Callable[..., Any]) -> Within:
        """The function, with the values of this moment. What has none has none in the task, but for its default."""
        now = contextvars.copy_context()
        values = {name: (var, now[var]) for name, var in self._variables.items() if var in now}
        return Within(func, values)


def _name(variable: contextvars.ContextVar[Any]) -> Name:
    modules = [
        (name, module)
        for name, module in list(sys.modules.items())
        if isinstance(module, ModuleType) and name not in MAINS
    ]
    for name, module in modules:
        if vars(module).get(variable.name) is variable:
            return name, variable.name
    for name, module in modules:  # it may be called something else there
        for attribute, value in list(vars(module).items()):
            if value is variable:
                return name, attribute
    raise ValueError(
        f"the context variable {variable.name!r} is a global of no imported module (__main__ is another one in a "
        "worker), and workers find it by name: define it at the top level of a module that tasks can import"
    )


def _variable(module: str, name: str) -> contextvars.ContextVar[Any]:
    __import__(module)
    variable: contextvars.ContextVar[Any] = getattr(sys.modules[module], name)
    return variable


class Within:
    """A function, and the values that context variables have while it runs."""

    __slots__ = ("func", "values")

    def __init__(self, func: Callable[..., Any], values: dict[Name, tuple[contextvars.ContextVar[Any], Any]]) -> None:
        self.func = func
        self.values = values

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function. What it sets itself ends with it."""
        context = contextvars.copy_context()
        for variable, value in self.values.values():
            context.run(variable.set, value)
        return context.run(self.func, *args, **kwargs)

    def __reduce__(self) -> Any:
        return _within, (self.func, {name: value for name, (_, value) in self.values.items()})


def _within(func: Callable[..., Any], values: dict[Name, Any]) -> Within:
    return Within(func, {name: (_variable(*name), value) for name, value in values.items()})


class _Submits:
    """An executor with variables. `submit` of one without any is native, and has no step in Python."""

    __slots__ = ()

    def __init_subclass__(cls) -> None:
        """Of classes made here a user's ``__init_subclass__`` need not hear."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """As `Executor.submit`."""
        mine: Any = self
        return super().submit(mine._dressed(fn), *args, **kwargs)  # type: ignore[misc]


@functools.cache
def with_context(cls: Any) -> Any:
    """The same class, for an executor with variables."""
    own = {"__slots__": (), "__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    return type(cls.__name__, (_Submits, cls), own)
