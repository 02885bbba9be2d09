"""What the same bytes buy without a shared basis, and error against bytes for every way to spend them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from uws_core.nouns.arrays import Floats
from uws_core.nouns.storage import Rival, SizePoint
from uws_core.use.fitting import LayerFit, errors2_at

if TYPE_CHECKING:
    from uws_core.use.compress import CompressionDraft

Report = Callable[[float, str], None]
# Of the directions of the plan; each model's own SVD is known as far as the largest needs.
FACTORS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


def rivals(fits: Sequence[LayerFit], *, numbers: int, item: int) -> tuple[Rival, ...]:
    """The relative errors at the same count of numbers without sharing."""
    n = fits[0].basis.norms2.size
    mean_numbers = sum(fit.plan.layer.entries for fit in fits)
    return (
        own_svd(fits, numbers, item),
        Rival("random basis", numbers * item, share(total(fit.random_errors2 for fit in fits), fits)),
        Rival("mean only", mean_numbers * item, share(total(fit.mean_errors2 for fit in fits), fits)),
        rounding(fits, numbers * item, n),
    )


def own_svd(fits: Sequence[LayerFit], numbers: int, item: int) -> Rival:
    """Each model's own truncated SVD: of all layers and models the singular values with most energy a number first."""
    ranks, size = own_ranks(fits, numbers)
    norms2 = np.maximum(total(fit.basis.norms2 for fit in fits), 1e-300)
    kept = total(_leading(fit.own_energy, own) for fit, own in zip(fits, ranks, strict=True))
    return Rival("own SVD", size * item, np.sqrt(np.clip(1 - kept / norms2, 0.0, None)))


def own_ranks(fits: Sequence[LayerFit], numbers: int) -> tuple[list[Floats], int]:
    """The rank (n,) that each model's own SVD has in each layer when so many numbers are spent, and those spent."""
    norms2 = np.maximum(total(fit.basis.norms2 for fit in fits), 1e-300)
    centers = sum(fit.plan.layer.entries for fit in fits if fit.center_stored)
    energy = np.concatenate([(fit.own_energy / norms2[:, None]).ravel() for fit in fits])
    model = np.concatenate([np.repeat(np.arange(norms2.size), fit.own_energy.shape[1]) for fit in fits])
    price = np.concatenate([np.full(fit.own_energy.size, sum(fit.plan.layer.shape)) for fit in fits])
    order = np.argsort(-energy / price, kind="stable")
    taken = order[np.cumsum(price[order]) <= numbers - centers]
    layer = np.concatenate([np.full(fit.own_energy.size, number) for number, fit in enumerate(fits)])
    counts = np.zeros((len(fits), norms2.size))
    np.add.at(counts, (layer[taken], model[taken]), 1)
    return list(counts), int(price[taken].sum() + centers)


def rounding(fits: Sequence[LayerFit], available: int, n: int) -> Rival:
    """Every entry (of the factors, for adapters) rounded to the most bits that fit; a scale a row is counted."""
    sizes: dict[int, int] = {}
    for bits in fits[0].bits_errors2:
        sizes[bits] = sum(fit.rounded_bytes(bits, n) for fit in fits)
    fitting_bits = [bits for bits, size in sizes.items() if size <= available]
    if not fitting_bits:
        least = min(sizes)
        return Rival(
            "rounding", sizes[least], np.full(n, np.nan), f"one bit an entry already takes {sizes[least]} bytes"
        )
    bits = max(fitting_bits)
    errors = share(total(fit.bits_errors2[bits] for fit in fits), fits)
    return Rival("rounding", sizes[bits], errors, f"{bits} bits an entry")


def size_curve(draft: CompressionDraft, report: Report) -> tuple[SizePoint, ...]:
    """See `CompressionDraft.curve`."""
    item, n = draft.item_bytes, len(draft.members)
    ladders = [_ladder(fit) for fit in draft.fits]
    shared, random = np.zeros((2, len(FACTORS), n))
    for number, (fit, ks) in enumerate(zip(draft.fits, ladders, strict=True)):
        found = errors2_at(draft.collection, fit.plan, ks, draft.members, about=draft.about, seed=draft.seed)
        shared, random = shared + found[0], random + found[1]
        report((number + 1) / len(ladders), f"{fit.plan.layer.short}: {len(FACTORS)} sizes")
    points = []
    for place in range(len(FACTORS)):
        plans = [fit.resized(ks[place]) for fit, ks in zip(draft.fits, ladders, strict=True)]
        numbers = sum(plan.shared_numbers + n * plan.member_numbers for plan in plans)
        size = numbers * item + draft.untouched_bytes
        own = own_svd(draft.fits, numbers, item)
        for way, errors in (
            ("shared basis", share(shared[place], draft.fits)),
            ("own SVD", own.errors),
            ("random basis", share(random[place], draft.fits)),
        ):
            points.append(_point(way, size, errors))
    for bits in draft.fits[0].bits_errors2:
        size = sum(fit.rounded_bytes(bits, n) for fit in draft.fits) + draft.untouched_bytes
        points.append(_point("rounding", size, share(total(fit.bits_errors2[bits] for fit in draft.fits), draft.fits)))
    mean = draft.rival("mean only")
    points.append(_point("mean only", mean.bytes + draft.untouched_bytes, mean.errors))
    # Where a side has no more directions two sizes are one.
    return tuple(dict.fromkeys(sorted(points, key=lambda point: (point.way, point.bytes))))


def _ladder(fit: LayerFit) -> list[int]:
    most = max(fit.plan.layer.shape)
    return [min(max(1, round(fit.plan.k * factor)), most) for factor in FACTORS]


def _point(way: str, size: int, errors: Floats) -> SizePoint:
    return SizePoint(way, size, float(errors.max()), float(np.median(errors)))


def _leading(energy: Floats, ranks: Floats) -> Floats:
    """The sums (n,) of each model's first energies (n, s)."""
    sums = np.concatenate([np.zeros((len(energy), 1)), np.cumsum(energy, axis=1)], axis=1)
    return np.asarray(np.take_along_axis(sums, ranks.astype(int)[:, None], axis=1)[:, 0])


def share(errors2: Floats, fits: Sequence[LayerFit]) -> Floats:
    """Returns relative errors (n,) over all layers together."""
    return relative(errors2, total(fit.basis.norms2 for fit in fits))


def relative(errors2: Floats, norms2: Floats) -> Floats:
    """Returns `sqrt(errors2 / norms2)`, 0 for what is zero itself."""
    return np.asarray(np.sqrt(np.divide(errors2, norms2, out=np.zeros_like(norms2), where=norms2 > 0)))


def total(layers: Iterable[Floats]) -> Floats:
    """Returns the sum over layers."""
    return np.asarray(np.stack(list(layers)).sum(axis=0))
