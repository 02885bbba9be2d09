"""What the spectra of the three axes say together: directions a side at a share, and the error of a truncated HOSVD.

Source: De Lathauwer, De Moor, Vandewalle 2000; arXiv 2512.05117, Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from uws_core.errors import LayerError
from uws_core.nouns.gram import Axis
from uws_core.nouns.spectrum import Kept, Rank, Spectrum, TuckerBounds

AXES = (Axis.MODELS, Axis.OUT, Axis.IN)


def ranks_at(spectra: Mapping[Axis, Spectrum], share: float) -> dict[Axis, Rank]:
    """The fewest directions on each axis that carry `share` of the variance."""
    return {axis: spectra[axis].rank_for(share) for axis in AXES if axis in spectra}


def corners(spectra: Mapping[Axis, Spectrum], shares: Iterable[float]) -> tuple[Kept, ...]:
    """Every truncation that `ranks_at` gives at these shares, each once: no more than there are directions."""
    found = {tuple(one.k for one in ranks_at(spectra, share).values()) for share in shares}
    return tuple(Kept(*ks) for ks in sorted(found))


def tucker_bounds(spectra: Mapping[Axis, Spectrum], kept: Kept) -> TuckerBounds:
    """Between which errors the three-sided truncation lies: `max(tails) <= |X - X^|^2 / |X|^2 <= sum(tails)`.

    Raises:
        LayerError: an axis is missing, or the three are not of the same centred weights (their totals differ).
    """
    missing = [axis for axis in AXES if axis not in spectra]
    if missing:
        raise LayerError(f"The bounds need the spectra of all three axes; {', '.join(missing)} is missing")
    totals = [spectra[axis].total for axis in AXES]
    # The three passes round apart: 1e-5 is far above float32 products and far below another choice of models or centre.
    if max(totals) - min(totals) > 1e-5 * max(totals):
        raise LayerError(f"The spectra of the three axes are of different models or centres: their totals are {totals}")
    ks = (kept.models, kept.out, kept.into)
    tails = [_tail(spectra[axis], k) for axis, k in zip(AXES, ks, strict=True)]
    return TuckerBounds(kept=kept, tails=(tails[0], tails[1], tails[2]))


def _tail(spectrum: Spectrum, k: int) -> float:
    """The share of the variance beyond the first `k` directions."""
    return max(1 - float(spectrum.ratio[: max(k, 0)].sum()), 0.0) if spectrum.total > 0 else 0.0
