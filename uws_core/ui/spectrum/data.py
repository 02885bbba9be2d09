"""The spectrum page's answers: one layer, several side by side, their mean, or all of them as one network."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
import streamlit as st

from uws_core import run
from uws_core.analysis import nulls
from uws_core.analysis.spectrum import pooled, spectrum
from uws_core.analysis.steps import reported
from uws_core.answers import shared_directions
from uws_core.answers.spectrum import answer
from uws_core.errors import StoreError, UwsError
from uws_core.frames import spectrum as frames
from uws_core.jobs import Report
from uws_core.nouns.chance import NullBand
from uws_core.nouns.gram import Axis, Gram
from uws_core.nouns.models import LeftOut, by_model
from uws_core.nouns.query import Query
from uws_core.nouns.spectrum import LayerSpectrum, Rank
from uws_core.store.codec import gram_key, sequence_from_bytes, to_bytes
from uws_core.store.results import default_store
from uws_core.ui import grams, tasks
from uws_core.ui.catalogue import catalogue
from uws_core.ui.spectrum import sides

# One multiply-add of a drawn n x n matrix's decomposition; 200 draws at n = 40 take 25 ms.
_SECONDS_PER_STEP = 2e-9
# Noise of several layers that takes longer is left to be asked for one layer at a time.
MOST_NOISE_SECONDS = 10.0
# A page waits so long for the noise of one layer; longer work is a job. What takes less is not kept in the store.
INLINE_SECONDS, LEAST_STORED_SECONDS = 2.0, 0.5


@dataclass(frozen=True, slots=True)
class SpectrumResult:
    """What the spectrum page shows of a query.

    `frame` is what the curves are drawn from, with one row a direction; `lines` has one such frame a layer where
    several are drawn side by side, and then `frame` is all of them with their names. `band` is that of `frame`.
    """

    items: tuple[LayerSpectrum, ...]
    frame: pl.DataFrame
    band: NullBand | None = None
    lines: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()
    # The noise that was asked for.
    null: str = "none"

    @property
    def ceiling(self) -> int:
        """The most directions there can be."""
        return max(item.spectrum.ceiling for item in self.items)

    @property
    def floor(self) -> float:
        """The share below which a variance is rounding, where one spectrum is shown."""
        only = self.items[0].spectrum
        return min(only.floor / only.total, 1.0) if len(self.items) == 1 and only.total > 0 else 0.0

    @property
    def below_precision(self) -> bool:
        """Whether single precision hides something here that double precision would tell."""
        return any(item.spectrum.below_precision and item.spectrum.single for item in self.items)

    @property
    def notes(self) -> tuple[str, ...]:
        """What must be known of the noise: what stands in for it, what it does not cover, and why there is none."""
        if len(self.items) == 1 and self.band is not None:
            return tuple(
                f"{note[:1].upper()}{note[1:]}." for note in shared_directions.notes(self.band.shared, null=self.null)
            )
        missing = [out for item in self.items for out in item.spectrum.left_out if out.what.startswith("noise in ")]
        if not missing:
            return ()
        more = f" The same holds in {len(missing) - 1} more layers." if len(missing) > 1 else ""
        return (f"There is no {missing[0].what}: {missing[0].reason}.{more}",)

    def rank(self, share: float) -> Rank:
        """The fewest directions that carry `share`: of the one spectrum, or of the mean over layers."""
        if len(self.items) == 1:
            return self.items[0].spectrum.rank_for(share)
        reached = np.flatnonzero(self.frame["cumulative"].to_numpy() >= share - 1e-12)
        return Rank(int(reached[0]) + 1) if reached.size else Rank(self.frame.height, censored=True)

    def answer(self, share: float) -> str:
        """The sentence that answers the page's question."""
        return answer(self.items, share=share)


def result_of(query: Query) -> SpectrumResult:
    """What these layers of these models show.

    Raises:
        NotEnoughModels: fewer than two usable models, or no layer in which they differ.
        LayerError: none of the layers can be seen about this centre.
    """
    results, left_out = items(query)
    left_out += by_model(out for item in results for out in (*item.left_out, *item.spectrum.left_out))
    if len(results) == 1:
        only = results[0]
        frame = frames.scree(only.spectrum, only.band)
        return SpectrumResult(results, frame, only.band, left_out=left_out, null=query.null)
    if query.pool == "mean":
        band = _pooled_band(results)
        return SpectrumResult(
            results, frames.pooled(pooled(item.spectrum for item in results), band), band, left_out=left_out
        )
    lines = {item.layer.short: frames.scree(item.spectrum, item.band) for item in results}
    named = [line.select(pl.lit(name).alias("layer"), pl.all()) for name, line in lines.items()]
    return SpectrumResult(results, pl.concat(named), None, lines, left_out)


def overview(query: Query, *, noise: bool) -> pl.DataFrame:
    """One row a layer of the query: rank at its share, effective rank, and with `noise` where chance stands."""
    every_layer = replace(query, pool="each", share=0.9, axis=Axis.MODELS.value, null=query.null if noise else "none")
    try:
        results, _ = items(every_layer)
    except UwsError:
        results = ()
    return frames.overview(results, share=query.share)


def items(query: Query) -> tuple[tuple[LayerSpectrum, ...], tuple[LeftOut, ...]]:
    """One item a layer or one for the sum, and the layers that cannot be seen so.

    Raises:
        UwsError: no layer can be seen so; the first one's reason.
    """
    plain = replace(query, share=0.9, k=16, group="")
    if query.pool == "sum" or len(query.layers) == 1:
        return (item(replace(plain, pool="sum")),), ()
    results: list[LayerSpectrum] = []
    problems: list[tuple[str, UwsError]] = []
    for name in query.layers:
        try:
            results.append(item(replace(plain, layers=(name,), pool="sum")))
        except UwsError as error:
            problems.append((name, error))
    if not results:
        raise problems[0][1]
    return tuple(results), tuple(LeftOut(name, str(error)) for name, error in problems)


# Twenty questions a page: hashed as one text each, not field by field.
@st.cache_data(max_entries=4096, max_size="256mb", show_spinner=False, hash_funcs={Query: repr})
def item(query: Query) -> LayerSpectrum:
    """The spectrum and the band of one layer, or of all the query's layers as one.

    Raises:
        NotEnoughModels: fewer than two usable models are chosen.
        LayerError: an unknown centre.
    """
    if query.axis != Axis.MODELS:
        return sides.item(query)
    every = tuple(grams.of(query))
    gram = every[0] if len(every) == 1 else run.whole_network(every)
    about, unit = query.about, query.unit
    layer_spectrum = spectrum(gram, members=query.members, about=about, unit=unit)
    band = _band(query, gram) if query.null != "none" and layer_spectrum.total > 0 else None
    left_out = grams.of_members(every, query.members)
    return LayerSpectrum(layer=gram.layer, spectrum=layer_spectrum, band=band, layers=len(every), left_out=left_out)


def noise_task(query: Query) -> tasks.Task:
    """Drawing the noise of one layer, or of all the query's layers as one, into the store."""
    what = "one layer" if len(query.layers) == 1 else f"{len(query.layers)} layers as one"

    def work(report: Report) -> None:
        every = tuple(grams.of(query))
        # Where it cannot be drawn the page says why.
        with reported(report), suppress(UwsError):
            _band(query, every[0] if len(every) == 1 else run.whole_network(every))

    return tasks.Task(
        key=tasks.key_of("noise", *_asked(query)),
        title=f"Drawing noise for {what} of {len(query.members)} models",
        seconds=noise_seconds(query),
        bytes=0,
        work=work,
        inline=INLINE_SECONDS,
    )


def _band(query: Query, gram: Gram) -> NullBand:
    """The noise of one Gram, from the store where it takes long."""
    long = noise_seconds(query) >= LEAST_STORED_SECONDS
    key = tasks.key_of("band", *_asked(query)) if long else ""
    raw = default_store().get(key) if long else None
    if raw is not None:
        with suppress(StoreError, IndexError):
            return sequence_from_bytes(NullBand, raw)[0]
    band = nulls.null_band(
        gram,
        kind=query.null,
        draws=query.draws,
        seed=query.seed,
        members=query.members,
        about=query.about,
        unit=query.unit,
    )
    if long:
        with suppress(StoreError):
            default_store().put(key, to_bytes((band,)))
    return band


def _asked(query: Query) -> tuple[object, ...]:
    """What noise depends on: the query without its place, and the contents behind it, the base's among them."""
    collection = catalogue().get(query.collection)
    keys = () if collection is None else tuple(gram_key(collection, collection.by_name[n]) for n in query.layers)
    return replace(query, collection="", share=0.9, k=16, group="", pool="sum"), keys


def noise_seconds(query: Query) -> float:
    """About how long the noise of a query takes to draw the first time."""
    count = 1 if query.pool == "sum" else len(query.layers)
    return count * query.draws * len(query.members) ** 3 * _SECONDS_PER_STEP


def _pooled_band(results: tuple[LayerSpectrum, ...]) -> NullBand | None:
    bands = [item.band for item in results if item.band is not None and item.spectrum.resolved]
    return nulls.pooled_band(bands) if bands else None
