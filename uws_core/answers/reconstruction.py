"""The sentence that answers the reconstruction page: whether the shared subspace rebuilds a model it never saw."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from uws_core.nouns.gram import Axis
from uws_core.nouns.heldout import NEWCOMER, HeldOut
from uws_core.nouns.storage import Storage

# A smaller share of what the mean leaves, nobody would call found.
LITTLE = 0.02


def answer(items: Sequence[HeldOut], *, k: int, place: str, by: str = "", storage: Storage | None = None) -> str:
    """The answer at `k` directions for models held out one by one, or by the attribute `by`, in words.

    `place` is the layer or layers; `storage` adds what is saved at that k.
    """
    known = [one for one in items if not np.isnan(one.nothing)]
    if not known:
        return f"One cannot tell: in {place} no chosen model differs from the reference."
    at = _at(known[0], k)
    left, mean = _median([one.subspace[at] for one in known]), _median([one.mean_only for one in known])
    found, luck = (_median([_found(one, name, at) for one in known]) for name in ("subspace", "random"))
    held = f"With each {by} held out" if by else "With each model held out"
    kept = int(known[0].kept[at])
    subject = "an unseen model" if len(known) > 1 else f"`{known[0].model}`"
    what = _what(known[0].reference, subject)
    head = f"{held}, {kept} {_directions(known[0].axis)} of the others leave {_percent(left)} of {what} in {place}"
    head += f" (median of {len(known)})" if len(known) > 1 else ""
    return f"{head}; {_companions(known, at, mean)}: {_verdict(found, luck)}.{_size(storage)}"


def answer_unseen_model(one: HeldOut, *, k: int, place: str) -> str:
    """The answer for a model that is not in the collection."""
    at = _at(one, k)
    if np.isnan(one.nothing):
        return f"One cannot tell: in {place} `{one.model}` does not differ from the reference."
    found, luck = _found(one, "subspace", at), _found(one, "random", at)
    kept = f"{int(one.kept[at])} {_directions(one.axis)} of the collection"
    return (
        f"In {place}, {kept} leave {_percent(one.subspace[at])} of {_what(one.reference, f'`{one.model}`')}; "
        f"{_companions([one], at, one.mean_only)}: {_verdict(found, luck)}."
    )


def _companions(known: Sequence[HeldOut], at: int, mean: float) -> str:
    """The lines that the error is read against, in words."""
    said = [f"the mean alone leaves {_percent(mean)}"]
    own = _median([one.own_svd[at] for one in known])
    if not np.isnan(own):
        said.append(f"its own SVD at as many numbers {_percent(own)}")
    if known[0].group != NEWCOMER:
        said.append(f"a subspace that saw it {_percent(_median([one.in_sample[at] for one in known]))}")
    return ", ".join(said)


def _verdict(found: float, luck: float) -> str:
    """What the directions add to the mean, against as many random ones."""
    said = f"beyond the mean the directions find {_percent(found)}"
    if found <= luck:
        return f"{said}, no more than random directions do"
    if found - luck < LITTLE:
        return f"{said}, hardly more than the {_percent(luck)} of random directions"
    return f"{said}, random directions {_percent(luck)}"


def _found(one: HeldOut, line: str, at: int) -> float:
    """The share of what the mean leaves that a line takes away."""
    return 1 - float(getattr(one, line)[at]) / one.mean_only if one.mean_only > 0 else float("nan")


def _at(one: HeldOut, k: int) -> int:
    """The place of the largest computed number of directions up to `k`."""
    below = np.flatnonzero(one.kept <= k)
    return int(below[np.argmax(one.kept[below])]) if below.size else 0


def _what(reference: str, model: str) -> str:
    """What 100 % is, in words."""
    words = {
        "mean": f"what sets {model} apart from the others' mean",
        "zero": f"the weights of {model}",
        "base": f"what {model} changed in the base",
    }
    return words.get(reference, f"what sets {model} apart from {reference}")


def _directions(axis: Axis) -> str:
    return {Axis.MODELS: "directions", Axis.IN: "input directions", Axis.OUT: "output directions"}[axis]


def _size(storage: Storage | None) -> str:
    if storage is None:
        return ""
    times = f"{storage.ratio:.3g} times smaller" if storage.ratio >= 1 else f"{1 / storage.ratio:.3g} times larger"
    what = "this layer is" if len(storage.layers) == 1 else "these layers are"
    than = " than the stored factors" if storage.factors else ""
    return f" Stored so, {what} {times}{than}."


def _median(values: Sequence[float]) -> float:
    there = [value for value in values if not np.isnan(value)]
    return float(np.median(there)) if there else float("nan")


def _percent(share: float) -> str:
    value = 100 * share
    if abs(value) < 0.05:
        return "0 %"
    return f"{value:.0f} %" if abs(value) >= 10 else f"{value:.1f} %"
