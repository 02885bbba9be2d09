"""A shared basis widened for one more model: as few new directions as bring its error to an allowed one.

The old directions stay the first ones, so the cores of the others stay as they are, with zeros behind them. Letters: a
layer m x p, k directions a side, e new ones. Source: the update of the bases in Brand 2002, without turning them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uws_core.nouns.arrays import Floats

# New directions below this share of the model's norm are rounding of the stored bases (float32: 1e-7).
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Extension:
    """New directions `left` (m, e) and `right` (p, e'), the model's core in the wider basis, the squared error left."""

    left: Floats
    right: Floats
    core: Floats
    error2: float

    @property
    def added(self) -> int:
        """The new directions of the side that got more."""
        return max(int(self.left.shape[1]), int(self.right.shape[1]))


def two_sided(up: Floats, down: Floats, left: Floats, right: Floats, *, allowed2: float) -> Extension:
    """Returns the extension of orthonormal bases (m, k), (p, k') that leaves at most `allowed2` of `up @ down`.

    Price: `r^2 (m + p)` for factors of rank r.
    """
    norm = float(np.linalg.norm(np.linalg.qr(up)[1] @ np.linalg.qr(down.T)[1].T))
    new_left = _outside(up @ np.linalg.qr(down.T)[1].T, left, norm)
    new_right = _outside(down.T @ np.linalg.qr(up)[1].T, right, norm)
    core = (np.column_stack([left, new_left]).T @ up) @ (down @ np.column_stack([right, new_right]))
    kept2 = np.square(core).cumsum(0).cumsum(1)
    old, most = (left.shape[1], right.shape[1]), max(new_left.shape[1], new_right.shape[1])
    for e in range(most + 1):
        rows, columns = min(old[0] + e, core.shape[0]), min(old[1] + e, core.shape[1])
        error2 = norm**2 - (float(kept2[rows - 1, columns - 1]) if rows and columns else 0.0)
        if error2 <= allowed2:
            break
    return Extension(
        new_left[:, : rows - old[0]], new_right[:, : columns - old[1]], core[:rows, :columns], max(error2, 0.0)
    )


def one_sided(matrix: Floats, right: Floats, *, allowed2: float) -> Extension:
    """Returns the extension of an orthonormal basis of inputs (p, k) that leaves at most `allowed2` of a matrix (m, p).

    The core is `matrix @ V`. Price: a singular value decomposition of the matrix.
    """
    rest = matrix - (matrix @ right) @ right.T
    sizes, turned = np.linalg.svd(rest, full_matrices=False)[1:]
    e = _fewest(sizes, float(np.linalg.norm(matrix)), allowed2)
    wide = np.column_stack([right, turned[:e].T])
    return Extension(np.zeros((len(matrix), 0)), turned[:e].T, matrix @ wide, float(np.square(sizes[e:]).sum()))


def diagonal(up: Floats, down: Floats, left: Floats, right: Floats, core: Floats, *, allowed2: float) -> Extension:
    """Returns the extension of components (m, k), (p, k) with this core (k,) that leaves at most `allowed2`."""
    turned_left, sizes, turned_right = _svd(np.column_stack([up, -left * core]), np.concatenate([down, right.T]))
    e = _fewest(sizes, float(np.linalg.norm(sizes)), allowed2)
    wide_core = np.concatenate([core, sizes[:e]])
    return Extension(turned_left[:, :e], turned_right[:e].T, wide_core, float(np.square(sizes[e:]).sum()))


def _outside(loaded: Floats, directions: Floats, norm: float) -> Floats:
    """The orthonormal directions (m, e) of a matrix (m, r) that lie outside those given, largest first."""
    rest = loaded - directions @ (directions.T @ loaded)
    found, sizes, _ = np.linalg.svd(rest, full_matrices=False)
    found = found[:, sizes > _ROUNDING * norm]
    # Again: what a float32 basis left of itself in the small directions is not at right angles to it.
    return np.asarray(np.linalg.qr(found - directions @ (directions.T @ found))[0])


def _fewest(sizes: Floats, norm: float, allowed2: float) -> int:
    """The fewest of these singular values to keep so that at most `allowed2` is left."""
    left2 = np.append(np.cumsum(np.square(sizes[::-1]))[::-1], 0.0)
    enough = int(np.argmax(left2 <= max(allowed2, 0.0)))
    return min(enough, int((sizes > _ROUNDING * norm).sum()))


def _svd(up: Floats, down: Floats) -> tuple[Floats, Floats, Floats]:
    """The singular value decomposition of `up @ down` through its factors."""
    left, triangle = np.linalg.qr(up)
    right, other = np.linalg.qr(down.T)
    turned, sizes, back = np.linalg.svd(triangle @ other.T)
    return left @ turned[:, : sizes.size], sizes, back[: sizes.size] @ right.T
