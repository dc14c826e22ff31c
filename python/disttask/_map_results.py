"""What `map` returns: an iterator whose every item costs no Python."""

from __future__ import annotations

import _thread
import contextlib
import itertools
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from typing import Any

    from ._map import _Mapping


class MapResults(itertools.chain):  # type: ignore[type-arg]
    """What `map` returns: closing it, or dropping it halfway, cancels what has not begun."""

    mapping: _Mapping
    chunks: Generator[Iterable[Any]]

    @classmethod
    def of(cls, mapping: _Mapping) -> MapResults:
        """Those of a mapping whose first chunks are under way."""
        chunks = mapping.chunks()
        results: Any = cls.from_iterable(chunks)
        results.mapping, results.chunks = mapping, chunks
        return results  # type: ignore[no-any-return]

    def close(self) -> None:
        """Nobody wants the rest: what has not begun is cancelled, and there are no more results."""
        self.mapping.asked = True
        self.mapping.end()
        with contextlib.suppress(ValueError):  # another thread is in `next`, and has its values or a CancelledError
            self.chunks.close()
            deque(self, maxlen=0)

    def __reduce__(self) -> Any:
        raise TypeError("the results of a map cannot be sent to another process: pass list(results)")

    def __del__(self) -> None:
        try:
            self.mapping.let_go()
        except RuntimeWarning:
            raise
        except BaseException as exc:
            with contextlib.suppress(Exception):
                self.mapping.end()
            if type(exc) is KeyboardInterrupt:  # would be ignored in here, and is raised a moment later
                _thread.start_new_thread(_thread.interrupt_main, ())
