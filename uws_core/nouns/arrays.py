"""Arrays inside frozen nouns: float64 unless said otherwise, and read-only."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


def frozen(values: ArrayLike) -> Floats:
    """A read-only float64 copy of `values`."""
    array = np.array(values, dtype=np.float64)
    array.flags.writeable = False
    return array
