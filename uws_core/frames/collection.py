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
    "module": "Name of the layer inside its block, equal at every depth.",
    "depth": "Block the layer stands in.",
    "outputs": "Rows of the matrix, m.",
    "inputs": "Columns of the matrix, p; of a convolution, input channels x kernel height x width.",
    "weights": "Number of weights a model has in this layer, d = m p.",
    "bytes": "Bytes read for this layer of the chosen models, as stored; known from the headers.",
    "scree": "Share of the variance that each direction carries, strongest first; empty until the layer is read.",
    "rank": "Fewest directions that carry the chosen share of the variance of the chosen models.",
    "models": "Number of models that have this layer in this shape.",
    "of": "Number of models that could have it.",
    "what": "A model, a tensor, or a file.",
    "reason": "Why it is not compared.",
}


def models(collection: Collection, members: Sequence[int] | None = None) -> pl.DataFrame:
    """One row a model: name, attributes, commit and source; `members` are indices, None is all.

    A column with values of several types becomes text.
    """
    rows = range(len(collection)) if members is None else members
    refs = [collection.refs[i] for i in rows]
    columns = {
        name: pl.Series(name, [values[i] for i in rows], strict=False) for name, values in collection.table.items()
    }
    own = {"model": [collection.labels[i] for i in rows]}
    content = {"commit": [ref.commit[:12] for ref in refs], "source": [ref.repo for ref in refs]}
    return pl.DataFrame({**content, **own, **columns}).select(*own, *(c for c in columns if c not in own), *content)


def partial(collection: Collection) -> pl.DataFrame:
    """One row a layer that part of the models have: name, shape, and how many have it."""
    rows = [(item.key.name, *item.key.shape, len(item.models), item.of) for item in collection.partial]
    columns = {"layer": pl.String, "outputs": pl.Int64, "inputs": pl.Int64, "models": pl.Int64, "of": pl.Int64}
    return pl.DataFrame(rows, schema=columns, orient="row")


def layers(
    collection: Collection,
    known: Mapping[str, LayerSpectrum],
    *,
    share: float = 0.9,
    names: Sequence[str] | None = None,
    sizes: Mapping[str, int] | None = None,
) -> pl.DataFrame:
    """One row a layer: position, shape, bytes from `sizes`, and scree and rank at `share` from `known`.

    Both mappings are by full layer name; a missing entry leaves the cell empty.
    """
    chosen = None if names is None else set(names)
    spectra = {name: item.spectrum for name, item in known.items()}
    rows = [
        {
            "short": key.short,
            "module": key.module,
            "depth": key.depth,
            "outputs": key.shape[0],
            "inputs": key.shape[1],
            "weights": key.entries,
            "bytes": (sizes or {}).get(key.name),
            "scree": None if spectrum is None else spectrum.ratio[: spectrum.ceiling].tolist(),
            "rank": None if spectrum is None else spectrum.rank_for(share).k,
            "layer": key.name,
        }
        for key in collection.layers
        if chosen is None or key.name in chosen
        for spectrum in [spectra.get(key.name)]
    ]
    return pl.DataFrame(rows, schema=_LAYERS)


def left_out_frame(items: Sequence[LeftOut]) -> pl.DataFrame:
    """One row for every model, tensor or file that is not compared, with the reason."""
    rows = [{"what": item.what, "reason": item.reason} for item in items]
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
