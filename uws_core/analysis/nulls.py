"""What chance alone would show: bands for a spectrum, and for any number that is made from one.

Inner products of `n` models in random directions need no weights to be drawn: their matrix is Wishart, and Bartlett's
decomposition makes one from `n^2 / 2` random numbers, whatever `d` is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from uws_core.analysis import laws
from uws_core.analysis.cores import one_core_each
from uws_core.analysis.noise import as_strong, batches, centred, strong, wishart, wishart_eigenvalues
from uws_core.analysis.shared_directions import (
    COUNT_DRAWS,
    LEAST_BLOCKS,
    about_common_points,
    flipped,
    shared_directions,
)
from uws_core.analysis.spectrum import directed, inner_products, spectrum
from uws_core.errors import LayerError
from uws_core.nouns.arrays import Bools, Floats
from uws_core.nouns.chance import NullBand, SharedDirections, z_scores
from uws_core.nouns.gram import Axis, Gram, Members
from uws_core.nouns.spectrum import Spectrum

# Draws that tell whether rows or columns, flipped, concentrate more.
_PILOT = 20


def null_band(
    gram: Gram,
    *,
    kind: str = "profile",
    draws: int = 200,
    seed: int = 0,
    members: Members = None,
    unit: bool = False,
    about: str = "mean",
) -> NullBand:
    """Returns the band of each component's share of the variance when the models share no direction.

    `profile` flips the sign of every model's part in every block of rows or columns, whichever gives the wider band: it
    keeps norms, scales of rows and columns, heavy tails and sparsity, and assumes nothing but that agreement between
    blocks is by chance. `strength` assumes entries of equal variance: it keeps every model's norm and draws its
    direction. `gaussian` assumes equal norms too and adds the Marchenko-Pastur edge. Draws are centred, scaled and
    decomposed exactly as the observed models are; where a model is the centre, it is drawn too. The band's `kind` says
    what was drawn: a Gram without stored blocks, or with fewer than eight, falls back from `profile` to `strength`. A
    side axis takes `gaussian` only; `run.side_band` is right where spectra decay. `shared` is the count of shared
    directions under the same null, of at least 200 draws, and `places` the component along which each lies.
    Price: `draws * n^3`; `gaussian` without `unit` about the mean, zero or the base `draws * n^2`; and the count's.

    Raises:
        ValueError: an unknown kind, or fewer than two draws.
        NotEnoughModels: fewer than two usable models.
        LayerError: an unknown centre, or another null than `gaussian` on a side axis.

    Source: Hong, Sheng and Dobriban 2020; Bartlett 1933; Horn 1965 (parallel analysis); Marchenko and Pastur 1967.
    """
    band = share_band(gram, kind=kind, draws=draws, seed=seed, members=members, unit=unit, about=about)
    if gram.axis is not Axis.MODELS:
        return band
    # A band of fewer draws has the same count as everywhere else.
    most = max(draws, COUNT_DRAWS)
    shared = shared_directions(gram, kind=band.kind, draws=most, seed=seed, members=members, about=about)
    return replace(band, shared=shared, places=_places(gram, shared, members=members, unit=unit, about=about))


def share_band(
    gram: Gram,
    *,
    kind: str = "profile",
    draws: int = 200,
    seed: int = 0,
    members: Members = None,
    unit: bool = False,
    about: str = "mean",
) -> NullBand:
    """Returns the same band without the count of shared directions, where only the shares are asked for.

    Raises:
        ValueError: an unknown kind, or fewer than two draws.
        NotEnoughModels: fewer than two usable models.
        LayerError: an unknown centre, or another null than `gaussian` on a side axis.
    """
    if kind not in ("profile", "strength", "gaussian") or draws < 2:
        raise ValueError(
            f"The null is profile, strength or gaussian with at least 2 draws; found {kind!r} with {draws}"
        )
    views = flippable(gram, members=members, about=about) if kind == "profile" else []
    if gram.axis is not Axis.MODELS and kind != "gaussian":
        raise LayerError(
            f"{gram.layer.name}: the {kind} null on the {gram.axis} axis needs every model's singular values, which a "
            "Gram does not hold; use run.side_band, or the gaussian null if no model's singular values decay"
        )
    if kind == "profile" and not views:
        kind = "strength"
    observed_spectrum = spectrum(gram, members=members, about=about, unit=unit)
    rng = np.random.default_rng(seed)
    if views:
        with one_core_each():
            flip = partial(_flipped_shares, gram, members=members, unit=unit, about=about)
            first = [float(np.median(flip(blocks, (min(draws, _PILOT), seed))[:, 0])) for blocks in views]
            shares = flip(views[int(np.argmax(first))], (draws, seed))[:, : observed_spectrum.variances.size]
    elif gram.axis is not Axis.MODELS or (kind == "gaussian" and gram.pivot(about) is None and not unit):
        shares = _equal_shares(gram, observed_spectrum, draws=draws, rng=rng)
    else:
        shares = _model_shares(gram, kind=kind, draws=draws, rng=rng, members=members, unit=unit, about=about)
        shares = shares[:, : observed_spectrum.variances.size]
    edge = laws.share_edge(*_noise_size(gram, observed_spectrum)) if kind == "gaussian" else float("nan")
    return band_of(
        observed_spectrum.ratio, shares, kind=kind, seed=seed, edge=edge, resolved=observed_spectrum.resolved
    )


def band_of(
    observed: Floats,
    samples: Floats,
    *,
    kind: str,
    seed: int,
    statistic: str = "share",
    edge: float = float("nan"),
    resolved: int | None = None,
) -> NullBand:
    """The band that `samples` (draws, k) make around what chance shows, and where `observed` (k,) stands in it.

    Only the first `resolved` of what is observed (None is all) are more than rounding, and only these get z and p.
    """
    known = np.arange(observed.size) < (observed.size if resolved is None else resolved)
    low, middle, high = np.quantile(samples, (0.025, 0.5, 0.975), axis=0)
    return NullBand(
        kind=kind,
        statistic=statistic,
        observed=observed,
        low=low,
        middle=middle,
        high=high,
        z=np.where(known, z_scores(observed, samples), np.nan),
        p=np.where(known, (1 + (samples >= observed).sum(axis=0)) / (1 + len(samples)), np.nan),
        samples=samples,
        draws=len(samples),
        seed=seed,
        edge=edge,
        resolved=resolved,
    )


def pooled_band(bands: Sequence[NullBand]) -> NullBand:
    """The band of the mean share over layers, from the layers' draws taken together draw by draw.

    Raises:
        ValueError: no band, or bands with different numbers of draws.
    """
    if not bands or len({band.draws for band in bands}) != 1:
        raise ValueError(f"Bands with equally many draws were expected; found {sorted({band.draws for band in bands})}")
    longest = max(band.observed.size for band in bands)
    samples = np.mean([np.pad(b.samples, ((0, 0), (0, longest - b.observed.size))) for b in bands], axis=0)
    observed = np.mean([np.pad(b.observed, (0, longest - b.observed.size)) for b in bands], axis=0)
    return band_of(observed, samples, kind=bands[0].kind, seed=bands[0].seed, statistic="mean share over layers")


def _model_shares(
    gram: Gram, *, kind: str, draws: int, rng: np.random.Generator, members: Members, unit: bool, about: str
) -> Floats:
    rows = gram.chosen(members)
    anchor = gram.pivot(about)
    drawn = rows if anchor is None or anchor in rows else np.append(rows, anchor)
    pivot = None if anchor is None else int(np.flatnonzero(drawn == anchor)[0])
    inner, _ = inner_products(gram, members=drawn, about="mean" if anchor is not None else about)
    own_mean = about == "mean" or anchor is not None
    squares, center = np.maximum(np.diag(inner), 0.0), np.zeros(drawn.size, dtype=np.intp)
    alive = directed(gram, np.diag(gram.about(about, members=rows)), members=rows, about=about)
    found = []
    for count in batches(draws, drawn.size):
        noise = wishart(rng, count=count, side=drawn.size, dof=gram.effective_d)
        if kind == "strength":
            noise = as_strong(noise, squares, center) if own_mean else strong(noise, np.sqrt(squares))
        noise = _centred(noise, about=about, pivot=pivot)[:, : rows.size, : rows.size]
        found.append(_shares(_scaled(noise, alive) if unit else noise))
    return np.concatenate(found)


def flippable(gram: Gram, *, members: Members = None, about: str = "mean") -> list[Floats]:
    """Returns the blocks (B, s, s) of rows and of columns, where there are at least eight, of the drawn models.

    About the mean they are about the models' common point; a model that is the centre is drawn too.
    """
    if gram.axis is not Axis.MODELS or gram.blocks is None:
        return []
    rows, anchor = gram.chosen(members), gram.pivot(about)
    drawn = rows if anchor is None or anchor in rows else np.append(rows, anchor)
    center = "mean" if anchor is not None else about
    combinations = gram.combinations(center, members=drawn)
    if center == "mean":
        combinations = about_common_points(gram.about("mean", members=drawn)) @ combinations
    views = [gram.blocks.about(combinations, columns=columns) for columns in (False, True)]
    return [blocks for blocks in views if len(blocks) >= LEAST_BLOCKS]


def _places(gram: Gram, shared: SharedDirections, *, members: Members, unit: bool, about: str) -> tuple[int, ...]:
    """The component that each shared direction lies along most, no component twice."""
    if not shared.count:
        return ()
    rows = gram.chosen(members)
    inner, size = gram.about(about, members=rows), np.ones(rows.size)
    if unit:
        alive = directed(gram, np.diag(inner), members=rows, about=about)
        size = np.where(alive, 1 / np.sqrt(np.where(alive, np.diag(inner), 1.0)), 0.0)
    values, vectors = np.linalg.eigh(inner * np.outer(size, size))
    # A shared direction is `sum_i (loading_i / noise_i) W_i`; weights that sum to 0 are of no centre.
    weights = np.zeros((shared.count, rows.size))
    weights[:, [int(np.flatnonzero(rows == row)[0]) for row in shared.rows]] = shared.loadings / shared.noise
    along = np.square(weights @ inner @ (size[:, None] * vectors)) / np.maximum(values, 1e-12 * values[-1])
    found = list[int]()
    for overlaps in along[:, ::-1]:
        overlaps[found] = -1.0
        found.append(int(overlaps.argmax()))
    return tuple(found)


def wider_view(gram: Gram, members: Members, *, seed: int, draws: int = _PILOT) -> Floats | None:
    """Returns the blocks (B, s, s) about the members' mean, of rows or columns: those whose flips concentrate more.

    None where the Gram has no blocks, or fewer than eight. The wider null is the one that is harder to beat.
    """
    views = flippable(gram, members=members)
    rng = np.random.default_rng(seed)

    def first_share(blocks: Floats) -> float:
        return float(np.median(_shares(_centred(flipped(blocks, rng, draws), about="mean", pivot=None))[:, 0]))

    return max(views, key=first_share, default=None)


def _flipped_shares(
    gram: Gram, blocks: Floats, draws_and_seed: tuple[int, int], *, members: Members, unit: bool, about: str
) -> Floats:
    """Shares of draws in which every model's part in every block has a random sign."""
    rows, anchor = gram.chosen(members), gram.pivot(about)
    pivot = None
    if anchor is not None:
        pivot = int(np.flatnonzero(rows == anchor)[0]) if anchor in rows else rows.size
    alive = directed(gram, np.diag(gram.about(about, members=rows)), members=rows, about=about)
    draws, seed = draws_and_seed
    rng = np.random.default_rng(seed)
    samples = []
    for count in batches(draws, len(blocks[0])):
        noise = _centred(flipped(blocks, rng, count), about=about, pivot=pivot)[:, : rows.size, : rows.size]
        samples.append(_shares(_scaled(noise, alive) if unit else noise))
    return np.concatenate(samples)


def _equal_shares(gram: Gram, observed_spectrum: Spectrum, *, draws: int, rng: np.random.Generator) -> Floats:
    """Shares of equally strong noise about its mean or a fixed point: Wishart, one eigenvalue less about the mean."""
    side, dof = _noise_size(gram, observed_spectrum)
    values = wishart_eigenvalues(rng, count=draws, side=side, dof=dof)
    shares = values / values.sum(axis=1, keepdims=True)
    return np.pad(shares, ((0, 0), (0, observed_spectrum.variances.size - side)))


def _noise_size(gram: Gram, observed_spectrum: Spectrum) -> tuple[int, float]:
    """The number of eigenvalues of noise here, and of independent entries behind each inner product."""
    lost = observed_spectrum.about == "mean"
    if gram.axis is Axis.MODELS:
        return (observed_spectrum.n - 1 if lost else observed_spectrum.n), gram.effective_d
    m, p = gram.layer.shape
    return len(gram.values), float(
        (observed_spectrum.n - 1 if lost else observed_spectrum.n) * (m if gram.axis is Axis.IN else p)
    )


def _centred(noise: Floats, *, about: str, pivot: int | None) -> Floats:
    """Inner products about the same centre as the observed ones: the mean, one of the models, or a point outside."""
    if pivot is not None:
        toward = noise[:, pivot, :]
        return np.asarray(noise - toward[:, :, None] - toward[:, None, :] + noise[:, pivot, pivot][:, None, None])
    if about != "mean":
        return noise
    return centred(noise, np.zeros(noise.shape[1], dtype=np.intp))


def _scaled(noise: Floats, alive: Bools) -> Floats:
    """Each centred model scaled to norm 1, without those that have no norm to scale."""
    part = noise[:, alive][:, :, alive]
    return strong(part, np.ones(part.shape[1]))


def _shares(inner: Floats) -> Floats:
    values = np.maximum(np.linalg.eigvalsh(inner)[:, ::-1], 0.0)
    total = values.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(values, total, out=np.zeros_like(values), where=total > 0))
