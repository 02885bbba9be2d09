"""Frames of a collection: its models with their attributes, its layers with their spectra, and what is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from uws_core.nouns.models import Collection, LeftOut
from uws_core.nouns.spectrum import LayerSpectrum

# Every column, its unit and its formula.
HELP: Mapping[str, str] = {
    "model": "Short name of the model, unique in the collection.",
    "commit": "Digest of the content: header, size and a sample of every tensor; on the Hub, the commit.",
    "source": "Where the model was read from.",
    "layer": "Full name of the layer in the files.",
    "short": "Name on the figures.",
    "module": "What the layer does in its block: equal at every depth.",
    "depth": "Block the layer stands in.",
    "outputs": "Rows of the matrix, m.",
    "inputs": "Columns of the matrix, p; of a convolution, input channels x kernel height x width.",
    "weights": "Number of weights a model has in this layer, d = m p.",
    "bytes": "What reading this layer of the chosen models moves, as it is stored; told by the headers alone.",
    "scree": "Share of the variance that each direction carries, strongest first; empty until the layer was read.",
    "rank": "Fewest directions that carry the chosen share of the variance of the chosen models.",
    "what": "A model, a tensor, or a file.",
    "reason": "Why it is not compared.",
}


def models(collection: Collection, members: Sequence[int] | None = None) -> pl.DataFrame:
    """One row a model: its name, its attributes, and which content it is; `members` are indices, None is all.

    A column whose values are of several kinds is written as text.
    """
    rows = range(len(collection)) if members is None else members
    refs = [collection.refs[i] for i in rows]
    columns = {
        name: pl.Series(name, [values[i] for i in rows], strict=False) for name, values in collection.table.items()
    }
    own = {"model": [collection.labels[i] for i in rows]}
    content = {"commit": [ref.commit[:12] for ref in refs], "source": [ref.repo for ref in refs]}
    return pl.DataFrame({**content, **own, **columns}).select(*own, *(c for c in columns if c not in own), *content)


def layers(
    collection: Collection,
    known: Mapping[str, LayerSpectrum],
    *,
    share: float = 0.9,
    names: Sequence[str] | None = None,
    sizes: Mapping[str, int] | None = None,
) -> pl.DataFrame:
    """One row a layer: its place, shape and cost in `sizes`, and scree and rank at `share` for those in `known`.

    Both tables are by full name; without an entry the cell is empty.
    """
    kept = None if names is None else set(names)
    rows = [
        {
            "short": key.short,
            "module": key.module,
            "depth": key.depth,
            "outputs": key.shape[0],
            "inputs": key.shape[1],
            "weights": key.entries,
            "bytes": (sizes or {}).get(key.name),
            "scree": _shares(known.get(key.name)),
            "rank": _rank(known.get(key.name), share),
            "layer": key.name,
        }
        for key in collection.layers
        if kept is None or key.name in kept
    ]
    return pl.DataFrame(rows, schema=_LAYERS)


def left_out(items: Sequence[LeftOut]) -> pl.DataFrame:
    """One row for everything that is not compared, with its reason."""
    rows = [{"what": one.what, "reason": one.reason} for one in items]
    return pl.DataFrame(rows, schema={"what": pl.String, "reason": pl.String})


_LAYERS: Mapping[str, pl.DataType | type[pl.DataType]] = {
    "short": pl.String,
    "module": pl.String,
    "depth": pl.Int64,
    "outputs": pl.Int64,
    "inputs": pl.Int64,
    "weights": pl.Int64,
    "bytes": pl.Int64,
    "scree": pl.List(pl.Float64),
    "rank": pl.Int64,
    "layer": pl.String,
}


def _shares(item: LayerSpectrum | None) -> list[float] | None:
    if item is None:
        return None
    return [float(share) for share in item.spectrum.ratio[: item.spectrum.ceiling]]


def _rank(item: LayerSpectrum | None, share: float) -> int | None:
    return None if item is None else item.spectrum.rank_for(share).k
