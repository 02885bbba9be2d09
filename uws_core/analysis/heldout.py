"""How well models that were held out are rebuilt by the subspace of the others: from the stored Gram alone.

For a held-out `h` and the others `S`: with `K = V diag(lambda) V^T` their Gram about their centre and `x` the inner
products of `W_h` with them, direction `j` captures `(V_j^T x)^2 / lambda_j` of `|W_h - centre|^2`. A running sum
gives all k at once.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add

import numpy as np
from numpy.typing import NDArray

from uws_core.analysis.cores import on_every_core
from uws_core.analysis.group_angles import grouped
from uws_core.analysis.leave_one_out import left_out_alone
from uws_core.analysis.residuals import Fit, check_own, notes_on, own_svd2, rebuilt, start2, toward_others, within
from uws_core.analysis.subspace import inner_products, leading
from uws_core.errors import LayerError, NotEnoughModels
from uws_core.nouns.angles import Factors
from uws_core.nouns.arrays import Floats
from uws_core.nouns.gram import RESOLVED, Axis, EntryStats, Gram, Members
from uws_core.nouns.heldout import UNSEEN_MODEL, HeldOut, UnseenModel

Indices = NDArray[np.intp]


def held_out(
    gram: Gram,
    *,
    groups: Sequence[Hashable],
    kept: int | Sequence[int],
    members: Members = None,
    about: str = "mean",
    reference: str = "mean",
    own: Factors | None = None,
) -> tuple[HeldOut, ...]:
    """The error of each chosen model when its whole group is held out, at each of `kept` directions.

    `groups` holds one label for each model of the Gram; a label a model is leave-one-out. The subspace of the
    others lies about `about` (their `mean`, `zero` or `base`), and errors are relative to `|W_h - c|^2` with `c`
    the `reference`, one of the same three. `own` (each model's factors in this layer about the reference, those of
    `per_model_svds` for the mean) adds the line of its own SVD at the same stored numbers. k above what the others can
    give is clipped, and noted. Price: one `s^3` eigen-decomposition a group; `s^2` a model where many are held out
    one by one.

    Raises:
        NotEnoughModels: another number of labels than models, or fewer than two groups among the chosen.
        LayerError: a side-axis Gram, a centre that is not known here, or factors of another layer or centre.
    """
    if gram.axis is not Axis.MODELS:
        raise LayerError(
            f"{gram.layer.name}: held-out errors on the {gram.axis} axis need the weights; use side_held_out"
        )
    check_own(own, gram.layer.name, reference)
    chosen = gram.chosen(members)
    folds = grouped(gram, groups, chosen)
    ks = np.atleast_1d(np.asarray(kept, dtype=np.intp))
    ask = _Ask(gram, inner_products(gram, about), ks, about, reference, own, chosen)
    spent = dict(
        zip(
            chosen.tolist(),
            rebuilt(ask.inner, chosen, chosen, ks, about=about, floor=gram.floor).residual2,
            strict=True,
        )
    )
    fits = _fits(ask, list(folds.values()))
    found: dict[int, HeldOut] = {}
    for label, fold, fit in zip(folds, folds.values(), fits, strict=True):
        found.update(_fold(ask, str(label), fold, fit, spent))
    return tuple(found[int(row)] for row in chosen)


def project(
    gram: Gram,
    unseen: UnseenModel,
    *,
    kept: int | Sequence[int],
    members: Members = None,
    about: str = "mean",
    reference: str = "mean",
    own: Factors | None = None,
) -> HeldOut:
    """The error of a model that is not in the collection, from the subspace of the chosen ones; see `held_out`.

    The in-sample curve is that of the chosen models and the unseen together.

    Raises:
        NotEnoughModels: nothing is chosen.
        LayerError: the unseen's row is of another layer or other models, or a centre is not known.
    """
    check_own(own, gram.layer.name, reference)
    wide = extended(gram, unseen)
    others, new = gram.chosen(members), np.array([gram.n], dtype=np.intp)
    if not others.size:
        raise NotEnoughModels(f"{gram.layer.name}: there is no subspace to project on, no usable model is chosen")
    ks = np.atleast_1d(np.asarray(kept, dtype=np.intp))
    everyone = np.concatenate([others, new])
    ask = _Ask(wide, inner_products(wide, about), ks, about, reference, own, everyone)
    spent = {gram.n: rebuilt(ask.inner, everyone, new, ks, about=about, floor=gram.floor).residual2[0]}
    return _fold(ask, UNSEEN_MODEL, new, _fits(ask, [new])[0], spent)[gram.n]


def extended(gram: Gram, unseen: UnseenModel) -> Gram:
    """The Gram with the unseen as its last row; all stays about the mean of the collection's own models.

    Raises:
        LayerError: the unseen's row is of another layer or other models.
    """
    if (unseen.layer,) != gram.layers or unseen.to_models.size != gram.n or unseen.model in gram.labels:
        raise LayerError(
            f"{unseen.model} in {unseen.layer.name} over {unseen.to_models.size} models is no new row for the "
            f"Gram of {gram.layer.name} over {gram.n}"
        )
    values = np.block([[gram.values, unseen.to_models[:, None]], [unseen.to_models[None], np.array([[unseen.norm2]])]])
    base = gram.base and replace(gram.base, to_models=np.append(gram.base.to_models, unseen.to_base))
    return replace(
        gram,
        labels=(*gram.labels, unseen.model),
        values=values,
        to_center=np.append(gram.to_center, unseen.to_center),
        base=base,
        entry_stats=EntryStats.of_norms(np.full(gram.n + 1, np.nan), gram.d),
        usable=np.append(gram.usable, True),
    )


def pooled(errors: Iterable[Sequence[HeldOut]]) -> tuple[HeldOut, ...]:
    """Each model's error over several layers, from one sequence of errors a layer: squares add.

    Models that some layer lacks are not in the result.

    Raises:
        NotEnoughModels: no layers, or no model that all of them have.
    """
    layers = [{one.model: one for one in layer} for layer in errors]
    shared = [model for model in layers[0] if all(model in layer for layer in layers)] if layers else []
    if not shared:
        raise NotEnoughModels(
            "Errors are pooled over at least one layer and one model that every layer has; none was found"
        )
    return tuple(reduce(add, (layer[model] for layer in layers)) for model in shared)


def combinations(
    gram: Gram, models: Sequence[int], others: Members, *, kept: Sequence[int], about: str = "mean"
) -> tuple[Floats, Floats]:
    """The weights (t, q, n) with which the others add up to the models at each k, and the centre's (t, q).

    About the mean the weights sum to 1 and the centre's is 0; about `zero` or `base` the centre takes what is
    missing to 1. `kept` 0 is the centre alone. The models themselves may be among the others.

    Raises:
        NotEnoughModels: no usable model among the others.
    """
    rows, targets = gram.chosen(others), np.asarray(models, dtype=np.intp)
    if not rows.size:
        raise NotEnoughModels(f"{gram.layer.name}: nothing to rebuild from, no other model is usable")
    inner = inner_products(gram, about)
    values, vectors, _ = leading(within(inner, rows, about), kept=rows.size, floor=gram.floor)
    amounts = (vectors.T @ toward_others(inner, rows, targets, about)) / values[:, None]
    weights = np.zeros((targets.size, len(kept), gram.n))
    for place, k in enumerate(kept):
        weights[:, place, rows] = (vectors[:, :k] @ amounts[:k]).T
    if about == "mean":
        weights[:, :, rows] += 1 / rows.size - weights[:, :, rows].mean(axis=2, keepdims=True)
        return weights, np.zeros(weights.shape[:2])
    return weights, 1 - weights.sum(axis=2)


def distances2(gram: Gram, rows: Indices, others: Indices, *, center: str) -> Floats:
    """Squared distances (t,) of the models `rows` to a centre: the `mean` of the `others`, `zero`, `base`, or a model.

    Raises:
        LayerError: `base` without a base that has this layer, or an unknown centre.
    """
    if center == "mean":
        return start2(gram.values, others, rows, "mean")
    return np.asarray(np.maximum(np.diag(gram.about(center, members=rows)), 0.0))


@dataclass(frozen=True)
class _Ask:
    """What was asked, with the inner products (n, n) about the common centre."""

    gram: Gram
    inner: Floats
    ks: Indices
    about: str
    reference: str
    own: Factors | None
    chosen: Indices


def _fits(ask: _Ask, folds: Sequence[Indices]) -> list[Fit]:
    """What the models outside each fold leave of those in it."""
    gram, floor = ask.gram, ask.gram.rounding(ask.about, members=ask.chosen)
    if len(folds) == ask.chosen.size:
        everyone = within(ask.inner, ask.chosen, ask.about)
        place = {int(row): index for index, row in enumerate(ask.chosen)}
        targets = np.array([place[int(fold[0])] for fold in folds], dtype=np.intp)
        alone = left_out_alone(everyone, targets, ask.ks, about=ask.about, floor=floor)
        if alone is not None:
            return alone

    def fit(fold: Indices) -> Fit:
        others = np.setdiff1d(ask.chosen, fold)
        rounding = gram.rounding(ask.about, members=others)
        return rebuilt(ask.inner, others, fold, ask.ks, about=ask.about, floor=rounding)

    return list(on_every_core(fit, folds, what="held-out group"))


def _fold(ask: _Ask, label: str, fold: Indices, fit: Fit, spent: dict[int, Floats]) -> dict[int, HeldOut]:
    """The errors of one held-out group, by row."""
    gram, ks, others = ask.gram, ask.ks, np.setdiff1d(ask.chosen, fold)
    floor = gram.rounding(ask.reference, members=ask.chosen)
    mean2 = fit.start2 if ask.about == "mean" else distances2(gram, fold, others, center="mean")
    reference2 = mean2 if ask.reference == "mean" else distances2(gram, fold, others, center=ask.reference)
    unknown = np.full(ks.size, np.nan)
    return {
        int(row): HeldOut(
            model=gram.labels[row],
            group=label,
            layers=tuple(layer.name for layer in gram.layers),
            axis=gram.axis,
            about=ask.about,
            reference=ask.reference,
            kept=ks,
            reference2=float(reference2[place]),
            mean2=float(mean2[place]),
            subspace2=fit.residual2[place],
            random2=fit.start2[place] * np.maximum(1 - ks / gram.d, 0.0),
            in_sample2=spent[int(row)],
            own_svd2=own_svd2(ask.own, gram.labels[row], ks, n=ask.chosen.size, axis=gram.axis) if ask.own else unknown,
            trained_on=others.size,
            ceiling=fit.ceiling,
            floor2=floor,
            notes=notes_on(ks, fit.ceiling, others.size, zero=bool(reference2[place] <= RESOLVED * floor)),
        )
        for place, row in enumerate(fold)
    }
