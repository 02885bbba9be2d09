"""The answer of a merge before it is written: is it more than the mean, and may these be merged at all?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from uws_core.answers.wording import share_text
from uws_core.nouns.merge_preview import BestScale, Compatibility, MergeWarning, Standing
from uws_core.nouns.merging import MergeMethod

NAMES: Mapping[str, str] = {
    MergeMethod.MEAN: "Mean",
    MergeMethod.LINEAR: "Weighted mean",
    MergeMethod.TASK_ARITHMETIC: "Task arithmetic",
    MergeMethod.SLERP: "SLERP",
    MergeMethod.MULTI_SLERP: "Multi-SLERP",
    MergeMethod.KARCHER: "Karcher mean",
    MergeMethod.MODEL_STOCK: "Model stock",
    MergeMethod.SUBSPACE: "Subspace merge",
    MergeMethod.TIES: "TIES",
    MergeMethod.DARE: "DARE",
    MergeMethod.DARE_TIES: "DARE-TIES",
    MergeMethod.DELLA: "DELLA",
    MergeMethod.BREADCRUMBS: "Breadcrumbs",
    MergeMethod.SCE: "SCE",
    MergeMethod.TSV: "TSV",
    MergeMethod.ISO_C: "Iso-C",
    MergeMethod.ISO_CTS: "Iso-CTS",
    MergeMethod.KNOTS: "KnOTS",
    MergeMethod.CORE: "Core Space",
    MergeMethod.REGMEAN: "RegMean",
    MergeMethod.CTM: "Compress then merge",
}
# Scores of a few hundred pictures a task scatter by about this much; nearer ones are called equal.
EQUAL = 0.02
# A merge of which less lies off the mean's direction is nearly the mean.
NEARLY = 0.1
_SHORT = {
    "copies": "near copies",
    "norms": "unequal norms",
    "opposed": "opposed updates",
    "signs": "opposed signs",
    "ranks": "ranks beyond the layer",
    "vocabulary": "unequal vocabularies",
    "unmoved": "a member that is the base",
    "broken": "NaN weights",
}


def answer(
    standing: Standing,
    *,
    best: Sequence[BestScale] = (),
    compatibility: Compatibility | None = None,
    siblings: float | None = None,
    by: str = "",
) -> str:
    """Returns the verdict on a merge at its first scale: by scores against the mean where there are some.

    `siblings` is how far two models of one value of `by` lie apart, over the length of the merge.
    """
    warnings = compatibility.warnings if compatibility is not None else ()
    foreign = [one for one in warnings if one.kind == "base"]
    if compatibility is not None and foreign:
        return f"Do not merge these as they are. {_foreign(foreign[0], len(compatibility.labels))}"
    scored = {one.method: one for one in best}
    if standing.method in scored and MergeMethod.MEAN in scored:
        return _by_score(standing.method, scored)
    return " ".join(filter(None, (_by_distance(standing, siblings, by), check_first(warnings))))


def _foreign(warning: MergeWarning, models: int) -> str:
    """The sentence on other bases; of models that are named only their number, as a line holds no lists."""
    if not warning.members:
        return warning.text
    others = models - len(warning.members)
    return f"{others} of these {models} models {'starts' if others == 1 else 'start'} from another base."


def check_first(warnings: Sequence[MergeWarning]) -> str:
    """A short sentence on the first two kinds of warnings; empty without any."""
    kinds = list(dict.fromkeys(_SHORT[one.kind] for one in warnings if one.kind in _SHORT))[:2]
    return f"Check first: {', '.join(kinds)}." if kinds else ""


def _by_score(method: str, scored: Mapping[str, BestScale]) -> str:
    one, mean = scored[method], scored[MergeMethod.MEAN]
    name = NAMES.get(method, method)
    if method == MergeMethod.MEAN:
        base = scored.get("base")
        rest = f"; the base keeps {share_text(base.kept)}" if base is not None else ""
        gain = "" if base is None else "More than the base: " if mean.kept > base.kept + EQUAL else "No gain: "
        return f"{gain}at its best scale the mean keeps {share_text(mean.kept)} of its members' scores{rest}."
    verdict = "As good as the mean"
    if abs(one.kept - mean.kept) > EQUAL:
        verdict = "Better than the mean" if one.kept > mean.kept else "Worse than the mean"
    return (
        f"{verdict}: each at its best scale, {name} keeps {share_text(one.kept)} of its members' scores, "
        f"the mean {share_text(mean.kept)}."
    )


def _by_distance(standing: Standing, siblings: float | None, by: str) -> str:
    name, off = NAMES.get(standing.method, standing.method), float(standing.off_mean[0])
    least, scale = standing.kept[0, 0], float(standing.scales[0])
    known = least[np.isfinite(least)]
    if scale == 0:
        return "This is the base: at scale 0 nothing of any member survives."
    if not known.size or not np.isfinite(off):
        return "Nothing to merge: these models do not differ from their base."
    weakest = share_text(float(known.min()))
    if standing.method == MergeMethod.MEAN:
        chance = share_text(scale / known.size)
        return f"The mean at {scale:g} keeps {weakest} of the weakest member's update; independent ones keep {chance}."
    if off < NEARLY:
        apart = "" if siblings is None else f", two models of one {by} {share_text(siblings)} from each other"
        return f"Nearly the mean: {name} at scale {scale:g} lies {share_text(off)} from a mean as long as it{apart}."
    away = float(np.sqrt(np.nanmean(standing.distance_to_members[0, 0] ** 2)))
    if away > 1 + EQUAL:
        return (
            f"Not the mean, too long at scale {scale:g}: {name} lies {share_text(away)} of an update from members, "
            f"beyond their base, {share_text(off)} off the mean's direction."
        )
    apart = (
        f"; {weakest} of the weakest update survives"
        if siblings is None
        else f", two models of one {by} {share_text(siblings)} apart"
    )
    return (
        f"Not the mean: {name} at scale {scale:g} lies {share_text(off)} of its length off the mean's direction{apart}."
    )
