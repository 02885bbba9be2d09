"""Frames of what the Hub tells before anything is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from uws_core.nouns.hub import HubModel

HELP: Mapping[str, str] = {
    "model": "Repository on the Hub, owner/name, with the part that was asked for.",
    "weights": "Whether safetensors are there; other formats are not read.",
    "access": "open, or gated or private: read only with a token that was granted access.",
    "task": "What the card says the model is for.",
    "base": "The base model that the card names.",
    "relation": "How it came from its base: adapter, finetune, quantized or merge.",
    "license": "The license that the card names.",
    "datasets": "The data that the card names.",
    "author": "The account it belongs to.",
    "downloads": "Downloads in the last 30 days, as the Hub counts them.",
    "likes": "Likes on the Hub.",
    "created": "The day the repository was made.",
    "commit": "The commit that would be read.",
}


def models(found: Sequence[HubModel]) -> pl.DataFrame:
    """One row a model in the order found; an empty text is unknown."""
    rows = [
        {
            "model": f"{one.repo}#{one.part}" if one.part else one.repo,
            "weights": "safetensors" if one.has_safetensors else "none",
            "access": "open" if one.open_to_all else "gated or private",
            "task": one.task,
            "base": one.base,
            "relation": one.relation,
            "license": one.license,
            "datasets": one.datasets,
            "author": one.author,
            "downloads": one.downloads,
            "likes": one.likes,
            "created": one.created,
            "commit": one.commit[:12],
        }
        for one in found
    ]
    whole = {"downloads", "likes"}
    return pl.DataFrame(rows, schema={name: pl.Int64 if name in whole else pl.String for name in HELP})
