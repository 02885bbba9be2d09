"""Principal angles of every pair at once: of single models, and of layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from uws_core.analysis.angles import angle_floor, factor_floors, level_of
from uws_core.analysis.subspace import subspace
from uws_core.errors import LayerError
from uws_core.nouns.angles import AngleTable, ChanceLevel, Factors, Side
from uws_core.nouns.arrays import Floats
from uws_core.nouns.gram import Axis, Gram
from uws_core.nouns.spectrum import Subspace

# Products of pairs are made in square blocks of about 32 MB, however many models there are.
BLOCK_BYTES = 2**25

Indices = NDArray[np.intp]


def model_angles(factors: Factors, *, side: Side | str, kept: int) -> AngleTable:
    """The angles (n, n, k) between all models' own `kept` leading singular directions of one side.

    A model of lower rank brings the directions it has; one without any (a zero layer, or left out) has no angles.
    Price: `n^2 k^2 (side + k)` multiply-adds. What is stored in float32 is made orthonormal in float64 first.
    """
    basis, k = factors.basis(side)[:, :, :kept], min(kept, factors.kept)
    ranks = np.where(factors.usable, np.minimum(factors.rank(), k), 0)
    whiten = _whitening(basis, ranks)
    floors = factor_floors(factors, ranks)
    radians = np.full((factors.n, factors.n, k), np.nan, dtype=np.float32)
    for rows, columns in _blocks(factors.n, k * basis.shape[1]):
        left = np.matmul(basis[rows].astype(np.float64), whiten[rows])
        right = np.matmul(basis[columns].astype(np.float64), whiten[columns])
        cosines = np.einsum("isk,jsl->ijkl", left, right, optimize=True)
        counts = np.minimum.outer(ranks[rows], ranks[columns])
        floor = np.maximum.outer(floors[rows], floors[columns])
        block = pair_radians(cosines, counts, floor=floor[:, :, None])
        radians[rows, columns] = block
        radians[columns, rows] = block.swapaxes(0, 1)
    return AngleTable(
        what="models",
        labels=factors.labels,
        radians=radians,
        kept=ranks,
        sizes=np.ones(factors.n, dtype=np.intp),
        chance=chance_overlap(ranks, np.full(factors.n, basis.shape[1])),
        dimension=basis.shape[1],
        asked=kept,
        floor=float(floors.max()),
        notes=clipped(ranks, kept, "models have fewer directions of their own"),
    )


def side_table(grams: Sequence[Gram], *, kept: int, what: str = "layers", labels: Sequence[str] = ()) -> AngleTable:
    """The angles between the leading directions of several side Grams: of layers, or of groups of models.

    `labels` are the layers' short names unless given. Sides of another width have no angles between them.

    Raises:
        LayerError: fewer than two, or a Gram of the models axis, or of another side than the others.
    """
    axes = {gram.axis for gram in grams}
    if len(axes) != 1 or Axis.MODELS in axes:
        raise LayerError(f"Directions of one side are compared, in or out; found {sorted(axes)}")
    if len(grams) < 2:
        raise LayerError(f"It takes at least two {what} to compare, {len(grams)} is chosen; choose more")
    spaces = [subspace(gram, kept=kept) for gram in grams]
    widths = np.array([space.dimension for space in spaces])
    counts = np.array([space.k for space in spaces])
    radians = np.full((len(grams), len(grams), kept), np.nan, dtype=np.float32)
    for i, j in zip(*np.tril_indices(len(grams)), strict=True):
        if widths[i] == widths[j]:
            found = _pair(spaces[i], spaces[j])
            radians[i, j, : found.size] = radians[j, i, : found.size] = found
    other = ("layers of different width have no angles between them",) if len(set(widths.tolist())) > 1 else ()
    return AngleTable(
        what=what,
        labels=tuple(labels) or tuple(gram.layer.short for gram in grams),
        radians=radians,
        kept=counts,
        sizes=np.array([int(gram.usable.sum()) for gram in grams]),
        chance=chance_overlap(counts, widths),
        dimension=int(widths.max()),
        asked=kept,
        floor=max(angle_floor(space) for space in spaces),
        notes=other + clipped(counts, kept, f"{what} have fewer directions"),
    )


def _pair(first: Subspace, second: Subspace) -> NDArray[np.float32]:
    """The angles (k,) of two bases of one side, k the smaller number of directions."""
    counts = np.array([[min(first.k, second.k)]])
    if not counts[0, 0]:
        return np.empty(0, dtype=np.float32)
    floor = max(angle_floor(first), angle_floor(second))
    return pair_radians((first.basis.T @ second.basis)[None, None], counts, floor=floor)[0, 0, : counts[0, 0]]


def chance_level(table: AngleTable) -> ChanceLevel:
    """What two random subspaces show, of the sizes and in the space of the table's usual pair.

    The usual pair is the one whose chance is the median of all pairs that can be compared.
    """
    i, j = np.triu_indices(table.g, 1)
    known = np.flatnonzero(~np.isnan(table.chance[i, j]))
    if not known.size:
        return ChanceLevel(*[float("nan")] * 5)
    usual = known[np.argsort(table.chance[i, j][known], kind="stable")[known.size // 2]]
    k, other = sorted((int(table.kept[i[usual]]), int(table.kept[j[usual]])))
    return level_of(k, other, max(round(other / table.chance[i[usual], j[usual]]), 1))


def pair_radians(cosines: Floats, counts: Indices, *, floor: float | Floats) -> NDArray[np.float32]:
    """Angles (i, j, k) ascending from blocks (i, j, k, k) of inner products, NaN beyond `counts` (i, j)."""
    squares = np.linalg.eigvalsh(cosines.swapaxes(-1, -2) @ cosines)[..., ::-1]
    radians = np.arccos(np.sqrt(np.clip(squares, 0.0, 1.0)))
    radians = np.where(radians < floor, 0.0, radians)
    there = np.arange(radians.shape[-1]) < counts[..., None]
    return np.where(there, radians, np.nan).astype(np.float32)


def _whitening(basis: NDArray[np.float32], ranks: Indices) -> Floats:
    """Matrices (n, k, k) that make each model's stored columns orthonormal; columns beyond its rank become zero."""
    n, _, k = basis.shape
    whiten = np.zeros((n, k, k))
    for index, rank in enumerate(ranks):
        if rank:
            columns = basis[index, :, :rank].astype(np.float64)
            root = np.linalg.cholesky(columns.T @ columns)
            whiten[index, :rank, :rank] = np.linalg.inv(root).T
    return whiten


def _blocks(n: int, entries: int) -> Iterator[tuple[slice, slice]]:
    """Pairs of ranges of models that cover each unordered pair, of at most about `BLOCK_BYTES` each."""
    step = max(1, min(n, BLOCK_BYTES // (8 * max(entries, 1)), 64))
    starts = range(0, n, step)
    for i in starts:
        for j in starts[: i // step + 1]:
            yield slice(i, min(i + step, n)), slice(j, min(j + step, n))


def chance_overlap(counts: Indices, widths: Indices) -> Floats:
    """The overlap (g, g) of two random subspaces, `max(k, k') / D`; NaN where one is empty or the spaces differ."""
    same = np.equal.outer(widths, widths) & (np.minimum.outer(counts, counts) > 0)
    return np.where(same, np.minimum(np.maximum.outer(counts, counts) / widths, 1.0), np.nan)


def clipped(counts: Indices, kept: int, why: str) -> tuple[str, ...]:
    """The note that some of what is compared has fewer directions than were asked for, if so."""
    short = int((counts < kept).sum())
    return (f"{kept} directions were asked for; {short} of {counts.size} {why}",) if short else ()
