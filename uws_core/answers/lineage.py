"""The answer line of the lineage page: the number of independent lineages, and a warning about outliers."""

from __future__ import annotations

import numpy as np

from uws_core.answers.wording import counted, where
from uws_core.nouns.lineage import Lineage

ORDER = (
    "Neurons are compared as they are stored and not matched: models from different starts, and copies with reordered "
    "neurons, look unrelated even where they compute the same."
)
_CENTRES = {"zero": "the weights", "base": "the changes from the base", "mean": "the differences from the mean"}


def answer(lineage: Lineage, *, place: str) -> str:
    """The groups at this threshold; `place` names the layer (or the layers).

    Columns that explain the groups, near copies and outliers are in the tables and figures of the page.
    """
    sizes, s = lineage.sizes, lineage.s
    centre = _CENTRES.get(lineage.about, f"the differences from `{lineage.about}`")
    subject = f"in {where(place)}, {centre} of these {s} models"
    cosines = lineage.cosines[np.triu_indices(s, 1)]
    cosines = cosines[~np.isnan(cosines)]
    if sizes.size == 1:
        line = f"One lineage: {subject} all belong together, with cosines of at least {cosines.min():.2f}."
    elif sizes.size == s:
        largest = f"{cosines.max():.2f}" if cosines.size else "no size"
        line = f"No relatives: {subject} are all apart, with cosines of at most {largest}."
    else:
        alone, groups = int((sizes == 1).sum()), int((sizes > 1).sum())
        beside = f" and {counted(alone, 'model')} alone" if alone else ""
        line = (
            f"{counted(groups, 'group')} of relatives{beside}: in {where(place)}, {centre} of these models are worth "
            f"{lineage.effective_groups:.1f} equal lineages."
        )
    return line + _warning(lineage)


def _warning(lineage: Lineage) -> str:
    if lineage.suspects and lineage.duplicates:
        return " Check the outliers and near copies first."
    if lineage.suspects:
        return " Check the outliers first."
    return " Some are near copies." if lineage.duplicates else ""
