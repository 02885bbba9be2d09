"""The answer of a merge: where it lies beside the plain mean, and what of its members survives."""

from __future__ import annotations

import math

from uws_core.nouns.merging import Merge

# Nearer to the mean than this share of the mean's length, the method adds nothing that anybody measures.
_NEAR = 0.05


def answer(merge: Merge) -> str:
    """Returns where the merge lies, in one sentence: its distance to the plain mean over the mean's own length."""
    whole, recipe = merge.whole, merge.recipe
    name = f"{recipe.method} at scale {recipe.scale:g}"
    if not math.isfinite(whole.off_mean):
        return f"{name}: the updates cancel, their mean is zero; the merge is {whole.norm:.3g} from the {merge.about}."
    if whole.to_mean2 == 0 or whole.off_mean < 1e-6:
        return f"{name} is the plain mean of {len(merge.labels)} models."
    share = f"{whole.off_mean:.1%}" if whole.off_mean < 0.1 else f"{whole.off_mean:.0%}"
    near = " The plain mean serves as well." if whole.off_mean < _NEAR else ""
    times = f"{whole.norm / whole.mean_norm:.2g} times its length"
    return f"{name} lies {share} of the mean's length from the plain mean, and has {times}.{near}"


def members(merge: Merge) -> str:
    """Returns what of the members' updates survives, and what the cut to a rank loses."""
    whole = merge.whole
    kept = whole.survives
    known = [index for index in range(len(merge.labels)) if math.isfinite(kept[index])]
    if not known:
        return "No member differs from the base."
    low, high = min(known, key=lambda i: kept[i]), max(known, key=lambda i: kept[i])
    text = (
        f"Of each member's update between {kept[low]:.0%} ({merge.labels[low]}) and {kept[high]:.0%} "
        f"({merge.labels[high]}) survives."
    )
    if whole.rank is not None:
        text += f" Rank {whole.rank}" + (f", whose cut loses {whole.lost:.1%} of the energy." if whole.lost2 else ".")
    return text
