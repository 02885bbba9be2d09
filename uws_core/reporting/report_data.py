"""The data of a report: every claim in every layer and over all layers, lineage, spectrum, growth with n."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from uws_core import run
from uws_core.analysis.lineage import lineage
from uws_core.analysis.nulls import null_band
from uws_core.analysis.over_layers import over_layers
from uws_core.analysis.sample_size import sample_curve
from uws_core.analysis.spectrum import spectrum
from uws_core.errors import NotEnoughModels, UwsError
from uws_core.nouns.evidence import Evidence, Pooled, SampleCurve
from uws_core.nouns.gram import Gram
from uws_core.nouns.lineage import Lineage
from uws_core.nouns.models import Collection, LayerKey, LeftOut, by_model
from uws_core.nouns.spectrum import LayerSpectrum
from uws_core.reporting.evidence_cache import EvidenceSettings, affordable, cached_evidence, whole_checkpoint
from uws_core.store.results import Store

Report = Callable[[float, str], None]

# Budget for all layers together on a modest machine: a report should take at most a minute.
LAYERS_SECONDS = 15.0
# Progress at the end of each part: reading, evidence layer by layer, evidence of the sum; growth with n is the rest.
_READ, _LAYERS, _WHOLE = 0.3, 0.8, 0.9


@dataclass(frozen=True)
class ReportData:
    """Everything a report shows: `whole` is the evidence of all layers as one, `layers` that of each with its key.

    `gram` is the sum of `grams`, of which there is one a layer. `draws` is the number of draws for each layer; `curve`
    is None where there are too few models.
    """

    collection: Collection
    settings: EvidenceSettings
    draws: int
    whole: Evidence
    layers: tuple[tuple[LayerKey, Evidence], ...]
    pooled: tuple[Pooled, ...]
    lineage: Lineage
    gram: Gram
    grams: tuple[Gram, ...]
    spectrum: LayerSpectrum
    curve: SampleCurve | None
    left_out: tuple[LeftOut, ...]

    @property
    def keys(self) -> tuple[LayerKey, ...]:
        """The layers."""
        return tuple(key for key, _ in self.layers)

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks that a reader of the numbers needs."""
        notes = []
        if self.draws < self.settings.draws and len(self.layers) > 1:
            notes.append(
                f"Each layer was judged with {self.draws} draws of chance and all layers as one with "
                f"{self.settings.draws}: so many layers would take too long otherwise"
            )
        if self.curve is None:
            notes.append("There are too few models to see how numbers change with their number")
        return tuple(notes)


def gather(
    collection: Collection,
    layers: Sequence[str] | None,
    settings: EvidenceSettings,
    *,
    store: Store | None = None,
    report: Report | None = None,
) -> ReportData:
    """The data of a report, from the store where it is there; `layers` None is all but factor views.

    Raises:
        NotEnoughModels: fewer than two usable models.
        UwsError: whatever a pass raises.
        Cancelled: `report` raised to stop; finished evidence stays in the store.
    """
    progress = report if report is not None else (lambda fraction, message: None)
    keys = run.chosen_layers(collection, layers)
    names = [key.name for key in keys]
    broken: list[LeftOut] = []
    scanned = run.scan(
        collection, names, store=store, report=_part(progress, 0.0, _READ), failed=partial(_without_models, broken)
    )
    by_name = {gram.layer.name: gram for gram in scanned}
    keys, spare = _comparable(keys, by_name, settings.members)
    if not keys:
        raise NotEnoughModels(
            f"{collection.name}: no layer has finite weights in at least two of the {len(settings.members)} models"
        )
    names = [key.name for key in keys]
    grams = [by_name[name] for name in names]
    if settings.whole is None:
        # The size of a whole checkpoint, for the second storage ratio.
        settings = replace(settings, whole=whole_checkpoint(collection, settings.members))
    draws = affordable(len(settings.members), len(keys), settings.draws, within=LAYERS_SECONDS)
    each = []
    for index, (key, gram) in enumerate(zip(keys, grams, strict=True)):
        span = (_LAYERS - _READ) / len(keys)
        part = _part(progress, _READ + index * span, span, f"{key.short}: ")
        layer_settings = replace(settings, draws=draws)
        evidence = cached_evidence(collection, [key.name], layer_settings, store=store, grams=[gram], report=part)
        each.append((key, evidence))
    part = _part(progress, _LAYERS, _WHOLE - _LAYERS, "all layers as one: ")
    whole = cached_evidence(collection, names, settings, store=store, grams=grams, report=part)
    total = run.whole_network(grams)
    left_out = (*collection.left_out, *broken, *spare, *by_model(item for gram in grams for item in gram.left_out))
    about = "base" if total.base is not None else "zero"
    growth = _part(progress, _WHOLE, 1 - _WHOLE, "growth with n: ")
    return ReportData(
        collection=collection,
        settings=settings,
        draws=draws,
        whole=whole,
        layers=tuple(each),
        pooled=over_layers([evidence for _, evidence in each]),
        lineage=lineage(total, members=settings.members, about=about, layers=grams),
        gram=total,
        grams=tuple(grams),
        spectrum=_spectrum(total, settings, len(keys)),
        curve=_curve(total, settings, whole.kept, growth),
        left_out=tuple(dict.fromkeys(left_out)),
    )


def _without_models(broken: list[LeftOut], key: LayerKey, problem: UwsError) -> None:
    """Leaves out a layer in which too few models are finite; any other problem ends the report."""
    if not isinstance(problem, NotEnoughModels):
        raise problem
    broken.append(LeftOut(key.name, str(problem).removeprefix(f"{key.name}: ")))


def _comparable(
    keys: Sequence[LayerKey], grams: Mapping[str, Gram], members: Sequence[int]
) -> tuple[tuple[LayerKey, ...], list[LeftOut]]:
    """The layers that can be judged as one, and those left out for it.

    A sum has the models that are finite in all its layers: the layers with the fewest go until two models remain.
    """
    rows = list(members)
    finite = {key: grams[key.name].usable[rows] for key in keys if key.name in grams}
    kept = [key for key in keys if key in finite]
    left_out = []
    while kept and np.logical_and.reduce([finite[key] for key in kept]).sum() < 2:
        worst = min(kept, key=lambda key: int(finite[key].sum()))
        kept.remove(worst)
        count = int(finite[worst].sum())
        left_out.append(
            LeftOut(worst.name, f"{count} of {len(rows)} models have finite weights here, too few to judge with others")
        )
    return tuple(kept), left_out


def _spectrum(gram: Gram, settings: EvidenceSettings, layers: int) -> LayerSpectrum:
    result = spectrum(gram, members=settings.members)
    band = None
    if result.total > 0:
        band = null_band(gram, draws=settings.draws, seed=settings.seed, members=settings.members)
    return LayerSpectrum(gram.layer, result, band, layers)


def _curve(gram: Gram, settings: EvidenceSettings, kept: int, report: Report) -> SampleCurve | None:
    members, share, seed = settings.members, settings.share, settings.seed
    try:
        return sample_curve(gram, members=members, kept=kept, share=share, seed=seed, report=report)
    except NotEnoughModels:
        return None


def _part(report: Report, start: float, span: float, head: str = "") -> Report:
    """Progress of one part as progress of the whole."""
    return lambda fraction, message: report(start + span * fraction, head + message)
