"""The answer line of the spectrum page: the number of directions that carry a layer, against chance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from uws_core.answers.wording import counted, directions, level_text
from uws_core.nouns.chance import BEYOND_EQUAL_NOISE, NullBand, discoveries
from uws_core.nouns.spectrum import LayerSpectrum, Spectrum

# With four directions or fewer, 90 % of any variance takes three or four of them.
FEWEST_DIRECTIONS = 5
LEVEL = 0.05
_EQUAL = BEYOND_EQUAL_NOISE[:1].upper() + BEYOND_EQUAL_NOISE[1:]
_NOISE = {
    "profile": "noise of the same profile",
    "strength": "noise of the same strengths",
    "gaussian": "noise of equal strengths",
}


def answer(items: Sequence[LayerSpectrum], *, share: float = 0.9) -> str:
    """The answer for one layer, for several, or for layers summed to one, with the chance level."""
    if not items:
        return "No layer is chosen: choose one to see how many directions carry it."
    resolved = [item for item in items if item.spectrum.resolved]
    hidden = [item for item in items if item.spectrum.below_precision]
    if not resolved and hidden:
        spectrum = hidden[0].spectrum
        way_out = " Compute it in double precision." if spectrum.single else ""
        subject = f"{_difference(spectrum)} is below the rounding of {spectrum.precision}"
        return f"One cannot tell: in {_place(items)}, {subject}.{way_out}"
    if not resolved:
        return f"Nothing to count: in {_place(items)}, these models do not differ at all."
    ceiling = max(item.spectrum.ceiling for item in resolved)
    if ceiling < FEWEST_DIRECTIONS:
        models = counted(resolved[0].spectrum.n, "model")
        return f"One cannot tell: in {_place(items)}, {models} give at most {counted(ceiling, 'direction')}."
    line = _one(resolved[0], share) if len(resolved) == 1 else _several(resolved, share)
    return line if len(resolved) == len(items) else f"{line} Some layers show no difference."


def _one(item: LayerSpectrum, share: float) -> str:
    spectrum, band = item.spectrum, item.band
    rank = spectrum.rank_for(share)
    verb = "carries" if str(rank) == "1" else "carry"
    noun = directions(spectrum.axis.value)
    noun = noun.removesuffix("s") if str(rank) == "1" else noun
    location = _place([item])
    fact = f"{rank} {noun} {verb} {level_text(share)} of {_difference(spectrum)}"
    if band is None:
        return f"In {location}, {fact}."
    if rank.censored:
        return f"One cannot tell: in {location}, {fact}, and the others are below rounding."
    noise, needs = _noise(band.kind), _round(band.rank(share).middle)
    shared = band.shared if band.shared is not None and band.shared.known else None
    if shared is not None and shared.count:
        # Noise that does not keep the profile of the weights is no full account of chance.
        null = "chance" if band.kind == "profile" else noise
        head = f"{counted(shared.count, 'direction')} {'is' if shared.count == 1 else 'are'} shared beyond {null}"
        subject = f"{level_text(share)} of {_difference(spectrum)}"
        if rank.k <= shared.count:
            return f"{head} in {location}; {_of_them(rank.k, shared.count)} {verb} {subject}."
        return f"{head} in {location}; {rank}, noise included, {verb} {subject}."
    if band.concentration(share).p > LEVEL:
        if shared is not None and shared.beyond_equal_noise:
            return f"{_EQUAL}: in {location}, {fact}; {noise} needs {needs}."
        return f"No more than chance: in {location}, {fact}; {noise} needs {needs}."
    if shared is not None:
        return f"Beyond chance, but in no single direction: in {location}, {fact}; {noise} needs {needs}."
    if needs <= rank.k:
        return f"Barely beyond chance: in {location}, {fact}; {noise} also needs {needs}."
    return f"Beyond chance: in {location}, {fact}; {noise} needs {needs}."


def _several(items: Sequence[LayerSpectrum], share: float) -> str:
    spectrum = items[0].spectrum
    typical = _round(np.median([item.spectrum.rank_for(share).k for item in items]))
    noun = directions(spectrum.axis.value).removesuffix("" if typical > 1 else "s")
    fact = f"a median of {typical} {noun} carries {level_text(share)} of {_difference(spectrum)}"
    bands = [item.band for item in items if item.band is not None]
    if len(bands) < len(items):
        return f"In these layers, {fact}."
    noise = _noise(bands[0].kind)
    needs = _round(np.median([band.rank(share).middle for band in bands]))
    # With many layers some pass by luck alone: a layer counts only when it passes after correction.
    passed = discoveries(np.array([_layer_p(band, share) for band in bands]), level=LEVEL)
    if not passed.any():
        equal = sum(band.shared is not None and band.shared.beyond_equal_noise for band in bands)
        if equal:
            where = "every layer" if equal == len(items) else f"{equal} of {len(items)} layers"
            return f"{_EQUAL}, in {where}: {fact}; noise needs {needs}."
        return f"No more than chance in any layer: {fact}; {noise} needs {needs}."
    where = "every layer" if passed.all() else f"{int(passed.sum())} of {len(items)} layers"
    counts = [band.shared.count for band, beyond in zip(bands, passed, strict=True) if beyond and band.shared]
    if len(counts) == passed.sum():
        null = "chance" if bands[0].kind == "profile" else noise
        shared = counted(_round(np.median(counts)), "direction")
        if not passed.all():
            return f"Beyond {null} in {where}: the median one of these shares {shared}."
        carry = f"carr{'y' if typical > 1 else 'ies'} {level_text(share)} of {_difference(spectrum)}"
        if typical <= _round(np.median(counts)):
            of_them = _of_them(typical, _round(np.median(counts)))
            return f"Beyond {null} in {where}: the median layer shares {shared}; {of_them} {carry}."
        return f"Beyond {null} in {where}: the median layer shares {shared}; {typical}, noise included, {carry}."
    if passed.all():
        return f"Beyond chance in {where}: {fact}; {noise} needs {needs}."
    fewer = f"fewer {directions(spectrum.axis.value)} than {noise} needs carry {level_text(share)} of"
    return f"Beyond chance in {where}: there, {fewer} {_difference(spectrum)}."


def _layer_p(band: NullBand, share: float) -> float:
    """The p of a layer: of its first shared direction, or where there is no count, of the share it concentrates."""
    if band.shared is not None and band.shared.known and band.shared.tail.size:
        return float(band.shared.tail[0])
    return band.concentration(share).p


def _place(items: Sequence[LayerSpectrum]) -> str:
    if len(items) > 1:
        return "these layers"
    return "these layers together" if items[0].layers > 1 else f"`{items[0].layer.short}`"


def _difference(spectrum: Spectrum) -> str:
    """The variance in words: it depends on the centre and on the scaling."""
    words = {
        "mean": "what distinguishes these models",
        "zero": "these models' weights with their mean",
        "base": "what these models changed in their base",
    }.get(spectrum.about, f"what sets these models apart from `{spectrum.about}`")
    return words + (" at equal norms" if spectrum.unit else "")


def _of_them(k: int, count: int) -> str:
    return "it" if count == 1 else "they" if k == count else f"{k} of them"


def _noise(kind: str) -> str:
    return _NOISE.get(kind, f"{kind} noise")


def _round(number: float | np.floating) -> int:
    return int(np.floor(float(number) + 0.5))
