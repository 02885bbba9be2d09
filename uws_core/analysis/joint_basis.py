"""Joint bases of many updates: one pair of bases, and one small core a model.

Letters: n updates `dW_i = up_i @ down_i` of an m x p layer, ranks r_i with sum R, k directions a side.

* two-sided (JD-Full): `dW_i ~ U S_i V^T` with orthonormal U (m x k), V (p x k), S_i = U^T dW_i V (k x k);
* diagonal (JD-Diag): S_i diagonal, U and V free: the CP decomposition of the m x p x n tensor.

Updates stay in thin form: no m x p matrix is formed. Source: arXiv 2407.00066 (Compress then Serve); Tucker-2 and HOOI:
De Lathauwer, De Moor, Vandewalle 2000.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from scipy.special import ndtr, ndtri

from uws_core.nouns.arrays import Floats

# The subspaces moved by less than this (squared sines, summed) in one sweep.
_SETTLED = 1e-9
_MOST_SWEEPS = 50
# Ridge of the normal equations of JD-Diag, relative to their largest entry: without it two components may grow without
# bound and cancel (the best CP approximation need not exist).
_RIDGE = 1e-9
# Up to this side a full decomposition is used.
_SMALL_SIDE = 1024
# Rows of a whole matrix whose rounding is tried: 48 passes over all of 4096 x 4096 would take 15 s a model.
_ROUNDED_ROWS = 256
# The scales that a rounded row tries, as shares of its root mean square and of what covers its largest entry.
_COMMON_SHARES = (0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.4, 1.6)
_TOP_SHARES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
# A singular value below this share of the largest is rounding; float32 stacks reach 1e-6.
_RANK = 1e-6


@dataclass(frozen=True)
class ThinUpdates:
    """Updates of one layer side by side: `up` (m, R) with each model's scale in it, `down` (R, p), ranks (n,)."""

    up: Floats
    down: Floats
    ranks: tuple[int, ...]

    @classmethod
    def of(cls, ups: Sequence[Floats], downs: Sequence[Floats]) -> ThinUpdates:
        """Stacks factors up_i (m, r_i) and down_i (r_i, p)."""
        return cls(np.concatenate(ups, axis=1), np.concatenate(downs, axis=0), tuple(down.shape[0] for down in downs))

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """The first rank row of each model, and R at the end."""
        return (0, *np.cumsum(self.ranks).tolist())

    def parts(self, stack: Floats) -> list[Floats]:
        """Splits rows (R, ...) by model."""
        return np.split(stack, self.starts[1:-1])

    def chosen(self, models: Sequence[int]) -> ThinUpdates:
        """The updates of some models."""
        rows = np.concatenate([np.arange(*self.starts[model : model + 2]) for model in models])
        return ThinUpdates(self.up[:, rows], self.down[rows], tuple(self.ranks[model] for model in models))

    @cached_property
    def norms2(self) -> Floats:
        """Squared Frobenius norms (n,): `tr((up^T up)(down down^T))`."""
        ups, downs = self.parts(self.up.T), self.parts(self.down)
        return np.asarray([float(np.sum((u @ u.T) * (d @ d.T))) for u, d in zip(ups, downs, strict=True)])

    def weights(self) -> Floats:
        """`1 / |dW_i|^2` (n,), 0 for zero updates: every model's relative error counts the same."""
        return np.asarray(np.divide(1.0, self.norms2, out=np.zeros(len(self.ranks)), where=self.norms2 > 0))


@dataclass(frozen=True)
class JointBasis:
    """`U` (m, k), `V` (p, k), cores (n, k, k), or (n, k) where they are diagonal; the squared error left of each model.

    `errors2` (n,) is `|dW_i - U S_i V^T|^2`, `norms2` (n,) is `|dW_i|^2`; `sweeps` the sweeps until the bases settled.
    """

    left: Floats
    right: Floats
    cores: Floats
    errors2: Floats
    norms2: Floats
    sweeps: int

    @property
    def relative_errors(self) -> Floats:
        """`|dW_i - dW^_i| / |dW_i|` (n,); 0 for a zero update."""
        share = np.divide(self.errors2, self.norms2, out=np.zeros_like(self.errors2), where=self.norms2 > 0)
        return np.asarray(np.sqrt(np.clip(share, 0.0, None)))


def two_sided(updates: ThinUpdates, k: int, *, weights: Floats | None = None) -> JointBasis:
    """Returns the joint two-sided basis of k directions a side (fewer where the updates span fewer).

    HOOI: the leading left directions of all updates seen through V, then the right ones seen through U, until neither
    moves. Starts from the HOSVD. Price a sweep: `2 R k (m + p)` multiply-adds. `weights` (n,) default to `1/|dW_i|^2`.
    """
    weights = updates.weights() if weights is None else weights
    turned = _turned(updates)
    left = side_directions(updates, k, weights=weights)
    right = side_directions(turned, k, weights=weights)
    # The factors seen through the bases: a step of one side asks no more of the other.
    seen_left, seen_right = updates.up.T @ left, updates.down @ right
    sweeps, moved = 0, np.inf
    while moved >= _SETTLED and sweeps < _MOST_SWEEPS:
        sweeps += 1
        new_left, seen_left = _leading(updates, seen_right, weights, left.shape[1], seen_left)
        new_right, seen_right = _leading(turned, seen_left, weights, right.shape[1], seen_right)
        moved = _moved(left, new_left) + _moved(right, new_right)
        left, right = new_left, new_right
    cores = _cores(updates, seen_left, seen_right)
    errors2 = updates.norms2 - np.square(cores).sum(axis=(1, 2))
    return JointBasis(left, right, cores, np.clip(errors2, 0.0, None), updates.norms2, sweeps)


def side_directions(updates: ThinUpdates, k: int, *, weights: Floats) -> Floats:
    """Returns the k leading eigenvectors (m, k) of `sum_i w_i dW_i dW_i^T`."""
    m, width = updates.up.shape
    if _is_small(m, width, k):
        return _top_left(_loaded(updates, updates.parts(updates.down), weights), k)
    inner = _inner(updates.parts(updates.down), weights)
    block = np.random.default_rng(0).standard_normal((m, k + 16)).astype(updates.up.dtype)
    return _iterated(updates, inner, updates.up.T @ block, k, rounds=4)[0]


def expected_errors2(updates: ThinUpdates) -> Floats:
    """Returns the expected mean squared relative error at k = 0, 1, ... directions a side, before anything is fitted.

    With `t_out`, `t_in` the tails of the two one-sided HOSVD spectra: `1 - (1 - t_out)(1 - t_in)`, as if the two sides
    were independent. The true two-sided error lies between the larger tail and the sum of both, and so does this.
    """
    weights = updates.weights()
    tails = []
    for turned in (updates, _turned(updates)):
        loaded = _loaded(turned, turned.parts(turned.down), weights)
        small = loaded @ loaded.T if loaded.shape[0] <= loaded.shape[1] else loaded.T @ loaded
        energy = np.clip(np.linalg.eigvalsh(small.astype(np.float64))[::-1], 0.0, None)
        left = 1 - np.concatenate([[0.0], np.cumsum(energy)]) / max(float(energy.sum()), 1e-300)
        tails.append(np.clip(left, 0.0, 1.0))
    size = max(map(len, tails))
    captured = [1 - np.pad(tail, (0, size - len(tail))) for tail in tails]
    return np.asarray(1 - captured[0] * captured[1])


def thin_core(core: Floats, rank: int) -> Floats:
    """Returns the factors (k + k', r) of a core (k, k') of at most this rank, one below the other: `first @ second.T`.

    Its singular values are split evenly, which keeps both in the range of narrow types.
    """
    left, sizes, right = np.linalg.svd(core, full_matrices=False)
    factors = np.zeros((sum(core.shape), rank))
    kept = min(rank, sizes.size)
    factors[: len(core), :kept] = left[:, :kept] * np.sqrt(sizes[:kept])
    factors[len(core) :, :kept] = right[:kept].T * np.sqrt(sizes[:kept])
    return factors


def project(updates: ThinUpdates, left: Floats, right: Floats) -> Floats:
    """Returns `U^T dW_i V` (n, k_left, k_right)."""
    return _cores(updates, updates.up.T @ left, updates.down @ right)


def projected(updates: ThinUpdates, left: Floats, right: Floats) -> JointBasis:
    """Returns the two-sided approximation in a given orthonormal pair of bases, such as a random one."""
    cores = project(updates, left, right)
    errors2 = updates.norms2 - np.square(cores).sum(axis=(1, 2))
    return JointBasis(left, right, cores, np.clip(errors2, 0.0, None), updates.norms2, 0)


def in_basis(updates: ThinUpdates, basis: JointBasis, *, diagonal: bool) -> JointBasis:
    """Returns other updates in a basis that was fitted without them."""
    if not diagonal:
        return projected(updates, basis.left, basis.right)
    cores = _diagonals(updates, basis.left, basis.right)
    errors2 = np.clip(_diagonal_errors2(updates, basis.left, basis.right, cores), 0.0, None)
    return JointBasis(basis.left, basis.right, cores, errors2, updates.norms2, 0)


def diagonal(updates: ThinUpdates, k: int, *, starts: int = 3, seed: int = 0) -> JointBasis:
    """Returns the best of several alternating least squares fits of `sum_c U_c diag(s_i) V_c^T` to the updates.

    The first start is the two-sided basis, the others are random. Weighted by `1/|dW_i|^2`; columns of U and V have
    norm 1. Unique only up to order, sign and scale of the components.
    """
    weights = updates.weights()
    generator = np.random.default_rng(seed)
    m, p = updates.up.shape[0], updates.down.shape[1]
    first = two_sided(updates, k, weights=weights)
    fits = []
    for start in range(starts):
        left, right = _unit(generator.standard_normal((m, k))), _unit(generator.standard_normal((p, k)))
        if start == 0:
            turned, _, other = np.linalg.svd(np.tensordot(weights, first.cores, axes=1))
            k_first = min(first.left.shape[1], first.right.shape[1], k)
            left[:, :k_first], right[:, :k_first] = (
                (first.left @ turned)[:, :k_first],
                (first.right @ other.T)[:, :k_first],
            )
        fits.append(_alternating(updates, left, right, weights))
    return min(fits, key=lambda fit: float(weights @ fit.errors2))


def own_svd_errors(updates: ThinUpdates, ranks: Sequence[int]) -> Floats:
    """Returns relative errors (len(ranks), n) of each update's own truncated SVD at each rank."""
    errors = np.zeros((len(ranks), len(updates.ranks)))
    for index, (u, d) in enumerate(zip(updates.parts(updates.up.T), updates.parts(updates.down), strict=True)):
        sizes = np.linalg.svd(np.linalg.qr(u.T)[1] @ np.linalg.qr(d.T)[1].T, compute_uv=False)
        energy = np.square(sizes)
        total = float(energy.sum())
        if total > 0:
            errors[:, index] = [np.sqrt(max(float(energy[rank:].sum()), 0.0) / total) for rank in ranks]
    return errors


def mean_errors2(updates: ThinUpdates) -> Floats:
    """Returns squared errors (n,) of the plain mean of all updates in place of each."""
    n = len(updates.ranks)
    inner = (updates.up.T @ updates.up) * (updates.down @ updates.down.T)
    rows = np.add.reduceat(np.add.reduceat(inner, updates.starts[:-1], axis=0), updates.starts[:-1], axis=1)
    toward = rows.mean(axis=1)
    return np.asarray(np.clip(np.diag(rows) - 2 * toward + toward.sum() / n, 0.0, None))


@cache
def _gaussian_levels(bits: int) -> Floats:
    """The `2^bits` levels, ascending, that leave normal numbers the least squared error: Lloyd's rule to its end.

    Source: Max, Quantizing for minimum distortion (1960), table 1.
    """
    # Many levels stand as densely as the cube root of the density: those of a normal law sqrt(3) times as wide.
    levels = np.sqrt(3) * ndtri((np.arange(2**bits) + 0.5) / 2**bits)
    for _ in range(2000):
        edges = np.concatenate([[-np.inf], (levels[1:] + levels[:-1]) / 2, [np.inf]])
        # A level is the mean of the numbers between its edges.
        levels = -np.diff(np.exp(-np.square(edges) / 2)) / np.sqrt(2 * np.pi) / np.diff(ndtr(edges))
    return np.asarray(levels)


def rounded(values: Floats, bits: int) -> Floats:
    """Returns the values on `2^bits` levels a row, symmetric about zero; one bit is `mean |x| sign(x)`.

    The levels are those best for normal numbers; the scale of a row is the one of 16 tried that leaves the least
    squared error: 8 about its root mean square, 8 that cover its largest entry or a share of it, for rows with a few
    large ones. Source: BitDelta (arXiv 2402.10193) for one bit.
    """
    if bits == 1:
        size = np.abs(values).mean(axis=1, keepdims=True)
        return np.asarray(np.where(values >= 0, size, -size))
    levels = _gaussian_levels(bits)
    edges = (levels[1:] + levels[:-1]) / 2
    common = np.sqrt(np.square(values).mean(axis=1, keepdims=True))
    top = np.abs(values).max(axis=1, keepdims=True) / levels[-1]
    best, least = np.zeros_like(values), np.full((values.shape[0], 1), np.inf)
    for scale in (*(common * share for share in _COMMON_SHARES), *(top * share for share in _TOP_SHARES)):
        tried = levels[np.searchsorted(edges, values / np.where(scale > 0, scale, 1.0))] * scale
        error = np.square(values - tried).sum(axis=1, keepdims=True)
        best, least = np.where(error < least, tried, best), np.minimum(error, least)
    return np.asarray(best)


def rounding_error2(values: Floats, bits: int) -> float:
    """Returns the squared error of `rounded`; of more than 256 rows from that many, evenly spread, scaled up."""
    step = max(1, values.shape[0] // _ROUNDED_ROWS)
    some = values[::step]
    error2 = float(np.square(some - rounded(some, bits)).sum())
    whole2, some2 = float(np.square(values).sum()), float(np.square(some).sum())
    # Scaled by the energy, since the rows may differ in size.
    return error2 * whole2 / some2 if some2 > 0 else 0.0


def rounded_errors2(updates: ThinUpdates, bits: int) -> Floats:
    """Returns squared errors (n,) of updates whose factors are rounded to `bits` bits an entry, a scale a rank row."""
    up, down = rounded(updates.up.T, bits).T, rounded(updates.down, bits)
    parts = (updates.parts(stack) for stack in (updates.up.T, updates.down, up.T, down))
    pairs = [(np.concatenate([a, -c]), np.concatenate([b, d])) for a, b, c, d in zip(*parts, strict=True)]
    return np.asarray([float(np.sum((u @ u.T) * (d @ d.T))) for u, d in pairs])


def random_basis(size: int, k: int, *, generator: np.random.Generator) -> Floats:
    """Returns k orthonormal random directions (size, k)."""
    return np.linalg.qr(generator.standard_normal((size, k)))[0]


def thin(left: Floats, core: Floats, right: Floats, rank: int) -> tuple[Floats, Floats]:
    """Returns factors up (m, r), down (r, p) of `left core right^T`, singular values split evenly, r <= rank.

    Even splitting keeps both factors in the range of float16 and is what loaders write themselves.
    """
    matrix = np.diag(core) if core.ndim == 1 else core
    # JD-Diag's columns are not orthonormal: their own triangular factors go into the core.
    q_left, r_left = np.linalg.qr(left)
    q_right, r_right = np.linalg.qr(right)
    turned, sizes, other = np.linalg.svd(r_left @ matrix @ r_right.T)
    root = np.sqrt(sizes[:rank])
    return (q_left @ turned[:, :rank]) * root, (root[:, None] * other[:rank]) @ q_right.T


def _loaded(updates: ThinUpdates, sketches: Sequence[Floats], weights: Floats) -> Floats:
    """`up_i L_i` side by side (m, .) with `L_i L_i^T = w_i S_i S_i^T`, so that its Gram is the wanted sum."""
    factors = []
    for part, weight in zip(sketches, weights, strict=True):
        # A triangular factor is at most r wide, whatever the width of S_i.
        triangle = np.linalg.qr(part.T)[1].T if part.shape[1] > part.shape[0] else part
        factors.append(np.sqrt(weight) * triangle)
    ups = updates.parts(updates.up.T)
    return np.concatenate([one.T @ factor for one, factor in zip(ups, factors, strict=True)], axis=1)


def _leading(
    updates: ThinUpdates, seen_right: Floats, weights: Floats, k: int, seen_left: Floats
) -> tuple[Floats, Floats]:
    """The k leading left directions of all `dW_i V` and `up^T` times them, from `down V` (R, .) and `up^T U` (R, k).

    Exact where one side is small; large layers take one step of subspace iteration from U.
    """
    sketches = updates.parts(seen_right)
    if _is_small(updates.up.shape[0], sum(min(part.shape) for part in sketches), k):
        left = _top_left(_loaded(updates, sketches, weights), k)
        return left, updates.up.T @ left
    return _iterated(updates, _inner(sketches, weights), seen_left, k, rounds=1)


def _inner(sketches: Sequence[Floats], weights: Floats) -> list[Floats]:
    """`w_i S_i S_i^T` (r_i, r_i), in float64: a Gram of float32 has no singular values below 3e-4 of its largest."""
    return [
        weight * (part.astype(np.float64) @ part.T.astype(np.float64))
        for weight, part in zip(weights, sketches, strict=True)
    ]


def _is_small(m: int, width: int, k: int) -> bool:
    """Whether a full decomposition of m x width costs little: of 4096 x 8000 it takes a minute, iterations a second."""
    return min(m, width) <= max(_SMALL_SIDE, 2 * k)


def _iterated(
    updates: ThinUpdates, inner: Sequence[Floats], sketch: Floats, k: int, *, rounds: int
) -> tuple[Floats, Floats]:
    """The k leading eigenvectors U (m, k) of `sum_i up_i B_i up_i^T`, and `up^T U`, by subspace iteration.

    `inner` are the B_i (r_i, r_i), `sketch` (R, .) is `up^T` times the block that it starts from. What a round reads of
    the factors are its two products with `up`: the sum's matrix, as wide as all ranks together, is never formed.
    """

    def times(stack: Floats) -> Floats:
        return np.concatenate([one @ part for one, part in zip(inner, updates.parts(stack), strict=True)])

    block, seen = sketch, sketch
    for _ in range(rounds):
        block = np.linalg.qr(updates.up @ times(seen).astype(updates.up.dtype))[0]
        seen = updates.up.T @ block
    small = seen.T.astype(np.float64) @ times(seen.astype(np.float64))
    energy, turned = np.linalg.eigh((small + small.T) / 2)
    kept = max(min(k, int((energy > _RANK**2 * max(float(energy[-1]), 1e-300)).sum())), 1)
    turned = np.ascontiguousarray(turned[:, ::-1][:, :kept].astype(block.dtype))
    return block @ turned, seen @ turned


def _top_left(matrix: Floats, k: int) -> Floats:
    """The k leading left singular vectors (m, k) of a matrix (m, R), fewer where its rank is less."""
    directions, sizes, _ = np.linalg.svd(matrix, full_matrices=False)
    rank = int((sizes > _RANK * max(float(sizes[0]), 1e-300)).sum()) if sizes.size else 0
    return np.ascontiguousarray(directions[:, : max(min(k, rank), 1)])


def _cores(updates: ThinUpdates, seen_left: Floats, seen_right: Floats) -> Floats:
    """`(up_i^T U)^T (down_i V)` (n, k_left, k_right)."""
    pairs = zip(*(updates.parts(seen.astype(np.float64)) for seen in (seen_left, seen_right)), strict=True)
    return np.stack([one.T @ other for one, other in pairs])


def _turned(updates: ThinUpdates) -> ThinUpdates:
    """The transposed updates."""
    return ThinUpdates(updates.down.T, updates.up.T, updates.ranks)


def _moved(before: Floats, after: Floats) -> float:
    """Sum of squared sines between two bases: 0 where they span the same, whatever their signs and order."""
    # From what is left over: `k - |before^T after|^2` in float32 is rounded to 1e-5 and would never settle.
    return float(np.square(after - before @ (before.T @ after)).sum())


def _unit(columns: Floats) -> Floats:
    norms = np.linalg.norm(columns, axis=0)
    return columns / np.where(norms > 0, norms, 1.0)


def _alternating(updates: ThinUpdates, left: Floats, right: Floats, weights: Floats) -> JointBasis:
    """Alternating least squares of JD-Diag from one start."""
    turned = _turned(updates)
    before = np.inf
    errors2, cores = updates.norms2, np.zeros((len(updates.ranks), left.shape[1]))
    sweeps, error = 0, np.inf
    while sweeps < _MOST_SWEEPS and (sweeps < 2 or before - error >= 1e-7 * before):
        sweeps, before = sweeps + 1, error
        cores = _diagonals(updates, left, right)
        left = _unit(_refit(updates, right, cores, weights))
        cores = _diagonals(updates, left, right)
        right = _unit(_refit(turned, left, cores, weights))
        cores = _diagonals(updates, left, right)
        errors2 = _diagonal_errors2(updates, left, right, cores)
        error = float(weights @ errors2)
    return JointBasis(left, right, cores, np.clip(errors2, 0.0, None), updates.norms2, sweeps)


def _diagonals(updates: ThinUpdates, left: Floats, right: Floats) -> Floats:
    """The best diagonals (n, k) for given bases: `[(U^T U) o (V^T V)] s_i = diag(U^T dW_i V)`."""
    matrix = (left.T @ left) * (right.T @ right)
    matrix = matrix + _RIDGE * float(np.diag(matrix).max()) * np.eye(matrix.shape[0])
    return np.asarray(np.linalg.solve(matrix, _aligned(updates, left, right).T).T)


def _aligned(updates: ThinUpdates, left: Floats, right: Floats) -> Floats:
    """`diag(U^T dW_i V)` (n, k)."""
    products = (updates.up.T @ left) * (updates.down @ right)
    return np.add.reduceat(products, updates.starts[:-1], axis=0)


def _refit(updates: ThinUpdates, right: Floats, cores: Floats, weights: Floats) -> Floats:
    """`U = (sum_i w_i dW_i V S_i)(sum_i w_i S_i V^T V S_i)^-1`."""
    rows = np.repeat(cores * weights[:, None], updates.ranks, axis=0)
    target = updates.up @ ((updates.down @ right) * rows)
    matrix = (right.T @ right) * ((cores * weights[:, None]).T @ cores)
    matrix += _RIDGE * float(np.diag(matrix).max(initial=0.0)) * np.eye(matrix.shape[0]) + 1e-300 * np.eye(len(matrix))
    return np.asarray(np.linalg.solve(matrix, target.T).T)


def _diagonal_errors2(updates: ThinUpdates, left: Floats, right: Floats, cores: Floats) -> Floats:
    aligned = _aligned(updates, left, right)
    inner = (left.T @ left) * (right.T @ right)
    return np.asarray(updates.norms2 - 2 * (cores * aligned).sum(1) + np.einsum("ik,kl,il->i", cores, inner, cores))
