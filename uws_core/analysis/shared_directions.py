"""One count of the directions that models share: whitened, about their common point, one after another.

The models' own noise strengths are divided out, so that one strong model does not hide what the others share; the
common point is the mean weighted by precision, so that it does not carry the strong model into all others; and every
direction is tested against noise from which the same directions were taken away.

Two kinds of noise: `strength` draws random directions (a Wishart matrix of d degrees of freedom); `profile` flips the
sign of every model's part in every block of rows (or columns), which keeps norms, scales of rows, heavy tails and
sparsity, and destroys agreement between blocks. Source: Hong, Sheng and Dobriban 2020.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.linalg import eigh
from scipy.special import gammaincc

from uws_core.analysis.caveats import common_sign
from uws_core.analysis.cores import one_core_each
from uws_core.analysis.noise import Indices, batches, wishart
from uws_core.errors import LayerError
from uws_core.nouns.arrays import Floats
from uws_core.nouns.chance import LEAST_MODELS, LEVEL, SharedDirections
from uws_core.nouns.gram import Axis, Gram, Members

# Draws (b, s, s) of noise like a residual: given the whitened residual's blocks or nothing, a generator and a count.
Draw = Callable[[Floats, np.random.Generator, int], Floats]

_STEPS = 20
_MATCHING = 8
# A direction above every one of so many draws is found; the full number is drawn only where one of them reaches it.
_FIRST_DRAWS = 40
# Draws of the count, so that every page, the report and the command line give one number for a layer.
COUNT_DRAWS = 200
# Fewer blocks have too few ways to be flipped.
LEAST_BLOCKS = 8
# The Tracy-Widom law of real matrices as a shifted gamma law, to 1 % in its tail. Source: Chiani 2014.
_SHAPE, _SCALE, _SHIFT, _MEAN, _DEVIATION = 46.446, 0.186054, 9.84801, -1.2065, 1.268
_SMALL_SIDE = 64
# A common profile beats equal noise by far: 5 % would say so of much plain noise.
BEYOND_LEVEL = 0.01


def shared_directions(
    gram: Gram,
    *,
    kind: str = "profile",
    draws: int = COUNT_DRAWS,
    seed: int = 0,
    members: Members = None,
    about: str = "mean",
    level: float = LEVEL,
) -> SharedDirections:
    """Returns how many directions the chosen models share beyond chance, each with its p.

    With `profile` rows and columns are flipped in turn and the weaker count is returned; where it is none, one test
    against `strength` says whether equal noise is beaten. Layers without stored blocks fall back to `strength`.
    `about` the base or zero counts a common shift away from it too; about the mean or a model only differences between
    models count. Norms do not matter: each model is measured in its own noise.
    Price: `count * draws * blocks * s^2`.

    Raises:
        ValueError: an unknown kind, or fewer than two draws.
        LayerError: a side axis, or an unknown centre.
    """
    if kind not in ("profile", "strength", "gaussian") or draws < 2:
        raise ValueError(f"The null is profile, strength or gaussian with at least 2 draws; found {kind!r}, {draws}")
    if gram.axis is not Axis.MODELS:
        raise LayerError(f"{gram.layer.name}: shared directions are counted on the models axis, not on {gram.axis}")
    rows = gram.chosen(members)
    center = "mean" if gram.pivot(about) is not None else about
    inner = gram.about(center, members=rows)
    alive = np.diag(inner) > 10 * gram.rounding(center, members=rows)
    rows = rows[alive]
    if rows.size < LEAST_MODELS:
        reason = f"{rows.size} models differ here; a count needs at least {LEAST_MODELS}"
        return _nothing(rows.size, kind=kind, draws=draws, seed=seed, reason=reason)
    inner, models = gram.about(center, members=rows), tuple(int(row) for row in rows)
    test = _Test(inner, anchored=center != "mean", draws=draws, seed=seed, level=level)
    # Products of small matrices on several cores cost more in waiting than they bring: twenty times on a busy machine.
    with one_core_each():
        views = _views(gram, center, rows) if kind == "profile" else {}
        if not views:
            found = test.run(lambda residual: _wishart_draws(gram.effective_d), kind="strength", view="")
            return replace(found, rows=models)
        results = [
            test.run(lambda residual, blocks=blocks: _flips(residual(blocks)), kind="profile", view=view)
            for view, blocks in views.items()
        ]
        weaker = min(results, key=lambda result: (result.count, -float(result.p[-1])))
        equal = False
        if not weaker.count:
            draw, most = _wishart_draws(gram.effective_d), max(draws, COUNT_DRAWS)
            strict = _Test(inner, anchored=center != "mean", draws=most, seed=seed, level=BEYOND_LEVEL)
            equal = strict.run(lambda residual: draw, kind="strength", view="", most=1).count > 0
    by_view = tuple((result.view, result.count) for result in results)
    doubt = common_sign(gram, rows) if weaker.count else ""
    return replace(weaker, by_view=by_view, beyond_equal_noise=equal, rows=models, doubt=doubt)


def flipped(blocks: Floats, rng: np.random.Generator, count: int) -> Floats:
    """Returns draws (count, s, s) of the blocks' sum (B, s, s) with every model's sign flipped in every block."""
    stack: Floats = blocks.astype(np.float32) if blocks.shape[1] > _SMALL_SIDE else blocks
    signs: Floats = (rng.integers(0, 2, size=(count, *blocks.shape[:2]), dtype=np.int8) * 2 - 1).astype(stack.dtype)
    # One draw at a time stays in the cache: twenty times faster than all at once.
    return np.stack([np.einsum("bi,bij,bj->ij", sign, stack, sign) for sign in signs])


def noise_strengths(inner: Floats) -> Floats:
    """Returns each model's squared noise strength (s,) about the unknown common point, from inner products (s, s).

    The distances to the weighted mean satisfy `t_i = D_i^2 (1 - 2 w_i) + sum_j w_j^2 D_j^2`; weights are proportional
    to 1 / D^2, none above max(2/s, 1/4) or 0.45, so that one quiet model does not become the common point by itself.
    """
    s = len(inner)
    weights = np.full(s, 1 / s)
    strengths = np.ones(s)
    for _ in range(_STEPS):
        toward = inner @ weights
        away = np.diag(inner) - 2 * toward + weights @ toward
        rest = 1 - 2 * weights
        common = float((weights**2 * away / rest).sum() / (1 + (weights**2 / rest).sum()))
        strengths = (away - common) / rest
        strengths = np.maximum(strengths, 1e-3 * max(float(strengths.mean()), 1e-300))
        weights = _capped(1 / strengths, _most_weight(s))
    return np.asarray(strengths)


def about_common_points(inner: Floats, groups: Indices | None = None) -> Floats:
    """Returns the matrix (s, s) that takes each group's common point from its models: rows sum to 0 within a group.

    The common point is the mean weighted by precision: the plain mean carries a strong model's noise into all others,
    where flipped signs would not agree with it. `inner` (s, s) is about any point that is the same for a group.
    """
    s = len(inner)
    labels = np.zeros(s, dtype=np.intp) if groups is None else groups
    turn = np.eye(s)
    for label in range(int(labels.max(initial=-1)) + 1):
        rows = np.flatnonzero(labels == label)
        weights = np.full(rows.size, 1 / rows.size)
        if rows.size > 2:
            strengths2 = noise_strengths(inner[np.ix_(rows, rows)])
            weights = _capped(1 / strengths2, _most_weight(rows.size))
        turn[np.ix_(rows, rows)] -= weights[None, :]
    return np.asarray(turn)


def _most_weight(s: int) -> float:
    """The largest weight of one model; at one half the distances to the mean no longer tell its strength."""
    return float(min(max(2 / s, 0.25), 0.45))


def _capped(weights: Floats, most: float) -> Floats:
    """Weights with sum 1, none above `most`; what is cut goes to the others in proportion."""
    weights = weights / weights.sum()
    for _ in range(len(weights)):
        over = weights > most
        if not over.any():
            break
        free = ~over & (weights < most)
        spare = 1 - most * over.sum() - weights[~over & ~free].sum()
        weights = np.where(over, most, weights)
        weights[free] *= spare / weights[free].sum()
    return np.asarray(weights)


class _Residual:
    """What is left of whitened models without `k` directions: `Q D^-1 G_w D^-1 Q`, rows at the norms of equal noise."""

    def __init__(self, inner: Floats, strengths2: Floats, k: int, *, anchored: bool) -> None:
        scale = np.sqrt(strengths2)
        for _ in range(_MATCHING):
            self._whiten(inner, scale, k, anchored)
            now = np.diag(self.projected(self.whitened))
            free = self.norms2 > 0.05
            ratio = np.ones(len(inner))
            ratio[free] = now[free] / self.norms2[free]
            ratio /= ratio[free].mean() if free.any() else 1.0
            if np.abs(ratio - 1).max() < 1e-3:
                break
            scale = scale * np.sqrt(np.clip(ratio, 0.1, 10.0))
        self._whiten(inner, scale, k, anchored)
        self.scale = scale
        self.values = self.matched(self.projected(self.whitened))

    def _whiten(self, inner: Floats, scale: Floats, k: int, anchored: bool) -> None:
        s = len(inner)
        # Rows of models minus the common point, over the noise strength: diag(1 / scale) (I - 1 weights').
        self.weights = np.zeros(s) if anchored else scale**-2 / (scale**-2).sum()
        self.sizes = 1 / scale
        null = np.zeros((s, 0)) if anchored else (self.sizes / np.linalg.norm(self.sizes))[:, None]
        toward = inner @ self.weights
        about = inner - toward[:, None] - toward[None, :] + self.weights @ toward
        self.whitened = self.sizes[:, None] * about * self.sizes[None, :]
        self.vectors = _leading(self.whitened, k)
        self.basis = np.hstack([null, self.vectors])
        self.norms2 = np.maximum(1 - np.square(self.basis).sum(axis=1), 1e-12)
        self.rest = s - self.basis.shape[1]

    def matched(self, noise: Floats) -> Floats:
        """Rows of (..., s, s) scaled to the norms that equal noise has without the same directions."""
        now = np.maximum(np.einsum("...ii->...i", noise), 1e-300)
        size = np.sqrt(self.norms2 / now).astype(noise.dtype)
        return np.asarray(noise * size[..., :, None] * size[..., None, :])

    def projected(self, matrices: Floats) -> Floats:
        """`Q A Q` for symmetric A (..., s, s), `Q = I - B B'`, at the price of `s^2` times the columns of B."""
        basis = self.basis.astype(matrices.dtype)
        half = matrices - basis @ (basis.T @ matrices)
        return np.asarray(half - (half @ basis) @ basis.T)

    def blocks(self, blocks: Floats) -> Floats:
        """The blocks (B, s, s) of the same residual."""
        toward = blocks @ self.weights
        about = blocks - toward[:, :, None] - toward[:, None, :] + (toward @ self.weights)[:, None, None]
        return self.projected(about * (self.sizes[:, None] * self.sizes[None, :]))

    def statistics(self, noise: Floats) -> Floats:
        """The first share of what is left, times its directions, of each draw (b, s, s) of noise."""
        return first_shares(self.matched(self.projected(noise)), self.rest)

    @property
    def statistic(self) -> float:
        """The first share of what is left of the models, times its directions."""
        return float(first_shares(self.values[None], self.rest)[0])


def _leading(matrix: Floats, k: int) -> Floats:
    """The eigenvectors (s, k) of the `k` largest eigenvalues, the largest first."""
    s = len(matrix)
    if k == 0:
        return np.zeros((s, 0))
    return np.asarray(eigh(matrix, subset_by_index=(s - k, s - 1))[1][:, ::-1])


def first_shares(matrices: Floats, rest: int) -> Floats:
    """Returns the largest eigenvalue over the mean of `rest` eigenvalues, for each matrix (b, s, s)."""
    totals = np.einsum("bii->b", matrices) / rest
    small = matrices.shape[1] <= _SMALL_SIDE
    largest = np.linalg.eigvalsh(matrices)[:, -1] if small else largest_eigenvalues(matrices)
    return np.asarray(largest / totals)


def largest_eigenvalues(matrices: Floats, *, steps: int = 48) -> Floats:
    """Returns the largest eigenvalue (b,) of positive matrices (b, s, s) by Lanczos with full reorthogonalisation.

    48 steps give it to 1e-3 of the bulk's width for 500 models; a full decomposition costs ten times as much.
    """
    count, side, _ = matrices.shape
    steps = min(steps, side)
    rng = np.random.default_rng(0)
    vector = rng.standard_normal((count, side)).astype(matrices.dtype)
    vector /= np.linalg.norm(vector, axis=1, keepdims=True)
    basis = np.zeros((count, steps, side), dtype=matrices.dtype)
    along, below = np.zeros((count, steps)), np.zeros((count, steps))
    for step in range(steps):
        basis[:, step] = vector
        product = np.matmul(matrices, vector[:, :, None])[:, :, 0]
        along[:, step] = np.einsum("bi,bi->b", product, vector)
        known = basis[:, : step + 1]
        for _ in range(2):
            product = product - np.einsum("bk,bki->bi", np.einsum("bki,bi->bk", known, product), known)
        below[:, step] = np.linalg.norm(product, axis=1)
        vector = product / np.maximum(below[:, step], 1e-30)[:, None].astype(matrices.dtype)
    tridiagonal = np.zeros((count, steps, steps))
    index = np.arange(steps)
    tridiagonal[:, index, index] = along
    tridiagonal[:, index[1:], index[:-1]] = tridiagonal[:, index[:-1], index[1:]] = below[:, :-1]
    return np.asarray(np.linalg.eigvalsh(tridiagonal)[:, -1])


def tail_p(observed: float, samples: Floats) -> float:
    """Returns the upper tail of a Tracy-Widom law with the samples' mean and deviation."""
    spread = float(samples.std(ddof=1))
    if spread <= 0:
        return 1.0 if observed <= samples.mean() else 0.0
    z = (observed - float(samples.mean())) / spread
    return float(gammaincc(_SHAPE, max(_MEAN + _DEVIATION * z + _SHIFT, 0.0) / _SCALE))


class _Test:
    """The sequential test over one source of noise."""

    def __init__(self, inner: Floats, *, anchored: bool, draws: int, seed: int, level: float) -> None:
        self.inner, self.anchored, self.draws, self.seed, self.level = inner, anchored, draws, seed, level
        self.strengths2 = np.diag(inner).copy() if anchored else noise_strengths(inner)
        self.residuals: list[_Residual] = []

    def residual(self, k: int) -> _Residual:
        """What is left without `k` directions; rows and columns test the same."""
        while len(self.residuals) <= k:
            self.residuals.append(_Residual(self.inner, self.strengths2, len(self.residuals), anchored=self.anchored))
        return self.residuals[k]

    def run(self, noise: Callable[..., Draw], *, kind: str, view: str, most: int | None = None) -> SharedDirections:
        """Directions one after another, until the first that is not found, at most `most` or four less than models."""
        p, tail, z = list[float](), list[float](), list[float]()
        rng = np.random.default_rng(self.seed)
        found, most = 0, len(self.inner) - 4 if most is None else most
        while found < most:
            residual = self.residual(found)
            draw, observed = noise(residual.blocks), residual.statistic
            # All draws are made where one of the first reaches the observed, else the first only.
            samples = residual.statistics(draw(residual.values, rng, min(_FIRST_DRAWS, self.draws)))
            if (samples >= observed).any() or 1 / (1 + len(samples)) > self.level:
                rest = [
                    residual.statistics(draw(residual.values, rng, count))
                    for count in batches(self.draws - len(samples), len(residual.values))
                ]
                samples = np.concatenate([samples, *rest])
            hits = int((samples >= observed).sum())
            p.append((1 + hits) / (1 + len(samples)))
            tail.append(tail_p(observed, samples))
            spread = float(samples.std(ddof=1))
            z.append((observed - float(samples.mean())) / spread if spread > 0 else 0.0)
            if p[-1] > self.level:
                break
            found += 1
        residual = self.residual(found)
        return SharedDirections(
            count=found,
            p=np.array(p),
            tail=np.array(tail),
            z=np.array(z),
            loadings=residual.vectors.T,
            noise=residual.scale,
            kind=kind,
            view=view,
            draws=self.draws,
            seed=self.seed,
        )


def _wishart_draws(dof: float) -> Draw:
    return lambda values, rng, count: wishart(rng, count=count, side=len(values), dof=dof)


def _flips(blocks: Floats) -> Draw:
    return lambda values, rng, count: flipped(blocks, rng, count)


def _views(gram: Gram, center: str, rows: np.ndarray[tuple[int], np.dtype[np.intp]]) -> dict[str, Floats]:
    """The blocks (B, s, s) of rows and of columns about the centre, where there are enough of them."""
    if gram.blocks is None:
        return {}
    turned = gram.combinations(center, members=rows)
    views = {"rows": gram.blocks.about(turned), "columns": gram.blocks.about(turned, columns=True)}
    return {name: blocks for name, blocks in views.items() if len(blocks) >= LEAST_BLOCKS}


def _nothing(s: int, *, kind: str, draws: int, seed: int, reason: str) -> SharedDirections:
    empty = np.zeros(0)
    return SharedDirections(
        count=0,
        p=empty,
        tail=empty,
        z=empty,
        loadings=np.zeros((0, s)),
        noise=np.zeros(s),
        kind=kind,
        view="",
        draws=draws,
        seed=seed,
        reason=reason,
    )
