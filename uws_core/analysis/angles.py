"""Principal angles between two subspaces, and the angles that chance alone gives.

Source: Björck and Golub 1973. Cosines come from `svdvals(Q_S^T Q_T)`; on the models axis `Q_S^T Q_T = B_S^T G B_T`
with the directions in dual form, so no weight is read. A float64 Gram cannot tell angles below about 1e-8 from 0
(their cosine differs from 1 by 1e-16), and the noun carries the floor that its Gram really has.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from uws_core.analysis.noise import wishart
from uws_core.analysis.subspace import EPS, inner_products, subspace
from uws_core.errors import LayerError
from uws_core.nouns.angles import Angles, ChanceLevel, Factors, Side
from uws_core.nouns.arrays import Floats
from uws_core.nouns.gram import Axis, Gram, Members
from uws_core.nouns.spectrum import NullBand, Subspace

Indices = NDArray[np.intp]


def shared_angles(gram: Gram, left: Members, right: Members, *, kept: int, about: str = "mean") -> Angles:
    """The principal angles between the shared subspaces of two subsets of models, each about its own mean.

    Models that are in both subsets are allowed and noted: what they share says nothing about the others.

    Raises:
        NotEnoughModels: a subset without a usable model.
    """
    first, second = (subspace(gram, kept=kept, members=side, about=about) for side in (left, right))
    cosines = first.coefficients.T @ inner_products(gram, about) @ second.coefficients
    both = len(set(first.members) & set(second.members))
    said = (f"{both} models are in both subsets, and what they share says nothing about the others",) if both else ()
    return between(cosines, first, second, notes=said)


def side_angles(left: Gram, right: Gram, *, kept: int) -> Angles:
    """The angles between the leading directions of two side Grams: of two subsets, or of two layers of equal width.

    Raises:
        LayerError: the two are of different axes or widths, or of the models axis.
    """
    if left.axis != right.axis or left.axis is Axis.MODELS or left.values.shape != right.values.shape:
        raise LayerError(
            f"Directions have angles where the sides are equally wide; found {left.layer.name} on {left.axis} with "
            f"{len(left.values)} and {right.layer.name} on {right.axis} with {len(right.values)}; choose two of equal "
            "width"
        )
    first, second = subspace(left, kept=kept), subspace(right, kept=kept)
    return between(first.basis.T @ second.basis, first, second)


def pair_angles(factors: Factors, left: int, right: int, *, side: Side | str, kept: int) -> Angles:
    """The angles between two models' own leading singular directions of one side."""
    # Of these two only: of a table of pairs this is asked over and over.
    rank = np.zeros(factors.n, dtype=np.intp)
    rank[[left, right]] = np.minimum(factors.rank()[[left, right]], kept)
    bases = [orthonormal(factors.basis(side)[i, :, : rank[i]].astype(np.float64)) for i in (left, right)]
    cosines = bases[0].T @ bases[1]
    k = [basis.shape[1] for basis in bases]
    said = f"{kept} directions were asked for, {factors.labels[left]} has {k[0]} and {factors.labels[right]} {k[1]}"
    width, floor = len(bases[0]), float(factor_floors(factors, rank)[[left, right]].max())
    return Angles(
        axis=Axis(Side(side)),
        radians=radians_of(cosines, floor=floor),
        cosines=np.clip(cosines, -1.0, 1.0),
        floor=floor,
        chance=min(max(k) / width, 1.0),
        dimension=width,
        notes=(said,) if min(k) < kept else (),
    )


# Directions kept in float32 are known to 6e-8 an entry, so to about as much as an angle.
SINGLES_FLOOR = 2e-7
# A cosine of orthonormal float64 directions is known to a few 1e-16, an angle near 0 to the root of twice that.
_ARCCOS_FLOOR = 4e-8
# A cut between variances nearer than this is arbitrary whatever the rounding, and `Subspace.notes` says so.
_LEAST_GAP = 1e-3


def factor_floors(factors: Factors, ranks: Indices) -> Floats:
    """The angle (n,) in radians that rounding can turn the first `ranks` (n,) directions of each model by.

    They are stored in float32. Through the Gram of a side a direction of relative strength `s = s_k / s_1` is known
    to `eps / s^2` where the next is no neighbour; block iteration leaves `residual / s`. Source: Davis, Kahan 1970.
    """
    found = np.full(factors.n, SINGLES_FLOOR)
    for i, k in enumerate(ranks):
        if k:
            values = factors.singular[i] / factors.singular[i, 0]
            after = float(values[k] / values[k - 1]) if k < values.size else 0.0
            rounding = 4 * EPS / values[k - 1] ** 2 + factors.residual[i] / values[k - 1]
            found[i] = max(SINGLES_FLOOR, rounding / max(1 - after**2, _LEAST_GAP))
    return np.asarray(np.minimum(found, np.pi / 2))


def between(cosines: Floats, first: Subspace, second: Subspace, *, notes: tuple[str, ...] = ()) -> Angles:
    """The angles of two subspaces from the inner products (k_left, k_right) of their orthonormal directions."""
    floor = max(angle_floor(first), angle_floor(second))
    return Angles(
        axis=first.axis,
        radians=radians_of(cosines, floor=floor),
        cosines=np.clip(cosines, -1.0, 1.0),
        floor=floor,
        chance=min(max(first.k, second.k) / first.dimension, 1.0),
        dimension=first.dimension,
        notes=tuple(dict.fromkeys(notes + first.notes + second.notes)),
    )


def radians_of(cosines: Floats, *, floor: float) -> Floats:
    """The principal angles (..., k) ascending, of blocks (..., k_left, k_right) of inner products; below `floor` 0."""
    values = np.linalg.svd(cosines, compute_uv=False)
    radians = np.arccos(np.clip(values, 0.0, 1.0))
    return np.where(radians < floor, 0.0, radians)


def angle_floor(space: Subspace) -> float:
    """The angle in radians that the rounding of the Gram can make out of nothing, at most a right one.

    On the models axis cosines themselves come from the Gram: `1 - cos = rounding / lambda_k`, so an angle of the root
    of it, at least 1e-8. On a side axis the directions are there and only turned, by `rounding / lambda_k` where the
    next variance is no neighbour; the arccos of their products knows no less than 4e-8. Source: Davis, Kahan 1970.
    """
    if not space.k:
        return 1e-8
    rounding = max(space.floor, EPS * float(space.variances[0])) / float(space.variances[-1])
    if space.axis is Axis.MODELS:
        return float(min(max(np.sqrt(2 * rounding), 1e-8), np.pi / 2))
    return float(min(max(rounding / max(space.gap, _LEAST_GAP), _ARCCOS_FLOOR), np.pi / 2))


def orthonormal(columns: Floats) -> Floats:
    """The same columns (side, k), orthonormal to float64: what was stored in float32 is so only to 1e-7."""
    return np.asarray(np.linalg.qr(columns)[0])


def chance_band(angles: Angles, *, draws: int = 200, seed: int = 0) -> NullBand:
    """What two random subspaces of the same sizes in the same space show, angle by angle, in degrees.

    The squared cosines of random `k`-subspaces of `R^D` are the eigenvalues of `A (A + B)^-1`, `A` and `B` Wishart
    matrices of `k_right` and `D - k_right` degrees of freedom, drawn by Bartlett's decomposition: `k^3` a draw
    whatever D. `z` is positive and `p` small where the observed angle is smaller than chance. Source: Absil,
    Edelman, Koev 2006.
    """
    k, other = sorted(angles.cosines.shape)
    drawn = random_degrees(k, other, angles.dimension, draws=draws, seed=seed)
    low, middle, high = np.percentile(drawn, [2.5, 50, 97.5], axis=0)
    spread = drawn.std(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(spread > 0, (drawn.mean(axis=0) - angles.degrees) / spread, 0.0)
    return NullBand(
        kind="random subspaces",
        statistic="principal angle in degrees",
        observed=angles.degrees,
        low=low,
        middle=middle,
        high=high,
        z=z,
        p=(1 + (drawn <= angles.degrees).sum(axis=0)) / (1 + draws),
        samples=drawn,
        draws=draws,
        seed=seed,
    )


def level_of(k: int, other: int, dimension: int, *, draws: int = 400, seed: int = 0) -> ChanceLevel:
    """What two random subspaces of `k` and `other` directions of `R^dimension` show, in single numbers."""
    k, other = sorted((k, other))
    drawn = random_degrees(k, other, dimension, draws=draws, seed=seed)
    low, high = np.quantile((np.cos(np.radians(drawn)) ** 2).mean(axis=1), (0.025, 0.975))
    return ChanceLevel(
        overlap=min(other / dimension, 1.0),
        low=float(low),
        high=float(high),
        mean_degrees=float(drawn.mean()),
        largest_degrees=float(drawn[:, -1].mean()),
    )


def random_degrees(k: int, other: int, dimension: int, *, draws: int, seed: int) -> Floats:
    """Principal angles (draws, k) in degrees, ascending, of random subspaces of `k <= other` directions."""
    rng = np.random.default_rng(seed)
    if k + other > dimension:
        # Such subspaces must meet; the space is small, so they are drawn as they are.
        left = np.linalg.qr(rng.standard_normal((draws, dimension, min(k, dimension))))[0]
        # By symmetry the second may stand still.
        return np.degrees(radians_of(left[:, : min(other, dimension)].swapaxes(1, 2), floor=0.0))
    inside = wishart(rng, count=draws, side=k, dof=other)
    outside = wishart(rng, count=draws, side=k, dof=dimension - other)
    whitened = np.linalg.solve(np.linalg.cholesky(inside + outside), np.linalg.cholesky(inside))
    return np.degrees(radians_of(whitened, floor=0.0))
