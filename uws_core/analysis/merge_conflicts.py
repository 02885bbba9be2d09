"""Whether models may be merged: copies, other bases, unequal norms, and layers where the members collide."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add

import numpy as np
from scipy.stats import norm as normal

from uws_core.analysis.angle_tables import model_angles
from uws_core.analysis.lineage import chance_cosine, scattered_d
from uws_core.analysis.outliers import duplicates
from uws_core.analysis.partitions import components
from uws_core.errors import NotEnoughModels
from uws_core.nouns.angles import Factors, Side
from uws_core.nouns.arrays import Floats
from uws_core.nouns.gram import Gram, Members
from uws_core.nouns.lineage import Indices
from uws_core.nouns.merge_preview import Compatibility, LayerConflict, MergeWarning, SignConflict
from uws_core.nouns.models import LeftOut

# Norms so many times apart: sums and rules of sign and size follow the longest update.
APART = 10.0
# Whole weights of models of one base have higher cosines than this about zero, whatever they learned.
ONE_BASE = 0.5
# Less than this beyond what the cosine predicts changes no merge that anybody could notice.
LEAST_EXCESS = 0.01
# Models named in a sentence; the table has all.
_NAMED = 3
_ONE_BASE = "Take models that were fine-tuned from one base, or bring their neurons into one order first"
_FEWER = "Merge fewer of them, or leave these layers to the base: take them out of Layers in the sidebar"
_SIGN_VOTE = "Take a rule with a sign vote, or leave these layers out in the sidebar"
_VOCABULARY = ("embed", "wte", "lm_head", "shared.weight", "tok_")


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured beside the Grams, by layer name; whatever is missing is not judged.

    `ranks` holds the members' adapter ranks, `signs` and `directions` come from passes over the weights, `low_rank`
    says that the members are adapters.
    """

    signs: Mapping[str, SignConflict] = field(default_factory=dict)
    directions: Mapping[str, Factors] = field(default_factory=dict)
    ranks: Mapping[str, Sequence[int]] = field(default_factory=dict)
    left_out: Sequence[LeftOut] = ()
    low_rank: bool = False


def compatibility(grams: Sequence[Gram], *, members: Members = None, measured: Measured | None = None) -> Compatibility:
    """What speaks against merging the chosen members, over all these layers and in each of them.

    Raises:
        NotEnoughModels: fewer than two usable members.
        LayerError: unknown layers or a side axis.
    """
    measured, whole = measured or Measured(), reduce(add, grams)
    asked_for, rows = _asked(whole, members), whole.chosen(members)
    if rows.size < 2:
        raise NotEnoughModels(f"A merge needs at least two usable models; found {rows.size}. Choose more models")
    about = "base" if whole.base is not None else "zero"
    inner, labels = whole.about(about, members=rows), tuple(whole.labels[row] for row in rows)
    raw = whole.about("zero", members=rows)
    pairs = duplicates(labels, raw, whole.cosines("zero", members=rows), blur=whole.blur[rows])
    copies = np.zeros((rows.size, rows.size), dtype=np.bool_)
    for pair in pairs:
        copies[labels.index(pair.left), labels.index(pair.right)] = True
    copies |= copies.T
    layers = layer_conflicts(grams, members=rows, measured=measured)
    norms = np.sqrt(np.maximum(np.diag(inner), 0.0))
    broken = np.setdiff1d(asked_for, rows)
    found = [
        *_of_broken([whole.labels[row] for row in broken], rows),
        *_of_copies(labels, copies, rows),
        *([] if measured.low_rank else _of_bases(labels, whole.cosines("zero", members=rows), rows)),
        *_of_norms(labels, norms, rows, still=whole.rounding(about, members=rows)),
        *_of_layers(layers),
        *_of_ranks(grams, measured.ranks),
        *_of_shapes(measured.left_out),
    ]
    return Compatibility(
        labels=labels,
        cosines=whole.cosines(about, members=rows),
        chance=chance_cosine(rows.size, scattered_d(whole, rows, about)),
        norms=norms,
        copies=copies,
        warnings=tuple(found),
        layers=layers,
    )


def layer_conflicts(
    grams: Sequence[Gram], *, members: Members = None, measured: Measured | None = None
) -> tuple[LayerConflict, ...]:
    """How the members get along in each layer, in the order of the Grams.

    A layer collides where two updates are opposed, or their signs beyond what the cosine predicts, by more than chance
    gives in any layer of 1 in 20 networks of as many layers and members.
    """
    measured = measured or Measured()
    return tuple(_layer(gram, gram.chosen(members), measured, len(grams)) for gram in grams)


def _layer(gram: Gram, rows: Indices, measured: Measured, layers: int) -> LayerConflict:
    about = "base" if gram.base is not None else "zero"
    inner, cosines = gram.about(about, members=rows), gram.cosines(about, members=rows)
    upper = cosines[np.triu_indices(rows.size, 1)]
    known = upper[np.isfinite(upper)]
    energy = float(np.trace(inner)) / max(rows.size, 1)
    limit = float(normal.isf(0.05 / max(layers * upper.size, 1)))
    chance = min(limit / float(np.sqrt(scattered_d(gram, rows, about))), 1.0)
    least = float(known.min()) if known.size else float("nan")
    name = gram.layer.name
    opposed, excess, z = _signs(measured.signs.get(name))
    overlap, overlap_chance = _overlap(measured.directions.get(name))
    return LayerConflict(
        layer=gram.layer,
        mean_cosine=float(known.mean()) if known.size else float("nan"),
        least_cosine=least,
        chance=chance,
        survives=float(inner.mean()) / energy if energy > gram.rounding(about, members=rows) else float("nan"),
        opposed=opposed,
        excess=excess,
        z=z,
        overlap=overlap,
        overlap_chance=overlap_chance,
        opposed_updates=bool(least < -chance),
        opposed_signs=bool(z > limit and excess > LEAST_EXCESS),
    )


def _signs(conflict: SignConflict | None) -> tuple[float, float, float]:
    """The mean share of opposed signs, and the excess and z of the pair with the largest z."""
    if conflict is None:
        return float("nan"), float("nan"), float("nan")
    upper = np.triu_indices(len(conflict.labels), 1)
    share, z = conflict.share[upper], np.nan_to_num(conflict.z[upper], nan=-np.inf)
    if not np.isfinite(share).any():
        return float("nan"), float("nan"), float("nan")
    worst = int(z.argmax())
    return float(np.nanmean(share)), float(conflict.excess[upper][worst]), float(z[worst])


def _overlap(factors: Factors | None) -> tuple[float, float]:
    """The mean squared cosine of leading directions over pairs and both sides, and what random ones have."""
    if factors is None or factors.n < 2:
        return float("nan"), float("nan")
    found, chance = [], []
    for side in (Side.IN, Side.OUT):
        table = model_angles(factors, side=side, kept=factors.kept)
        upper = np.triu_indices(factors.n, 1)
        squares = np.square(np.cos(table.radians[upper].astype(np.float64)))
        if not np.isfinite(squares).any():
            # No two models have directions here: zero or single-row layers.
            return float("nan"), float("nan")
        found.append(float(np.nanmean(squares)))
        chance.append(float(np.nanmean(np.asarray(table.chance)[upper])))
    return float(np.mean(found)), float(np.mean(chance))


def _asked(gram: Gram, members: Members) -> Indices:
    """The rows that were asked for, whether usable or not."""
    if members is None:
        return np.arange(gram.n)
    given = np.asarray(members)
    return np.flatnonzero(given) if given.dtype == np.bool_ else given.astype(np.intp).reshape(-1)


def _of_broken(labels: Sequence[str], rows: Indices) -> list[MergeWarning]:
    if not labels:
        return []
    text = f"{_some(labels)} {'holds' if len(labels) == 1 else 'hold'} NaN or infinite weights and cannot be merged."
    return [MergeWarning("broken", text, "Merge the others", tuple(map(int, rows)))]


def _of_copies(labels: Sequence[str], copies: np.ndarray, rows: Indices) -> list[MergeWarning]:
    groups = components(copies.astype(np.float64) + np.eye(len(labels)), 0.5)
    sizes = np.bincount(groups)
    if sizes.max() < 2:
        return []
    largest = [labels[place] for place in np.flatnonzero(groups == int(sizes.argmax())).tolist()]
    first = {int(group): int(row) for group, row in zip(groups[::-1], rows[::-1], strict=True)}
    more = f" and {int((sizes > 1).sum()) - 1} more sets" if (sizes > 1).sum() > 1 else ""
    text = f"{_some(largest)} are near copies{more}: a mean counts what they learned {sizes.max()} times."
    return [MergeWarning("copies", text, "Keep one of each", tuple(sorted(first.values())))]


def _of_bases(labels: Sequence[str], raw: Floats, rows: Indices) -> list[MergeWarning]:
    """Whole weights that do not start from one base; a mean of unrelated networks is no network."""
    groups = components(np.nan_to_num(raw, nan=0.0), ONE_BASE)
    count, sizes = int(groups.max()) + 1, np.bincount(groups)
    if count == 1:
        return []
    high = float(np.nanmax(raw - 3 * np.eye(len(raw))))
    if sizes.max() == 1:
        text = f"No two of these {len(labels)} models share a base and an order of neurons: cosines reach {high:.2f}."
        return [MergeWarning("base", text, _ONE_BASE)]
    inside = np.flatnonzero(groups == int(sizes.argmax()))
    others = [labels[place] for place in np.flatnonzero(groups != int(sizes.argmax())).tolist()]
    text = f"{_some(others)} {'starts' if len(others) == 1 else 'start'} from another base than the others."
    return [MergeWarning("base", text, "Merge the largest family", tuple(map(int, rows[inside])))]


def _of_norms(labels: Sequence[str], norms: Floats, rows: Indices, *, still: float) -> list[MergeWarning]:
    found, moved = [], norms**2 > still
    if not moved.all():
        names = [labels[place] for place in np.flatnonzero(~moved).tolist()]
        text = f"{_some(names)} {'does' if len(names) == 1 else 'do'} not differ from the base and only dilute a mean."
        found.append(MergeWarning("unmoved", text, "Merge the others", tuple(map(int, rows[moved]))))
    if moved.sum() > 1 and norms[moved].max() > APART * norms[moved].min():
        most, least = int(norms.argmax()), int(np.where(moved, norms, np.inf).argmin())
        middle = float(np.median(norms[moved]))
        near = moved & (norms < APART * middle) & (norms * APART > middle)
        times = norms[most] / norms[least]
        text = f"The update of {labels[most]} is {times:.0f} times as long as that of {labels[least]}:"
        text += " sums, TIES and SCE follow the longest."
        keep = tuple(map(int, rows[near])) if 1 < near.sum() < len(labels) else ()
        found.append(
            MergeWarning(
                "norms", text, "Merge those of usual length" if keep else "Give the longest a smaller weight", keep
            )
        )
    return found


def _of_layers(layers: Sequence[LayerConflict]) -> list[MergeWarning]:
    """Layers where members pull in opposite directions, by the cosine and by the signs."""
    found = []
    opposed = [layer for layer in layers if layer.opposed_updates]
    if opposed:
        top = min(opposed, key=lambda layer: layer.least_cosine)
        text = (
            f"In {_where(top, opposed)}, two updates are opposed beyond chance: their cosine is {top.least_cosine:.2f}."
        )
        found.append(MergeWarning("opposed", text, _FEWER))
    signs = [layer for layer in layers if layer.opposed_signs]
    if signs:
        top = max(signs, key=lambda layer: layer.excess)
        text = f"In {_where(top, signs)}, two members oppose each other in {100 * top.excess:.0f} % more entries than"
        found.append(MergeWarning("signs", f"{text} their cosine predicts.", _SIGN_VOTE))
    return found


def _where(top: LayerConflict, layers: Sequence[LayerConflict]) -> str:
    rest = len(layers) - 1
    return top.layer.short + (f" and {rest} more layer{'s' if rest > 1 else ''}" if rest else "")


def _of_ranks(grams: Sequence[Gram], ranks: Mapping[str, Sequence[int]]) -> list[MergeWarning]:
    """Adapters whose ranks together are more than the layer has: their sum needs a rank of its own."""
    full = [gram.layer for gram in grams if sum(ranks.get(gram.layer.name, ())) > min(gram.layer.shape)]
    if not full:
        return []
    first = full[0]
    more = f", and past the layer in {len(full) - 1} more" if len(full) > 1 else ""
    text = (
        f"The adapters' ranks add up to {sum(ranks[first.name])} in {first.short}, whose rank is at most "
        f"{min(first.shape)}{more}: a merged adapter of a lower rank loses a part."
    )
    return [MergeWarning("ranks", text, "Choose a rank under Options and read what is lost")]


def _of_shapes(left_out: Sequence[LeftOut]) -> list[MergeWarning]:
    """Matrices of several shapes: heads stay with their models, vocabularies differ."""
    several = [item for item in left_out if ";" in item.reason and " x " in item.reason]
    found = []
    words = Counter("vocabulary" if any(mark in item.what for mark in _VOCABULARY) else "shape" for item in several)
    for item in several[:1] if words else ():
        text = f"{item.what} has another shape in some models and is not merged: {item.reason}. A merged network "
        text += f"keeps the base's {item.what}, a merged adapter has none, so put the task's own there to use it."
        if words["vocabulary"]:
            text += " The vocabularies differ: bring the tokenizers to one first."
        found.append(
            MergeWarning(
                "vocabulary" if words["vocabulary"] else "shapes",
                text,
                "Or choose models of one shape",
            )
        )
    return found


def _some(labels: Sequence[str]) -> str:
    shown = ", ".join(labels[:_NAMED])
    return f"{shown} and {len(labels) - _NAMED} more" if len(labels) > _NAMED else shown
