"""What a report is made of: every claim judged in every layer and over all, lineage, spectrum, growth with n."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from uws_core import run
from uws_core.analysis.lineage import lineage
from uws_core.analysis.nulls import null_band
from uws_core.analysis.over_layers import over_layers
from uws_core.analysis.sample_size import sample_curve
from uws_core.analysis.spectrum import spectrum
from uws_core.errors import NotEnoughModels
from uws_core.nouns.evidence import Evidence, Pooled, SampleCurve
from uws_core.nouns.gram import Gram
from uws_core.nouns.lineage import Lineage
from uws_core.nouns.models import Collection, LayerKey, LeftOut, by_model
from uws_core.nouns.spectrum import LayerSpectrum
from uws_core.reporting.evidence_cache import EvidenceSettings, affordable, cached_evidence, whole_checkpoint
from uws_core.store.results import Store

Report = Callable[[float, str], None]

# What all layers together may take on a modest machine: the rest of a minute is for reading, drawing and writing.
LAYERS_SECONDS = 15.0
# The parts of the whole: reading, judging layer by layer, judging the sum, growth with n.
_READ, _LAYERS, _WHOLE = 0.3, 0.8, 0.9


@dataclass(frozen=True)
class ReportData:
    """Everything a report tells: `whole` is the evidence of all layers as one, `layers` that of each with its key.

    `asked` is what was settings, `draws` how many draws each layer had; `curve` is missing where models are too few.
    """

    collection: Collection
    settings: EvidenceSettings
    draws: int
    whole: Evidence
    layers: tuple[tuple[LayerKey, Evidence], ...]
    pooled: tuple[Pooled, ...]
    family: Lineage
    gram: Gram
    seen: LayerSpectrum
    curve: SampleCurve | None
    left_out: tuple[LeftOut, ...]

    @property
    def keys(self) -> tuple[LayerKey, ...]:
        """The layers."""
        return tuple(key for key, _ in self.layers)

    @property
    def notes(self) -> tuple[str, ...]:
        """What must be known of the numbers."""
        said = []
        if self.draws < self.settings.draws and len(self.layers) > 1:
            said.append(
                f"Each layer was judged with {self.draws} draws of chance and all layers as one with "
                f"{self.settings.draws}: so many layers would take too long otherwise"
            )
        if self.curve is None:
            said.append("There are too few models to see how numbers change with their number")
        return tuple(said)


def gather(
    collection: Collection,
    layers: Sequence[str] | None,
    settings: EvidenceSettings,
    *,
    store: Store | None = None,
    report: Report | None = None,
) -> ReportData:
    """Everything a report tells, with what the store has already; `layers` None is all but factor views.

    Raises:
        NotEnoughModels: fewer than two usable models.
        UwsError: whatever a pass raises.
        Cancelled: `report` was told to stop; what was judged is kept.
    """
    tell = report if report is not None else (lambda fraction, message: None)
    keys = run.chosen_layers(collection, layers)
    names = [key.name for key in keys]
    found = {gram.layer.name: gram for gram in run.scan(collection, names, store=store, report=_part(tell, 0.0, _READ))}
    grams = [found[name] for name in names]
    settings = _with_whole(settings, collection)
    draws = affordable(len(settings.members), len(keys), settings.draws, within=LAYERS_SECONDS)
    each = []
    for place, (key, gram) in enumerate(zip(keys, grams, strict=True)):
        span = (_LAYERS - _READ) / len(keys)
        part = _part(tell, _READ + place * span, span, f"{key.short}: ")
        one = cached_evidence(
            collection, [key.name], replace(settings, draws=draws), store=store, grams=[gram], report=part
        )
        each.append((key, one))
    part = _part(tell, _LAYERS, _WHOLE - _LAYERS, "all layers as one: ")
    whole = cached_evidence(collection, names, settings, store=store, grams=grams, report=part)
    gram = run.whole_network(grams)
    every = (*collection.left_out, *by_model(one for gram in grams for one in gram.left_out))
    return ReportData(
        collection=collection,
        settings=settings,
        draws=draws,
        whole=whole,
        layers=tuple(each),
        pooled=over_layers([one for _, one in each]),
        family=_family(gram, grams, settings),
        gram=gram,
        seen=_spectrum(gram, settings, len(keys)),
        curve=_curve(gram, settings, whole.kept, _part(tell, _WHOLE, 1 - _WHOLE, "growth with n: ")),
        left_out=tuple(dict.fromkeys(every)),
    )


def _family(gram: Gram, grams: Sequence[Gram], settings: EvidenceSettings) -> Lineage:
    return lineage(gram, members=settings.members, about="base" if gram.base is not None else "zero", layers=grams)


def _with_whole(settings: EvidenceSettings, collection: Collection) -> EvidenceSettings:
    """The question with the size of a whole checkpoint, for the second storage ratio."""
    return (
        settings
        if settings.whole is not None
        else replace(settings, whole=whole_checkpoint(collection, settings.members))
    )


def _spectrum(gram: Gram, settings: EvidenceSettings, layers: int) -> LayerSpectrum:
    seen = spectrum(gram, members=settings.members)
    band = (
        null_band(gram, draws=settings.draws, seed=settings.seed, members=settings.members) if seen.total > 0 else None
    )
    return LayerSpectrum(gram.layer, seen, band, layers)


def _curve(gram: Gram, settings: EvidenceSettings, kept: int, report: Report) -> SampleCurve | None:
    try:
        return sample_curve(
            gram, members=settings.members, kept=kept, share=settings.share, seed=settings.seed, report=report
        )
    except NotEnoughModels:
        return None


def _part(report: Report, start: float, span: float, head: str = "") -> Report:
    """A piece of the work as a part of the whole."""
    return lambda fraction, message: report(start + span * fraction, head + message)
