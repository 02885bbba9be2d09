"""The spectrum of a collection: how its variance spreads over directions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from uws_core.errors import LayerError, NotEnoughModels
from uws_core.nouns.arrays import Bools, Floats
from uws_core.nouns.gram import RESOLVED, Axis, Gram, Members
from uws_core.nouns.models import LeftOut
from uws_core.nouns.spectrum import PooledSpectrum, Spectrum


def spectrum(gram: Gram, *, members: Members = None, about: str = "mean", unit: bool = False) -> Spectrum:
    """The eigenvalues of the Gram of the `s` chosen models about a centre, descending and not divided by `s`.

    `about` is `mean` (of the chosen), `zero`, `base`, or a model's label. `unit` scales each centred model to norm 1
    first; models of zero norm have no direction then and are left out by name. A side-axis Gram is already the sum over
    its models about its own centre: there `about` and `unit` only record how it was made. Price: `s^3`.

    Raises:
        NotEnoughModels: fewer than two usable models are chosen (or remain, with `unit`).
        LayerError: an unknown centre, or `members` of a side-axis Gram.

    Source: principal components from inner products, Jolliffe 2002, section 3.5.
    """
    if gram.axis is not Axis.MODELS:
        return _side_spectrum(gram, members=members, about=about, unit=unit)
    inner, names = inner_products(gram, members=members, about=about)
    rows = gram.chosen(members)
    floor = gram.rounding(about, members=rows)
    left_out: tuple[LeftOut, ...] = ()
    if unit:
        alive = directed(gram, np.diag(inner), members=rows, about=about)
        inner, floor, left_out = _unit(inner, names, floor, alive)
    ceiling = min(_ceiling(len(names), len(left_out), about, gram.pivot(about) in rows), gram.d)
    decomposed = _decompose(inner, floor=floor, ceiling=ceiling, n=len(inner), gram=gram, about=about, unit=unit)
    return replace(decomposed, left_out=left_out)


def inner_products(gram: Gram, *, members: Members = None, about: str = "mean") -> tuple[Floats, tuple[str, ...]]:
    """Inner products `(s, s)` of the chosen models about a centre, and their labels.

    Raises:
        NotEnoughModels: fewer than two usable models are chosen.
        LayerError: an unknown centre.
    """
    rows = gram.chosen(members)
    if rows.size < 2:
        raise NotEnoughModels(
            f"{gram.layer.name}: a spectrum needs at least 2 usable models; found {rows.size} of {gram.n}. "
            "Choose more models, or look at what was left out and why"
        )
    return gram.about(about, members=rows), tuple(gram.labels[i] for i in rows)


def directed(gram: Gram, norms2: Floats, *, members: Members, about: str) -> Bools:
    """Which of the chosen models (s,), by squared distance to the centre, have a direction that is not rounding."""
    return np.asarray(norms2 > RESOLVED * max(gram.rounding(about, members=members), 0.0))


def pooled(spectra: Iterable[Spectrum]) -> PooledSpectrum:
    """The mean and the standard deviation (divisor: the layers) of the shares over layers.

    Layers without variance above rounding have no shares; they are counted as empty.

    Raises:
        NotEnoughModels: no layer has any variance.
    """
    every = tuple(spectra)
    ratios = [one.ratio for one in every if one.total > 0 and one.resolved]
    if not ratios:
        raise NotEnoughModels(
            "At least one layer in which the models differ by more than rounding was expected; found none among "
            f"{len(every)}. Choose other layers or other models"
        )
    longest = max(ratio.size for ratio in ratios)
    stack = np.array([np.pad(ratio, (0, longest - ratio.size)) for ratio in ratios])
    sums = np.minimum(np.cumsum(stack, axis=1), 1.0)
    return PooledSpectrum(
        mean=stack.mean(axis=0),
        std=stack.std(axis=0),
        cumulative_mean=sums.mean(axis=0),
        cumulative_std=sums.std(axis=0),
        layers=len(ratios),
        empty=len(every) - len(ratios),
    )


def _side_spectrum(gram: Gram, *, members: Members, about: str, unit: bool) -> Spectrum:
    if members is not None:
        raise LayerError(
            f"{gram.layer.name}: a Gram on the {gram.axis} axis is already summed over its models, so it has no "
            "members to choose; compute it again for the models you want"
        )
    n, (m, p) = int(gram.usable.sum()), gram.layer.shape
    if n < 2:
        raise NotEnoughModels(
            f"{gram.layer.name}: a spectrum needs at least 2 usable models; found {n}. Choose more models"
        )
    vectors = (n - 1 if about == "mean" else n) * (m if gram.axis is Axis.IN else p)
    ceiling = min(len(gram.values), vectors)
    return _decompose(gram.values, floor=gram.floor, ceiling=ceiling, n=n, gram=gram, about=about, unit=unit)


def _unit(
    inner: Floats, names: tuple[str, ...], floor: float, alive: Bools
) -> tuple[Floats, float, tuple[LeftOut, ...]]:
    """The Gram of the models scaled to norm 1, its floor, and the models that cannot be scaled."""
    norms2 = np.diag(inner)
    reason = "it lies at the centre, as far as rounding can tell, so it has no direction to scale to norm 1"
    left_out = tuple(LeftOut(name, reason) for name, lives in zip(names, alive, strict=True) if not lives)
    if alive.sum() < 2:
        raise NotEnoughModels(
            f"A unit-norm spectrum needs at least 2 models away from the centre; found {int(alive.sum())} of "
            f"{len(names)}. Turn unit norm off, or choose another centre"
        )
    scale = 1.0 / np.sqrt(norms2[alive])
    # The rounding of the weakest model grows most: |D^-1 E D^-1| <= |E| / min norm^2.
    return inner[np.ix_(alive, alive)] * np.outer(scale, scale), floor / float(norms2[alive].min()), left_out


def _ceiling(s: int, gone: int, about: str, at_one: bool) -> int:
    """The most non-zero variances there can be: centring on the models' own mean, or on one of them, costs one."""
    if about == "mean":
        return s - gone - 1
    return min(s - gone, s - 1 if at_one else s)


def _decompose(
    inner: Floats,
    *,
    floor: float,
    ceiling: int,
    n: int,
    gram: Gram,
    about: str,
    unit: bool,
) -> Spectrum:
    values = np.array(np.linalg.eigvalsh(inner)[::-1], dtype=np.float64)
    negative = values < 0
    values[negative] = 0.0
    # Beyond the ceiling only rounding is left, and it must not look like a variance.
    values[ceiling:] = 0.0
    return Spectrum(
        variances=values,
        total=float(values.sum()),
        floor=floor,
        ceiling=ceiling,
        n=n,
        d=gram.d,
        axis=gram.axis,
        about=about,
        unit=unit,
        clipped=int(negative.sum()),
        single=gram.single,
    )
