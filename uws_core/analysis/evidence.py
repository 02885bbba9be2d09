"""All claims for a layer: what holds, what is chance, what is ancestry."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TypedDict, Unpack

import numpy as np

from uws_core.analysis import group_findings, shared_findings
from uws_core.analysis.cores import one_core_each
from uws_core.analysis.group_findings import Sizes
from uws_core.analysis.judging import count, unknown
from uws_core.analysis.lineage import lineage
from uws_core.analysis.measures import cut
from uws_core.analysis.noise import Indices
from uws_core.analysis.nulls import wider_view
from uws_core.analysis.partitions import by_size, codes
from uws_core.analysis.shared_findings import Ask, Report
from uws_core.analysis.spectrum import spectrum
from uws_core.errors import LayerError, NotEnoughModels
from uws_core.nouns.claims import CLAIMS, KIN
from uws_core.nouns.evidence import Determined, Evidence, Finding
from uws_core.nouns.gram import Axis, Gram, Members
from uws_core.nouns.lineage import Lineage


class DrawKeywords(TypedDict, total=False):
    """Thresholds and draws of `evidence`, and the counts that its storage ratios need; see there."""

    share: float
    draws: int
    seed: int
    whole: int | None
    stored: int | None


@dataclass(frozen=True, slots=True)
class _Drawing:
    """The settings with their defaults filled in."""

    share: float = 0.9
    draws: int = 99
    seed: int = 0
    whole: int | None = None
    stored: int | None = None


def evidence(
    gram: Gram,
    *,
    groups: Sequence[Hashable] | None = None,
    grouped_by: str = "",
    members: Members = None,
    kept: int | None = None,
    layers: Sequence[Gram] = (),
    report: Report | None = None,
    **keywords: Unpack[DrawKeywords],
) -> Evidence:
    """Every claim of the table for one layer (or a sum of layers) of the chosen models.

    `groups` holds one label for each model of the Gram (None: not known, a group of its own); without it the groups
    of the lineage about the base (raw where there is none) are taken, where there are any. With it, the claims
    about what is left without relatives are asked of the lineage's groups too, where these are others. `kept` is
    the k of all subspaces, by default a quarter of the directions there can be.

    Further keywords: `share` of the variance (0.9), `draws` (99), `seed` (0), `whole` and `stored`. `whole` is the
    number of weights of a whole checkpoint, for the second storage ratio, and `stored` how many numbers the models
    store for these layers, where they are factors (None: all weights). Where `gram` is a sum, `layers` are its
    summands, see `lineage`. `report` is called between any two draws and may raise to stop. Price: `draws` times
    about ten decompositions of s models.

    Raises:
        NotEnoughModels: fewer than two usable models, or another number of labels than models.
        LayerError: a side axis.
        ValueError: fewer than 19 draws, with which no test can reach 5 %.
    """
    if gram.axis is not Axis.MODELS:
        raise LayerError(f"{gram.layer.name}: evidence is about models; found a Gram on the {gram.axis} axis")
    drawing = _Drawing(**keywords)
    if drawing.draws < 19:
        raise ValueError(f"A test at 5 % needs at least 19 draws; found {drawing.draws}")
    family = lineage(gram, members=members, about="base" if gram.base is not None else "zero", layers=layers)
    rows = family.members
    labels, said = _grouping(gram, rows, groups, grouped_by, family)
    lineage_groups = None if groups is None else _others(family.groups, labels)
    ask = _asked(gram, rows, (labels, lineage_groups), drawing, kept=kept, report=report)
    with one_core_each():
        findings, known = _findings(ask, family, Sizes(drawing.whole, drawing.stored))
    return Evidence(
        layer=gram.layer.name,
        findings=findings,
        n=rows.size,
        groups=0 if labels is None else int(labels.max()) + 1,
        grouped_by=said if labels is not None else "",
        kept=ask.kept,
        share=drawing.share,
        draws=drawing.draws,
        seed=drawing.seed,
        determined=known,
    )


def _asked(
    gram: Gram,
    rows: Indices,
    groups: tuple[Indices | None, Indices | None],
    drawing: _Drawing,
    *,
    kept: int | None,
    report: Report | None,
) -> Ask:
    """The question as one object; `groups` are the column's or lineage's, and the lineage's own beside a column's."""
    labels, lineage_groups = groups
    ceiling = max(min(rows.size - 1, gram.d), 1)
    cuts = np.random.default_rng([drawing.seed, 0])
    return Ask(
        gram=gram,
        rows=rows,
        inner=gram.about("mean", members=rows),
        groups=labels,
        kin=lineage_groups,
        cuts=cut(rows.size, rng=cuts, groups=labels, lineage_groups=lineage_groups),
        kept=min(max(1, round(ceiling / 4)) if kept is None else max(kept, 1), ceiling),
        share=drawing.share,
        draws=drawing.draws,
        seed=drawing.seed,
        report=report if report is not None else (lambda fraction, message: None),
        blocks=wider_view(gram, rows, seed=drawing.seed),
    )


def _findings(ask: Ask, family: Lineage, sizes: Sizes) -> tuple[tuple[Finding, ...], Determined | None]:
    seen = spectrum(ask.gram, members=ask.rows)
    if not seen.resolved:
        reason = f"these {count(ask.s, 'model')} do not differ in this layer"
        if seen.below_precision:
            reason = f"what distinguishes these {count(ask.s, 'model')} is below the rounding of {seen.precision}"
            reason += "; compute it in double precision" if seen.single else ""
        return tuple(unknown(claim, ask.layer, reason) for claim in CLAIMS if claim not in KIN.values()), None
    comparison = shared_findings.drawn(ask)
    known_to, known = shared_findings.determined(ask, comparison)
    directions = shared_findings.concentrated(ask, comparison, unit=False)
    without_relatives: tuple[Finding, ...] = ()
    if ask.kin is not None:
        without_relatives = (
            group_findings.unseen_groups(ask, comparison, by_lineage=True),
            group_findings.within(ask, by_lineage=True),
            group_findings.one_each(ask, by_lineage=True),
        )
    every = (
        group_findings.sound(ask.layer, family),
        directions,
        shared_findings.concentrated(ask, comparison, unit=True),
        shared_findings.components(ask, comparison),
        shared_findings.mean(ask, directions),
        shared_findings.halves(ask, comparison),
        group_findings.unseen(ask, comparison),
        group_findings.unseen_groups(ask, comparison),
        group_findings.relatives(ask),
        group_findings.within(ask),
        group_findings.one_each(ask),
        *without_relatives,
        shared_findings.saturates(ask, comparison),
        known_to,
        group_findings.space(ask, comparison, sizes),
    )
    return every, known


def _grouping(
    gram: Gram, rows: Indices, groups: Sequence[Hashable] | None, grouped_by: str, family: Lineage
) -> tuple[Indices | None, str]:
    """The groups (s,) of the chosen models and what made them; None where they divide nothing or name every model."""
    if groups is not None and len(groups) != gram.n:
        raise NotEnoughModels(f"One group label for each of {gram.n} models was expected, {len(groups)} were given")
    if groups is None:
        about = " about the base" if family.about == "base" else ""
        labels, said = family.groups, f"lineage{about} at a cosine of {family.threshold:.2f}"
    else:
        # A model whose label is not known is nobody's relative.
        labels = by_size(codes([groups[row] if groups[row] is not None else ("not known", int(row)) for row in rows]))
        said = grouped_by or "the given groups"
    return (labels, said) if _divides(labels) else (None, "")


def _others(family_groups: Indices, labels: Indices | None) -> Indices | None:
    """The lineage's groups, where they divide the models and are not the ones of the column."""
    same = labels is not None and np.array_equal(by_size(labels), by_size(family_groups))
    return family_groups if _divides(family_groups) and not same else None


def _divides(groups: Indices) -> bool:
    """Whether there are at least two groups, and fewer than models."""
    return 1 <= int(groups.max(initial=0)) < groups.size - 1
