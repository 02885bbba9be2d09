"""Tables of a measured merge: its layers and its members."""

from __future__ import annotations

import polars as pl

from uws_core.nouns.merging import Merge

HELP = {
    "layer": "The layer's short name.",
    "norm": "Distance of the merge to the base.",
    "mean_norm": "Distance of the members' plain mean to the base.",
    "off_mean": "Distance of the merge to the plain mean, as a share of mean_norm.",
    "rank": "Rank of the merged update.",
    "lost": "Share of the merge's energy that the cut to this rank loses.",
    "model": "The member's name.",
    "weight": "The member's weight.",
    "distance": "Distance of the merge to the member, as a share of the member's distance to the base: 1 is the base.",
    "survives": "Share of the member's update that the merge contains.",
}


def layers(merge: Merge) -> pl.DataFrame:
    """One row a layer: norms of merge and mean, their distance, and rank and loss of a merged adapter."""
    frame = {
        "layer": [layer.layer.short for layer in merge.layers],
        "norm": [layer.norm for layer in merge.layers],
        "mean_norm": [layer.mean_norm for layer in merge.layers],
        "off_mean": [layer.off_mean for layer in merge.layers],
    }
    if merge.kind == "adapters":
        frame |= {"rank": [layer.rank for layer in merge.layers], "lost": [layer.lost for layer in merge.layers]}
    return pl.DataFrame(frame)


def models(merge: Merge) -> pl.DataFrame:
    """One row a member: its weight, the merge's distance to it, and what of its update survives."""
    whole = merge.whole
    norms = whole.member_norms
    distances = [far / own if own > 0 else float("nan") for far, own in zip(whole.to_members, norms, strict=True)]
    return pl.DataFrame(
        {
            "model": merge.labels,
            "weight": merge.recipe.weight_of(len(merge.labels)),
            "distance": distances,
            "survives": whole.survives,
        }
    )
