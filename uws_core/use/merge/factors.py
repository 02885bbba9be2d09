"""Merges in the thin factors of adapters: TSV-M, Iso-C, Iso-CTS, KnOTS, Core Space, data-free RegMean, CtM.

Every form is one that is well defined: singular values are cut at a share of the largest, directions are made
orthogonal through the Gram of the stacked ones, bases come from balanced factors. So a perturbation of 1e-12 changes a
merge by less than 1e-10, and `B R^-1`, `R A` in place of `B`, `A` changes nothing. No m x p matrix is formed.

Letters: n updates `tau_i = up_i down_i` of an m x p layer, ranks r_i with sum R. All float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from uws_core.analysis.joint_basis import ThinUpdates, two_sided
from uws_core.nouns.arrays import Floats
from uws_core.nouns.merging import MergeMethod, MergeRecipe
from uws_core.use.merge.entries import HeldUpdates, chunks, entry_rule

# Singular values below this share of the largest are rounding. Squared, for eigenvalues of Grams of directions: the
# sine of an angle below 1e-4 counts as none.
_CUT = 1e-8
# Numbers of one slab of products.
_SLAB = 1 << 22


@dataclass(frozen=True)
class Thin:
    """A matrix `up @ down`: up (m, r), down (r, p)."""

    up: Floats
    down: Floats

    @property
    def norm2(self) -> float:
        """The squared Frobenius norm."""
        return self.inner(self)

    def inner(self, other: Thin) -> float:
        """The Frobenius inner product with another; `r r' (m + p)` multiply-adds."""
        return float(np.sum((self.up.T @ other.up) * (self.down @ other.down.T)))

    def svd(self) -> tuple[Floats, Floats, Floats]:
        """Left vectors (m, r), singular values (r,) and right vectors (p, r), cut where the rest is rounding."""
        return _svd_of_product(self.up, self.down)

    def cut(self, rank: int | None) -> tuple[Thin, float]:
        """The nearest matrix of this rank, its singular values split evenly, and the squared norm that it loses."""
        left, sizes, right = self.svd()
        kept = sizes.size if rank is None else min(rank, sizes.size)
        root = np.sqrt(sizes[:kept])
        return Thin(left[:, :kept] * root, (right[:, :kept] * root).T), float(np.square(sizes[kept:]).sum())


@dataclass(frozen=True)
class Factors:
    """The updates of one layer: `parts` in balanced gauge, `up_i = U_i sqrt(S_i)`, `down_i = sqrt(S_i) V_i^T`."""

    parts: tuple[Thin, ...]
    shape: tuple[int, int]

    @classmethod
    def balanced(cls, ups: Sequence[Floats], downs: Sequence[Floats]) -> Factors:
        """Returns the updates up_i (m, r_i), down_i (r_i, p) in the one gauge that depends on their products only."""
        shape = ups[0].shape[0], downs[0].shape[1]
        return cls(tuple(Thin(up, down).cut(None)[0] for up, down in zip(ups, downs, strict=True)), shape)

    @property
    def n(self) -> int:
        """The number of members."""
        return len(self.parts)

    @cached_property
    def left(self) -> Floats:
        """An orthonormal basis (m, k) of all outputs: the left singular vectors of all `up_i` side by side."""
        return _span(np.concatenate([part.up for part in self.parts], axis=1))

    @cached_property
    def right(self) -> Floats:
        """An orthonormal basis (p, k') of all inputs: the left singular vectors of all `down_i^T` side by side."""
        return _span(np.concatenate([part.down.T for part in self.parts], axis=1))

    @cached_property
    def cores(self) -> Floats:
        """The updates in these bases (n, k, k'), exactly: `tau_i = left core_i right^T`."""
        return np.stack([(self.left.T @ part.up) @ (part.down @ self.right) for part in self.parts])

    @cached_property
    def products(self) -> Floats:
        """Inner products of the updates (n, n)."""
        flat = self.cores.reshape(self.n, -1)
        return np.asarray(flat @ flat.T)

    def of_core(self, core: Floats) -> Thin:
        """The matrix that a core (k, k') stands for."""
        return Thin(self.left, core @ self.right.T)


def merged_factors(recipe: MergeRecipe, factors: Factors, name: str) -> Thin:
    """Returns `method(updates)` of one of the methods in factors, scale 1 and not yet cut to a rank."""
    return _METHODS[recipe.method](recipe, factors, name)


def combined(factors: Factors, coefficients: Floats) -> Thin:
    """Returns the sum of the updates with these coefficients (n,)."""
    return factors.of_core(np.tensordot(coefficients, factors.cores, axes=1))


class Products:
    """Updates as products, `lefts` (m, r_i) times `rights` (r_i, p), formed in slabs of rows; see `entries.Updates`."""

    in_memory: Tensor | None = None

    def __init__(self, lefts: Sequence[Floats], rights: Sequence[Floats]) -> None:
        self._lefts, self._rights = lefts, rights
        self.n = len(lefts)
        self.shape = lefts[0].shape[0], rights[0].shape[1]
        if self.n * self.shape[0] * self.shape[1] <= _SLAB:
            self.in_memory = next(iter(self._formed(self.shape[0])))

    def slabs(self) -> Iterator[Tensor]:
        """The products in slabs of rows."""
        if self.in_memory is not None:
            yield self.in_memory
            return
        # Streams of entries are selected from in float32, and the same numbers must come again.
        for slab in self._formed(max(1, _SLAB // (self.n * self.shape[1]))):
            yield slab.float()

    def _formed(self, height: int) -> Iterator[Tensor]:
        for start in range(0, self.shape[0], height):
            rows = slice(start, start + height)
            parts = [left[rows] @ right for left, right in zip(self._lefts, self._rights, strict=True)]
            yield torch.from_numpy(np.stack(parts))


def by_rule(recipe: MergeRecipe, updates: HeldUpdates | Products, name: str) -> Floats:
    """Returns the recipe's own entry method on updates, formed row by row, as a matrix (m, p)."""
    rule = entry_rule(recipe, updates, name)
    return torch.cat([rule(chunk) for slab in updates.slabs() for chunk in chunks(slab)]).double().numpy()


def _in_basis(recipe: MergeRecipe) -> MergeRecipe:
    return replace(recipe, method=recipe.rule)


def _tsv(recipe: MergeRecipe, factors: Factors, name: str) -> Thin:
    """TSV-M: the first `min(m, p) / n` triplets of each update, stacked, their directions made orthogonal.

    `U_perp = U (U^T U)^(+1/2)`, the polar factor of the stacked directions: equal members give their update, orthogonal
    ones their sum. Source: arXiv 2412.00081; through the Gram of the directions, since the polar factor of an SVD with
    zeros is arbitrary.
    """
    limit = recipe.rank or max(min(factors.shape) // factors.n, 1)
    lefts, sizes, rights = [], [], []
    for part, weight in zip(factors.parts, recipe.weight_of(factors.n), strict=True):
        left, values, right = part.svd()
        kept = min(limit, values.size)
        lefts.append(left[:, :kept])
        sizes.append(values[:kept] * weight)
        rights.append(right[:, :kept])
    left, right = (_orthogonal(np.concatenate(side, axis=1)) for side in (lefts, rights))
    return Thin(left * np.concatenate(sizes), right.T)


def _iso_c(recipe: MergeRecipe, factors: Factors, name: str) -> Thin:
    """Iso-C: the sum with the mean of its singular values in place of each, over its numerical rank.

    Source: arXiv 2502.04959; over all min(m, p) values the zeros of adapters dilute the mean and their vectors are
    arbitrary.
    """
    left, sizes, right = combined(factors, recipe.weight_of(factors.n)).svd()
    mean = sizes.mean() if sizes.size else 0.0
    return Thin(left * mean, right.T)


def _iso_cts(recipe: MergeRecipe, factors: Factors, name: str) -> Thin:
    """Iso-CTS: the leading `common` share of the sum's directions and as many of each update's rest, orthogonal, with
    one singular value, the mean of all that were taken.

    Source: arXiv 2502.04959, algorithm 2. As many directions as the sum has, each member the same number of its own.
    """
    weights = recipe.weight_of(factors.n)
    left, sizes, right = combined(factors, weights).svd()
    own = round((sizes.size - int(recipe.common * sizes.size)) / factors.n)
    own = min(own, sizes.size // factors.n)
    common = sizes.size - own * factors.n
    lefts, values, rights = [left[:, :common]], [sizes[:common]], [right[:, :common]]
    for part, weight in zip(factors.parts, weights, strict=True):
        rest = Thin(part.up - lefts[0] @ (lefts[0].T @ part.up), part.down * weight)
        a, s, b = _svd_of_product(rest.up, rest.down, least=_CUT * float(sizes[0]) if sizes.size else 0.0)
        lefts.append(a[:, :own])
        values.append(s[:own])
        rights.append(b[:, :own])
    found = np.concatenate(values)
    mean = found.mean() if found.size else 0.0
    outputs, inputs = (_orthogonal(np.concatenate(side, axis=1)) for side in (lefts, rights))
    return Thin(outputs * mean, inputs.T)


def _knots(recipe: MergeRecipe, factors: Factors, name: str) -> Thin:
    """KnOTS: `[tau_1 .. tau_n] = U S [V_1^T .. V_n^T]`, a rule on the `S V_i^T`, times U; outputs share the basis.

    Source: arXiv 2410.19735. `S V_i^T = U^T tau_i`, and U are the eigenvectors of `sum tau_i tau_i^T`.
    """
    turn = _span(np.concatenate(list(factors.cores), axis=1))
    inside = [turn.T @ core for core in factors.cores]
    merged = by_rule(_in_basis(recipe), Products(inside, [factors.right.T] * factors.n), name)
    return Thin(factors.left @ turn, merged)


def _core(recipe: MergeRecipe, factors: Factors, name: str) -> Thin:
    """Core Space: a rule on the cores `Q_B^T tau_i Q_A`, in the bases of balanced factors.

    Source: arXiv 2509.17786; from factors as stored, a change of gauge changes the merge by 75 %.
    """
    merged = by_rule(_in_basis(recipe), HeldUpdates(torch.from_numpy(factors.cores)), name)
    return factors.of_core(merged)


def _regmean(recipe: MergeRecipe, factors: Factors, name: str) -> Thin:
    """RegMean without data: `(sum w_i tau_i D_i) (sum w_i D_i)^-1`, `D_i = tau_i^T tau_i / |tau_i|^2 + ridge / k'`.

    The ridge is relative to the mean eigenvalue over the `k'` input directions that any update has; a large one gives
    the weighted mean, none gives the sum where inputs are orthogonal and explodes where they are nearly parallel.
    Sources: arXiv 2212.09849 (RegMean), 2503.08099 (covariances from the updates).
    """
    size, inputs = factors.cores.shape[2], []
    for core, weight in zip(factors.cores, recipe.weight_of(factors.n), strict=True):
        norm2 = float(np.square(core).sum())
        own = core.T @ core / norm2 if norm2 > 0 else np.zeros((size, size))
        inputs.append(weight * (own + recipe.ridge / max(size, 1) * np.eye(size)))
    return factors.of_core(least_squares(factors.cores, np.stack(inputs)))


def least_squares(updates: Floats, inputs: Floats) -> Floats:
    """Returns the matrix (m, p) nearest in its outputs to those of the updates (n, m, p), each on inputs of its own.

    `(sum tau_i C_i) (sum C_i)^+` with the inputs' second moments `C_i` (n, p, p). Source: RegMean, arXiv 2212.09849.
    """
    inverse = np.linalg.pinv(inputs.sum(axis=0), rcond=_CUT, hermitian=True)
    return np.asarray((updates @ inputs).sum(axis=0) @ inverse)


def _ctm(recipe: MergeRecipe, factors: Factors, name: str) -> Thin:
    """Compress, then merge: a joint two-sided basis of rank r (JD-Full), a rule on the r x r cores.

    The merge has rank r by construction. The basis is turned to the eigenvectors of the cores' own sums of squares, so
    that a rule on entries means the same in every gauge. Source: arXiv 2606.03723; 2407.00066 for the basis.
    """
    rank = recipe.joint_rank or max(part.down.shape[0] for part in factors.parts)
    parts = [part for part in factors.parts if part.down.shape[0]]
    if not parts:
        return Thin(np.zeros((factors.shape[0], 1)), np.zeros((1, factors.shape[1])))
    joint = two_sided(ThinUpdates.of([part.up for part in parts], [part.down for part in parts]), rank)
    left = joint.left @ _span(np.concatenate(list(joint.cores), axis=1))
    right = joint.right @ _span(np.concatenate([core.T for core in joint.cores], axis=1))
    cores = np.stack([(left.T @ part.up) @ (part.down @ right) for part in factors.parts])
    return Thin(left, by_rule(_in_basis(recipe), HeldUpdates(torch.from_numpy(cores)), name) @ right.T)


_METHODS: Mapping[MergeMethod, Callable[[MergeRecipe, Factors, str], Thin]] = {
    MergeMethod.TSV: _tsv,
    MergeMethod.ISO_C: _iso_c,
    MergeMethod.ISO_CTS: _iso_cts,
    MergeMethod.KNOTS: _knots,
    MergeMethod.CORE: _core,
    MergeMethod.REGMEAN: _regmean,
    MergeMethod.CTM: _ctm,
}


def _span(columns: Floats) -> Floats:
    """The left singular vectors (m, k) of columns, the strongest first, without those that are rounding."""
    if columns.shape[1] > columns.shape[0]:
        # A wide stack's directions are those of its triangular factor.
        columns = np.linalg.qr(columns.T)[1].T
    vectors, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    return np.ascontiguousarray(vectors[:, sizes > _CUT * max(float(sizes.max(initial=0.0)), 1e-300)])


def _orthogonal(directions: Floats) -> Floats:
    """`U (U^T U)^(+1/2)` (m, k): the nearest orthonormal directions, those that repeat others shared among them."""
    values, vectors = np.linalg.eigh(directions.T @ directions)
    kept = values > _CUT * max(float(values.max(initial=0.0)), 1e-300)
    root = np.divide(1.0, np.sqrt(np.where(kept, values, 1.0)), out=np.zeros_like(values), where=kept)
    return np.asarray(directions @ ((vectors * root) @ vectors.T))


def _svd_of_product(up: Floats, down: Floats, *, least: float = 0.0) -> tuple[Floats, Floats, Floats]:
    """The singular value decomposition of `up @ down` through the triangular factors, without rounding's part."""
    out_basis, out_part = np.linalg.qr(up)
    in_basis, in_part = np.linalg.qr(down.T)
    left, sizes, right = np.linalg.svd(out_part @ in_part.T, full_matrices=False)
    kept = sizes > max(_CUT * float(sizes.max(initial=0.0)), least, 1e-300)
    return out_basis @ left[:, kept], sizes[kept], in_basis @ right[kept].T
