"""Inner products of models in random directions, drawn without any weights, whatever `d` is.

A draw is an (s, s) matrix of inner products; draws come in batches (b, s, s). `groups` (s,) numbers groups from 0 whose
own means are the centres; all zeros is one centre, the mean.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from uws_core.analysis.steps import step
from uws_core.nouns.arrays import Floats

Indices = NDArray[np.intp]

# Draws are made some at a time so that a batch of matrices stays near 16 MB, whatever n is.
BATCH_ENTRIES = 2_000_000
# Three corrections bring the drawn distances to within 1e-3 (20 models, d = 1000); what is left then are models weaker
# than the noise of the mean, which no correction reaches.
MATCHING_STEPS = 3


def batches(draws: int, side: int) -> Iterator[int]:
    """The numbers of draws to make at a time."""
    most = max(1, BATCH_ENTRIES // side**2)
    for start in range(0, draws, most):
        step(start, draws, "draw")
        yield min(most, draws - start)


def wishart(rng: np.random.Generator, *, count: int, side: int, dof: float) -> Floats:
    """`count` real Wishart matrices (count, side, side) with `dof` degrees of freedom, which need not be whole.

    With `dof < side` the matrix is singular: it is made from `dof` (rounded) normal columns instead.

    Source: Bartlett 1933.
    """
    if dof < side:
        columns = rng.standard_normal((count, side, max(1, round(dof))))
        return columns @ np.swapaxes(columns, 1, 2)
    triangle = np.tril(rng.standard_normal((count, side, side)), -1)
    diagonal = np.arange(side)
    triangle[:, diagonal, diagonal] = np.sqrt(rng.chisquare(dof - diagonal, size=(count, side)))
    return triangle @ np.swapaxes(triangle, 1, 2)


def wishart_eigenvalues(rng: np.random.Generator, *, count: int, side: int, dof: float) -> Floats:
    """The eigenvalues (count, side), descending, of Wishart matrices, from tridiagonal ones with the same eigenvalues.

    Price: `side^2` a draw where a full matrix costs `side^3`. With `dof < side` all but `dof` (rounded) are 0.

    Source: Dumitriu and Edelman 2002.
    """
    # Takes a third of a second to import, which the first figure need not wait for.
    from scipy.linalg import eigvalsh_tridiagonal

    if dof < side:
        few = max(1, round(dof))
        return np.pad(wishart_eigenvalues(rng, count=count, side=few, dof=float(side)), ((0, 0), (0, side - few)))
    along = np.sqrt(rng.chisquare(dof - np.arange(side), size=(count, side)))
    below = np.sqrt(rng.chisquare(np.arange(side - 1, 0, -1), size=(count, side - 1)))
    diagonal = along**2
    diagonal[:, 1:] += below**2
    off = along[:, :-1] * below
    # The square roots' free QL iteration (sterf) is the fastest where no vectors are wanted.
    found = [eigvalsh_tridiagonal(d, e, lapack_driver="sterf") for d, e in zip(diagonal, off, strict=True)]
    return np.maximum(np.array(found)[:, ::-1], 0.0)


def noise_norms(squares: Floats) -> Floats:
    """The norms (s,) that independent models had before their own mean was taken away, from squared distances to it.

    Centring mixes strengths: `E|W_i - mean|^2 = D_i^2 (1 - 2/s) + sum(D^2) / s^2`. Without undoing that, a collection
    of unequal noise would be compared with more even noise than it is.
    """
    s = squares.size
    if s == 1:
        return np.zeros(1)
    total = float(squares.sum()) * s / (s - 1)
    if s == 2:
        return np.full(2, np.sqrt(total / 2))
    own = np.maximum((squares - total / s**2) / (1 - 2 / s), 0.0)
    return np.asarray(np.sqrt(own * total / own.sum())) if own.sum() > 0 else np.zeros(s)


def as_strong(noise: Floats, squares: Floats, groups: Indices) -> Floats:
    """Draws whose models lie exactly as far from their centres as the observed ones: squared distances `squares` (s,).

    Taking the mean away changes each draw's distances by chance, and the band would be too wide by that much where a
    few models are strong; so the strengths are corrected until the distances agree.
    """
    start = np.zeros(squares.size)
    for group in range(int(groups.max(initial=-1)) + 1):
        start[groups == group] = noise_norms(squares[groups == group]) ** 2
    aim = np.broadcast_to(start, noise.shape[:2])
    for _ in range(MATCHING_STEPS):
        away = np.einsum("bii->bi", centred(strong(noise, np.sqrt(aim)), groups))
        # A model that is its group's only one lies at its centre, however strong it is.
        aim = np.where(start > 0, np.maximum(aim + squares - away, 0.0), 0.0)
    return strong(noise, np.sqrt(aim))


def strong(noise: Floats, norms: Floats) -> Floats:
    """The inner products of vectors of exactly these norms, (s,) or one row a draw, in the directions of `noise`."""
    scale = norms / np.sqrt(np.einsum("bii->bi", noise))
    return np.asarray(noise * scale[:, :, None] * scale[:, None, :])


def centred(noise: Floats, groups: Indices) -> Floats:
    """Inner products (b, s, s) about the means of the groups."""
    if not groups.any():
        toward = noise.mean(axis=1)
        return np.asarray(noise - toward[:, :, None] - toward[:, None, :] + toward.mean(axis=1)[:, None, None])
    member = np.eye(int(groups.max()) + 1)[groups]
    toward = (noise @ (member / member.sum(axis=0)))[:, :, groups]
    between = np.swapaxes(toward, 1, 2) @ (member / member.sum(axis=0))
    return np.asarray(noise - toward - np.swapaxes(toward, 1, 2) + between[:, :, groups])
