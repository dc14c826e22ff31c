"""What only type checkers look at, without `typing`, which takes longer to import than all of ours."""

from __future__ import annotations

from types import GenericAlias

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Generic, ParamSpec, TypeVar
    from typing import overload as overload

    _P = ParamSpec("_P")
    _T = TypeVar("_T")

    class Called(Generic[_P, _T]):
        """Of what parameters, and of which type of result."""

else:

    def overload(func: Any) -> Any:
        """As `typing.overload`."""
        return func

    class Called:
        """Of what parameters, and of which type of result."""

        __class_getitem__ = classmethod(GenericAlias)
