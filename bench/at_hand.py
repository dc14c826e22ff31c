"""An array that a process makes once. In a module: functions of a script travel with an empty cache."""

import functools
from typing import Any


@functools.cache
def array(numbers: int) -> Any:
    """`numbers` ones, of 8 bytes each."""
    import numpy as np

    return np.ones(numbers)
