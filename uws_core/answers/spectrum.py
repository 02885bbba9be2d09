"""The sentence that answers the spectrum page: how many directions carry a layer, against chance."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import numpy as np

from uws_core.nouns.chance import discoveries
from uws_core.nouns.gram import Axis
from uws_core.nouns.spectrum import LayerSpectrum, Rank, Spectrum

# With four directions or fewer, 90 % of anything is three or four of them, noise or not.
FEWEST_DIRECTIONS = 5
LEVEL = 0.05


def answer(items: Sequence[LayerSpectrum], *, share: float = 0.9) -> str:
    """The answer for one layer, for several, or for layers summed to one, in words and with its chance level."""
    alive = [item for item in items if item.spectrum.resolved]
    blurred = [item for item in items if item.spectrum.blurred]
    if not items:
        return "No layer is chosen: choose one to see how many directions carry it."
    if not alive and blurred:
        return f"In {_place(items)}, one cannot tell: {_below_rounding(blurred[0].spectrum)}"
    if not alive:
        return (
            f"In {_place(items)}, these {items[0].spectrum.n} models do not differ at all: there is nothing to count."
        )
    most = max(item.spectrum.ceiling for item in alive)
    if most < FEWEST_DIRECTIONS:
        return (
            f"In {_place(items)}, one cannot tell: {_count(alive[0].spectrum.n, 'model')} "
            f"give at most {_count(most, 'direction')}."
        )
    sentence = _one(alive[0], share) if len(alive) == 1 else _several(alive, share)
    same = len(items) - len(alive) - len(blurred)
    sentence += f" In {_count(same, 'further layer')} the models do not differ." if same else ""
    if not blurred:
        return sentence
    return (
        f"{sentence} In {_count(len(blurred), 'further layer')} the differences are below the rounding of "
        f"{blurred[0].spectrum.precision}."
    )


def _below_rounding(spectrum: Spectrum) -> str:
    """Why nothing can be counted where rounding hides what is looked for, and the way out where there is one."""
    wayout = " Compute it in double precision." if spectrum.single else ""
    return f"{_of_what(spectrum)} is below the rounding of {spectrum.precision}.{wayout}"


def _one(item: LayerSpectrum, share: float) -> str:
    rank, band = item.spectrum.rank_for(share), item.band
    verb = "carries" if str(rank) == "1" else "carry"
    head = f"In {_place([item])}, {_count(rank, 'direction')} {verb} {_percent(share)} of {_of_what(item.spectrum)}"
    if band is None:
        return f"{head}."
    if rank.censored:
        return f"{head}: the others are below rounding, so that chance cannot be judged."
    beyond = band.concentration(share)
    needs = _round(band.rank(share).middle)
    score = f"(z {_z(beyond.z)})"
    if beyond.p > LEVEL:
        return f"{head}: no more than chance, {_noise(band.kind)} needs {needs} {score}."
    if needs <= rank.k:
        return f"{head}; {_noise(band.kind)} needs {needs} too, but carries a little less with them {score}."
    return f"{head}; {_noise(band.kind)} needs {needs} {score}."


def _several(items: Sequence[LayerSpectrum], share: float) -> str:
    ranks = [item.spectrum.rank_for(share) for item in items]
    typical = _round(np.median([rank.k for rank in ranks]))
    head = f"In {_place(items)}, {_span(ranks)} directions (median {typical}) carry {_percent(share)} of "
    head += _of_what(items[0].spectrum)
    bands = [item.band for item in items if item.band is not None]
    if len(bands) < len(items):
        return f"{head}."
    needs = [_round(band.rank(share).middle) for band in bands]
    beyond = [band.concentration(share) for band in bands]
    # With many layers some pass by luck alone: a layer counts only when it passes after correction.
    above = int(discoveries(np.array([one.p for one in beyond]), level=LEVEL).sum())
    if not above:
        return f"{head}: no more than chance in any layer, {_noise(bands[0].kind)} needs {_span(needs)}."
    middle = f"(median z {_z(float(np.nanmedian([one.z for one in beyond])))})"
    verb = "is" if above == 1 else "are"
    where = "every layer is" if above == len(items) else f"{above} of {len(items)} layers {verb}"
    return f"{head}; {_noise(bands[0].kind)} needs {_span(needs)}: {where} beyond chance {middle}."


def _place(items: Sequence[LayerSpectrum]) -> str:
    if len(items) > 1:
        return f"{len(items)} layers"
    only = items[0]
    return f"{only.layers} layers taken as one" if only.layers > 1 else f"`{only.layer.short}`"


def _of_what(spectrum: Spectrum) -> str:
    """What the variance is the variance of, in words: it depends on the centre, the axis and the scaling."""
    n = spectrum.n
    words = {
        "mean": f"what distinguishes these {n} models",
        "zero": f"the weights of these {n} models, their mean included",
        "base": f"what these {n} models changed in their base",
    }.get(spectrum.about, f"what sets these {n} models apart from `{spectrum.about}`")
    if spectrum.axis is not Axis.MODELS:
        words += f", seen by their {'inputs' if spectrum.axis is Axis.IN else 'outputs'}"
    return words + (", each scaled to norm 1" if spectrum.unit else "")


def _noise(kind: str) -> str:
    names = {"strength": "noise of the same strengths", "gaussian": "noise of equal strengths"}
    return names.get(kind, f"{kind} noise")


def _count(number: object, noun: str) -> str:
    return f"{number} {noun}" + ("" if str(number) == "1" else "s")


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"


def _span(numbers: Sequence[int] | Sequence[Rank]) -> str:
    ordered = sorted(numbers, key=lambda one: (one.k, one.censored) if isinstance(one, Rank) else (one, False))
    return str(ordered[0]) if ordered[0] == ordered[-1] else f"{ordered[0]} to {ordered[-1]}"


def _round(number: float | np.floating) -> int:
    return int(np.floor(float(number) + 0.5))


def _z(z: float) -> str:
    if not isfinite(z) or abs(z) >= 1000:
        return "> 1000" if z > 0 else "< -1000"
    return f"= {z:.1f}" if abs(z) < 10 else f"= {z:.0f}"
