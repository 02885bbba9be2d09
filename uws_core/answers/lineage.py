"""The sentences that answer the lineage page: how many independent lineages there are, and who is odd."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from uws_core.nouns.lineage import Lineage, Overlap

LEVEL = 0.05
# More names than this make a list that nobody reads.
MOST_NAMES = 3
# A kind that is no adjective, as what something looks like.
_LOOKS = {"equal cosines": "like a common part and fresh random numbers (equal cosines)"}
ORDER = (
    "Neurons are compared as they are stored and not matched: models from different starts, and copies with reordered "
    "neurons, look unrelated even where they compute the same."
)


def answer(family: Lineage, *, place: str, overlaps: Sequence[Overlap] = ()) -> str:
    """The answer in words: groups at this threshold, what explains them, how steady they are, copies and odd ones.

    `place` is the layer (or the layers) in words; `overlaps` says what each column of the table has to do with it.
    """
    parts = [_groups(family, place), _explanation(overlaps), _steadiness(family), _copies(family), _odd(family)]
    return " ".join(part for part in parts if part)


def _groups(family: Lineage, place: str) -> str:
    sizes, s = family.sizes, family.s
    head = f"In {place}, {_about(family)} of these {s} models"
    at = f"at a cosine of {family.threshold:.2f}"
    if sizes.size == 1:
        return f"{head} all belong together {at} (smallest cosine {_least(family):.2f}): one lineage, not {s} models."
    if sizes.size == s:
        order = f" {ORDER}" if family.about == "zero" else ""
        return f"{head} are all apart {at} (largest cosine {_most(family):.2f}, chance {family.chance:.2f}).{order}"
    alone = int((sizes == 1).sum())
    many = sizes[sizes > 1]
    said = f"{_count(many.size, 'group')} of {_list([str(size) for size in many])}"
    said += f" and {_count(alone, 'model')} alone" if alone else ""
    return f"{head} form {said} {at}; that is worth {family.effective_groups:.1f} equal lineages."


def _explanation(overlaps: Sequence[Overlap]) -> str:
    real = [one for one in overlaps if not one.reason]
    if not real:
        return ""
    best = max(real, key=lambda one: one.agreement)
    if best.p > LEVEL:
        return "No column of the table explains the groups better than chance."
    return f"`{best.column}` explains the groups best (agreement {best.agreement:.2f}, p = {best.p:.2g})."


def _steadiness(family: Lineage) -> str:
    low, high = family.stability.low, family.stability.high
    if not 1 < family.sizes.size < family.s:
        return ""
    return f"Every threshold from {round(low, 2) + 0.0:.2f} to {high:.2f} gives the same groups."


def _copies(family: Lineage) -> str:
    if not family.duplicates:
        return ""
    first = family.duplicates[0]
    more = f" and {_count(len(family.duplicates) - 1, 'more pair')}" if len(family.duplicates) > 1 else ""
    verb = "is" if len(family.duplicates) == 1 else "are"
    return f"Nearly the same {verb} `{first.left}` and `{first.right}` (distance {first.distance:.2g} of a norm){more}."


def _odd(family: Lineage) -> str:
    kinds = Counter(one.kind for one in family.suspects if not one.together)
    together = [one for one in family.suspects if one.together]
    said = []
    for one in together:
        name, verb = f"{one.model[:1].upper()}{one.model[1:]}", "looks" if one.everywhere else "look"
        said.append(f"{name} {verb} {_LOOKS.get(one.kind, one.kind)}: {one.reason}.")
    for kind, count in kinds.items():
        names = [f"`{one.model}`" for one in family.suspects if one.kind == kind and not one.together]
        said.append(f"{_count(count, 'model')} to look at ({kind}): {_list(names)}.")
    return " ".join(said)


def _about(family: Lineage) -> str:
    words = {"zero": "the weights", "base": "the changes from the base", "mean": "the differences from the mean"}
    return words.get(family.about, f"the differences from `{family.about}`")


def _least(family: Lineage) -> float:
    return float(np.nanmin(family.cosines))


def _most(family: Lineage) -> float:
    different = family.cosines[np.triu_indices(family.s, 1)]
    known = different[~np.isnan(different)]
    return float(known.max()) if known.size else float("nan")


def _list(words: Sequence[str]) -> str:
    """A few words as `a, b and c`, many as `a, b, c and 4 more`."""
    if len(words) > MOST_NAMES + 1:
        return f"{', '.join(words[:MOST_NAMES])} and {len(words) - MOST_NAMES} more"
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
