"""Frames of a Hub listing, before any weights are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from uws_core.nouns.hub import HubModel

HELP: Mapping[str, str] = {
    "model": "Repository on the Hub, owner/name, with the chosen part.",
    "weights": "safetensors where the repository has them; other formats are not read.",
    "access": "open, or gated or private: read only with a token that was granted access.",
    "task": "The task in the model card.",
    "base": "The base model that the card names.",
    "relation": "Relation to its base: adapter, finetune, quantized or merge.",
    "license": "The license that the card names.",
    "datasets": "The data that the card names.",
    "author": "The account it belongs to.",
    "downloads": "Downloads in the last 30 days, as the Hub counts them.",
    "likes": "Likes on the Hub.",
    "created": "The day the repository was made.",
    "commit": "The commit that will be read.",
}


def models(items: Sequence[HubModel]) -> pl.DataFrame:
    """One row a model in the given order; an empty text is unknown."""
    rows = [
        {
            "model": f"{model.repo}#{model.part}" if model.part else model.repo,
            "weights": "safetensors" if model.has_safetensors else "none",
            "access": "open" if model.open_to_all else "gated or private",
            "task": model.task,
            "base": model.base,
            "relation": model.relation,
            "license": model.license,
            "datasets": model.datasets,
            "author": model.author,
            "downloads": model.downloads,
            "likes": model.likes,
            "created": model.created,
            "commit": model.commit[:12],
        }
        for model in items
    ]
    whole = {"downloads", "likes"}
    return pl.DataFrame(rows, schema={name: pl.Int64 if name in whole else pl.String for name in HELP})
