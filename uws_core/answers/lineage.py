"""The answer line of the lineage page: the number of independent lineages, and a warning about outliers."""

from __future__ import annotations

import numpy as np

from uws_core.answers.wording import counted, warning, where
from uws_core.nouns.lineage import Lineage

ORDER = (
    "Neurons are compared as they are stored and not matched: models from different starts, and copies with reordered "
    "neurons, look unrelated even where they compute the same."
)
_CENTRES = {"zero": "the weights", "base": "the changes from the base", "mean": "the differences from the mean"}


def answer(lineage: Lineage, *, location: str) -> str:
    """The groups at this threshold; `location` names the layer (or the layers).

    Columns that explain the groups, near copies and outliers are in the tables and figures of the page.
    """
    sizes, s = lineage.sizes, lineage.s
    centre = _CENTRES.get(lineage.about, f"the differences from `{lineage.about}`")
    subject = f"in {where(location)}, {centre} of these {s} models"
    cosines = lineage.cosines[np.triu_indices(s, 1)]
    cosines = cosines[~np.isnan(cosines)]
    if sizes.size == 1:
        line = f"One lineage: {subject} belong together; the smallest cosine is {cosines.min():.2f}."
    elif sizes.size == s:
        largest = f"; the largest cosine is {cosines.max():.2f}" if cosines.size else ""
        line = f"No relatives: {subject} are apart{largest}."
    else:
        alone, groups = int((sizes == 1).sum()), int((sizes > 1).sum())
        beside = f" and {counted(alone, 'model')} alone" if alone else ""
        line = (
            f"{counted(groups, 'group')} of relatives{beside}: in {where(location)}, {centre} count as "
            f"{lineage.effective_groups:.1f} lineages of equal size."
        )
    # What all models show in some of the layers only is in the table of outliers.
    kinds = [outlier.kind for outlier in lineage.outliers if outlier.everywhere or not outlier.together]
    return f"{line} {warning([*kinds, *(['near copies'] if lineage.duplicates else [])])}".rstrip()
