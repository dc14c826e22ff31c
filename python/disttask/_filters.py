"""The host's warning filters, in its workers.

What `warnings.filterwarnings` and the like have set travels as text. A worker imports nothing for it: neither `re` nor
the modules of the warnings' classes, which may be large.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    Text: TypeAlias = str | tuple[str, int] | None
    """A whole text, or a pattern and its flags."""
    Filter: TypeAlias = tuple[str, Text, tuple[str, str], Text, int]
    """Action, message, the module and the name of the category, module, line."""

_INITIAL: list[Filter] = [
    ("default", None, ("builtins", "DeprecationWarning"), "__main__", 0),
    ("ignore", None, ("builtins", "DeprecationWarning"), None, 0),
    ("ignore", None, ("builtins", "PendingDeprecationWarning"), None, 0),
    ("ignore", None, ("builtins", "ImportWarning"), None, 0),
    ("ignore", None, ("builtins", "ResourceWarning"), None, 0),
]
"""What an interpreter begins with that was told nothing else."""


def taken() -> list[Filter] | None:
    """The filters of this process, for a worker to `adopt`; ``None``: there is no need to."""
    warnings = sys.modules.get("warnings")
    if warnings is None:
        return None
    found = [told for each in list(warnings.filters) if (told := _told(each)) is not None]
    return None if found == _INITIAL and not sys.warnoptions else found


def _told(each: tuple[Any, ...]) -> Filter | None:
    """``None``: it is none that `warnings` has made, and cannot be told."""
    try:
        action, message, category, module, line = each
        names = str(category.__module__), str(category.__qualname__)
        return str(action), _text(message), names, _text(module), int(line)
    except Exception:
        return None


def _text(matched: Any) -> Text:
    return matched if matched is None or isinstance(matched, str) else (str(matched.pattern), int(matched.flags))


# --- in a worker ------------------------------------------------------------------------------------------------------


def adopt(told: list[Filter]) -> None:
    """Have these filters, and no others."""
    import _warnings

    if sys.warnoptions:
        import warnings  # noqa: F401 - else its first import would put what ``-W`` says before them
    _warnings.filters[:] = [
        (action, _matcher(message), _category(*names), _matcher(module), line)
        for action, message, names, module, line in told
    ]
    _say_so(_warnings)


def _say_so(native: Any) -> None:
    """What was decided by other filters is to be decided anew. Private, and another function since Python 3.14."""
    if hasattr(native, "_filters_mutated"):
        native._filters_mutated()
        return
    native._acquire_lock()
    try:
        native._filters_mutated_lock_held()
    finally:
        native._release_lock()


def _matcher(text: Text) -> Any:
    return _Pattern(*text) if isinstance(text, tuple) else text


class _Pattern:
    """A regular expression, compiled when something is matched with it."""

    def __init__(self, pattern: str, flags: int) -> None:
        self.pattern, self.flags = pattern, flags

    def match(self, text: str) -> Any:
        """As that of a compiled one."""
        import re

        return re.compile(self.pattern, self.flags).match(text)


def _category(module: str, name: str) -> Any:
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, type) and issubclass(found, Warning) else _Category(module, name)


class _Category:
    """Stands for a class that has not been imported here: its warnings are those with a class that is called so."""

    def __init__(self, module: str, name: str) -> None:
        self.__module__, self.__qualname__ = module, name
        self.__name__ = name.rpartition(".")[2]

    def __subclasscheck__(self, category: type) -> bool:
        named = (self.__module__, self.__name__)  # what travels by value has no longer name
        return any((base.__module__, base.__name__) == named for base in category.__mro__)
