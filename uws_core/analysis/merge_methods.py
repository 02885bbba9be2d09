"""The coefficients of merges that combine models, layer by layer, from inner products alone.

Written for the published formulas; where tools differ, `whole` says on what a rule works: on whole weights, as
mergekit's SLERP and Karcher do, or on updates about the base.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from uws_core.analysis.merge_preview import combined
from uws_core.errors import UwsError
from uws_core.nouns.arrays import Floats
from uws_core.nouns.merge_preview import MergedUpdate, MergeGrams
from uws_core.nouns.merging import METHODS, Convention, MergeMethod, MergeRecipe, Need

# Nearer than this two vectors are interpolated linearly, as mergekit's SLERP does.
PARALLEL = 0.9995
# Steps and tolerance of the Karcher mean, mergekit's.
KARCHER_STEPS, KARCHER_TOLERANCE = 10, 1e-5
# Unit vectors with a weighted mean this short have no mean direction.
_OPPOSED = 1e-8


def combine(grams: MergeGrams, recipe: MergeRecipe) -> MergedUpdate:
    """The merge of a recipe at scale 1, whatever the recipe's own scale; see `possible` for the methods.

    Raises:
        UwsError: a method that looks at entries or factors, one that needs a base that is not known, or an option out
            of range.
    """
    rule = _RULES.get(recipe.method)
    if rule is None:
        raise UwsError(f"{recipe.method} looks at entries; these combine models: {', '.join(_RULES)}")
    if recipe.method in NEED_BASE and not grams.has_base:
        raise UwsError(f"{recipe.method} starts from the base of the models, and none is known; name the base")
    return rule(grams, recipe.checked(grams.s))


def possible(grams: MergeGrams) -> tuple[MergeMethod, ...]:
    """The methods that combine models and can take these members."""
    return tuple(
        method
        for method in _RULES
        if (grams.has_base or method not in NEED_BASE) and grams.s <= (METHODS[method].most_members or grams.s)
    )


def on_whole_weights(recipe: MergeRecipe) -> bool:
    """Whether the rule works on whole weights instead of updates: mergekit's SLERP and Karcher."""
    return recipe.convention is Convention.MERGEKIT and recipe.method in (MergeMethod.SLERP, MergeMethod.KARCHER)


def _share(grams: MergeGrams, recipe: MergeRecipe) -> Floats:
    weights = recipe.weight_of(grams.s)
    return np.asarray(weights / weights.sum())


def _every(grams: MergeGrams, coefficients: Floats) -> Floats:
    return np.ascontiguousarray(np.broadcast_to(coefficients, (len(grams.layers), grams.s)))


def _mean(grams: MergeGrams, recipe: MergeRecipe) -> MergedUpdate:
    return combined(grams, recipe.method, _every(grams, np.full(grams.s, 1 / grams.s)))


def _weighted(grams: MergeGrams, recipe: MergeRecipe) -> MergedUpdate:
    return combined(grams, recipe.method, _every(grams, _share(grams, recipe)))


def _task_arithmetic(grams: MergeGrams, recipe: MergeRecipe) -> MergedUpdate:
    """`base + sum_i w_i tau_i`. Source: Ilharco et al. 2022, arXiv 2212.04089."""
    return combined(grams, recipe.method, _every(grams, recipe.weight_of(grams.s)))


def _subspace(grams: MergeGrams, recipe: MergeRecipe) -> MergedUpdate:
    """The weighted mean projected on the `rank` leading directions of the updates about the base (about zero).

    About the mean of the members it is the mean for every rank, because centred coefficients sum to 0.
    Source: arXiv 2512.05117, section on merging.
    """
    rank = min(recipe.rank or grams.s, grams.s)
    vectors = grams.leading[1][:, :, :rank]
    projected = vectors @ (np.swapaxes(vectors, 1, 2) @ _share(grams, recipe)[:, None])
    note = f"the mean in the {rank} leading directions; about the members' own mean it is the mean at every rank"
    return combined(grams, recipe.method, projected[:, :, 0], note=note)


def _model_stock(grams: MergeGrams, recipe: MergeRecipe) -> MergedUpdate:
    """`t mean + (1 - t) base`, `t = n c / (1 + (n - 1) c)`, c the mean cosine of pairs of updates, each layer its own.

    Source: Jang et al. 2024, arXiv 2403.19522; for more than two members the mean of the pairs as mergekit has it.
    """
    n, norms = grams.s, np.sqrt(grams.norm2)
    scale = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
    total = np.einsum("li,lij,lj->l", scale, grams.updates, scale, optimize=True)
    c = (total - np.count_nonzero(scale, axis=1)) / (n * (n - 1))
    below = 1 + (n - 1) * c
    t = np.divide(n * c, below, out=np.zeros_like(c), where=np.abs(below) > 1e-9)
    note = f"t between {t.min():.2g} and {t.max():.2g} of the mean, by layer"
    return combined(grams, recipe.method, np.repeat(t[:, None] / n, n, axis=1), note=note)


def _slerp(grams: MergeGrams, recipe: MergeRecipe) -> MergedUpdate:
    """Two members along the arc between them, at the share t of it; linear where nearly parallel.

    Source: Shoemake 1985.
    """
    products, t = _points(grams, recipe), recipe.t
    cosine = np.clip(_cosines(products)[:, 0, 1], -1.0, 1.0)
    theta = np.arccos(cosine)
    linear = np.abs(cosine) > PARALLEL
    sine = np.where(linear, 1.0, np.sin(theta))
    first = np.where(linear, 1 - t, np.sin((1 - t) * theta) / sine)
    second = np.where(linear, t, np.sin(t * theta) / sine)
    return _of_points(grams, np.stack([first, second], axis=1), recipe)


def _multislerp(grams: MergeGrams, recipe: MergeRecipe) -> MergedUpdate:
    """The normalised weighted mean of the unit vectors, times the weighted mean norm.

    The tangent step of the published rule starts at that mean, where the weighted tangents sum to 0: it moves nothing.
    Source: mergekit's description of `multislerp`.
    """
    products, share = _points(grams, recipe), _share(grams, recipe)
    units, norms = _cosines(products), _norms(products)
    length = _length(units, _every(grams, share))
    moved = norms.any(axis=1)
    if (opposed := moved & (length < _OPPOSED)).any():
        layer = grams.layers[int(np.flatnonzero(opposed)[0])].short
        raise UwsError(f"In {layer} the weighted updates cancel, so that Multi-SLERP has no direction; change a weight")
    start = share / np.where(moved, length, 1.0)[:, None]
    return _of_points(grams, _from_units(start, norms, np.sum(share * norms, axis=1)), recipe)


def _karcher(grams: MergeGrams, recipe: MergeRecipe) -> MergedUpdate:
    """The Karcher mean of the unit vectors on the sphere, times the weighted mean norm.

    Iterates in coefficients: every point on the way is a combination of the unit vectors.
    Source: Karcher 1977; steps and tolerance as in mergekit, which works on whole weights.
    """
    products, share = _points(grams, recipe), _share(grams, recipe)
    units, norms = _cosines(products), _norms(products)
    point = _every(grams, share)
    length = _length(units, point)[:, None]
    first = np.zeros(grams.s)
    first[0] = 1.0
    point = np.where(length < KARCHER_TOLERANCE, first, point / np.maximum(length, KARCHER_TOLERANCE))
    moving = np.ones(len(grams.layers), dtype=np.bool_)
    for _ in range(KARCHER_STEPS):
        dots = np.clip(np.matmul(units, point[:, :, None])[:, :, 0], -1.0, 1.0)
        theta = np.arccos(dots)
        pull = share * np.divide(theta, np.sin(theta), out=np.zeros_like(theta), where=np.sin(theta) > 1e-12)
        pull = np.where(theta < KARCHER_TOLERANCE, 0.0, pull)
        tangent = pull - np.sum(pull * dots, axis=1, keepdims=True) * point
        step = _length(units, tangent)[:, None]
        moving &= step[:, 0] >= KARCHER_TOLERANCE
        if not moving.any():
            break
        moved = np.cos(step) * point + np.sinc(step / np.pi) * tangent
        moved = moved / np.maximum(_length(units, moved), 1e-12)[:, None]
        point = np.where(moving[:, None], moved, point)
    return _of_points(grams, _from_units(point, norms, np.sum(share * norms, axis=1)), recipe)


def _points(grams: MergeGrams, recipe: MergeRecipe) -> Floats:
    return grams.whole if on_whole_weights(recipe) else grams.updates


def _of_points(grams: MergeGrams, coefficients: Floats, recipe: MergeRecipe) -> MergedUpdate:
    """A combination of whole weights is one of updates, and of the base beyond a sum of 1."""
    if not on_whole_weights(recipe) or not grams.has_base:
        return combined(grams, recipe.method, coefficients)
    return combined(grams, recipe.method, coefficients, coefficients.sum(axis=1) - 1, note="on whole weights")


def _norms(products: Floats) -> Floats:
    return np.asarray(np.sqrt(np.maximum(np.einsum("lii->li", products), 0.0)))


def _cosines(products: Floats) -> Floats:
    """Cosines (L, s, s); 0 for a vector of length 0."""
    norms = _norms(products)
    scale = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
    return np.asarray(products * scale[:, :, None] * scale[:, None, :])


def _length(units: Floats, coefficients: Floats) -> Floats:
    """The length (L,) of a combination of unit vectors."""
    image = np.matmul(units, coefficients[:, :, None])[:, :, 0]
    return np.asarray(np.sqrt(np.maximum(np.sum(image * coefficients, axis=1), 0.0)))


def _from_units(coefficients: Floats, norms: Floats, scale: Floats) -> Floats:
    """Coefficients of the vectors from those of their unit vectors, at the length `scale` (L,)."""
    return np.asarray(np.divide(coefficients, norms, out=np.zeros_like(norms), where=norms > 0) * scale[:, None])


_RULES: Mapping[MergeMethod, Callable[[MergeGrams, MergeRecipe], MergedUpdate]] = {
    MergeMethod.MEAN: _mean,
    MergeMethod.LINEAR: _weighted,
    MergeMethod.TASK_ARITHMETIC: _task_arithmetic,
    MergeMethod.SLERP: _slerp,
    MergeMethod.MULTI_SLERP: _multislerp,
    MergeMethod.KARCHER: _karcher,
    MergeMethod.MODEL_STOCK: _model_stock,
    MergeMethod.SUBSPACE: _subspace,
}
NEED_BASE = frozenset(method for method, facts in METHODS.items() if facts.need is Need.GRAM and facts.needs_base)
