"""The answer line of the reconstruction page: the share of an unseen model that the shared subspace finds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from uws_core.answers.wording import directions, median, share_text, where
from uws_core.nouns.cost import bytes_text
from uws_core.nouns.evidence import WEAK
from uws_core.nouns.heldout import HeldOut, HeldOutChance
from uws_core.nouns.storage import Storage

# A smaller share beyond random directions is called hardly any.
LITTLE = 0.02
# More than random directions find, and no more than models of one profile that share nothing.
PROFILE_ONLY = "No more than a common profile gives"


def answer(
    items: Sequence[HeldOut], *, k: int, location: str, by: str = "", chance: HeldOutChance | None = None
) -> str:
    """The answer at `k` directions for models held out one by one, or by the attribute `by`.

    `chance` is what models that share nothing but their scales give; without it random directions stand in.
    """
    known = [item for item in items if not np.isnan(item.nothing)]
    if not known:
        return f"One cannot tell: in {where(location)} no chosen model differs from the reference."
    index = _index(known[0], k)
    found, luck = (median([_found(item, line, index) for item in known]) for line in ("subspace", "random"))
    unseen = f"an unseen {by}'s model" if by else "an unseen model"
    subject = unseen if len(known) > 1 else f"`{known[0].model}`"
    source = f"{int(known[0].kept[index])} shared {directions(known[0].axis.value)}"
    verdict, rival = _verdict(found, luck), f"random ones {share_text(luck)}"
    if chance is not None:
        samples = chance.captured[:, _place(chance.kept, k)]
        middle, high = np.quantile(samples, (0.5, 0.975)).tolist()
        rival = f"noise of the same profile {share_text(middle)}"
        nothing = PROFILE_ONLY if found - luck >= LITTLE else _verdict(0.0, 0.0)
        verdict = _verdict(found, middle) if found > high else nothing
    return (
        f"{verdict} in {where(location)}: {source} rebuild {share_text(found)} of {subject} beyond the mean, {rival}."
    )


def sizes_text(size: Storage) -> str:
    """The numbers stored with sharing and without, and the bytes where the files' are known."""
    numbers = f"{size.shared:,} of {sum(size.dense):,} numbers{' of factors' if size.factors else ''}"
    if size.shared_bytes is None:
        return numbers
    return f"{numbers}, {bytes_text(size.shared_bytes)} of {bytes_text(sum(size.dense_bytes))}"


def answer_unseen_model(item: HeldOut, *, k: int, location: str) -> str:
    """The answer for a model that is not in the collection."""
    if np.isnan(item.nothing):
        return f"One cannot tell: in {where(location)} `{item.model}` does not differ from the reference."
    index = _index(item, k)
    found, luck = _found(item, "subspace", index), _found(item, "random", index)
    source = f"{int(item.kept[index])} {directions(item.axis.value)} of the collection"
    return (
        f"{_verdict(found, luck)} in {where(location)}: {source} rebuild {share_text(found)} of `{item.model}` beyond "
        f"the mean, random ones {share_text(luck)}."
    )


def _verdict(captured: float, luck: float) -> str:
    if captured <= luck:
        return "The subspace does not help"
    if captured - luck < LITTLE:
        return "The subspace hardly helps"
    # The evidence page calls such an excess over chance weak.
    return "The subspace helps a little" if captured - luck < WEAK * (1 - luck) else "The subspace generalises"


def _found(item: HeldOut, line: str, index: int) -> float:
    """The share of the error of the mean alone that a way of rebuilding removes."""
    return 1 - float(getattr(item, line)[index]) / item.mean_only if item.mean_only > 0 else float("nan")


def _index(item: HeldOut, k: int) -> int:
    """The index of the largest computed number of directions up to `k`."""
    return _place(item.kept, k)


def _place(kept: NDArray[np.intp], k: int) -> int:
    below = np.flatnonzero(kept <= k)
    return int(below[np.argmax(kept[below])]) if below.size else 0
