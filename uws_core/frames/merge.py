"""Tables of a merge before it is written: methods, scales, what survives of each member, layers, scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from uws_core.nouns.merge_preview import BestScale, Compatibility, MergeScore, Standing

HELP = {
    "method": "How the models become one.",
    "scale": "The scale lambda: merge = base + lambda (merge at 1 - base).",
    "norm_to_mean": "|merge - base| / |mean - base|.",
    "norm_to_members": "|merge - base| over the root mean square of the members' own.",
    "distance_to_mean": "|merge - mean| / |mean - base|: 0 is the mean, 1 is as far from it as the base.",
    "mean_scale": "The scale of the mean that lies nearest to this merge.",
    "off_mean": "The share of the merge's length that no scale of the mean gives: the sine of the angle between them.",
    "distance_to_members": "Root mean square over members of |merge - member| / |member - base|; the base has 1.",
    "farthest_member": "The member that is farthest from the merge, relative to its own length.",
    "farthest": "Its distance, relative to its own length: 1 is as far as the base.",
    "least_kept": "The smallest share of a member's update that survives: <merge - base, tau> / |tau|^2.",
    "kept": "The share of the member's update that survives: <merge - base, tau> / |tau|^2.",
    "member": "The member's name.",
    "weight": "The member's weight.",
    "note": "What is special about this merge.",
    "layer": "The layer's short name.",
    "mean_cosine": "Mean cosine of two members' updates.",
    "least_cosine": "Smallest cosine of two members' updates: below 0 they are opposed.",
    "chance": "Opposed by more than this, 1 in 20 networks of independent updates would be in some layer.",
    "survives": "Energy of the mean over the mean energy of the updates: 1 for equal ones, 1 / n for orthogonal ones.",
    "opposed": "Share of entries where two updates have opposite signs, mean over pairs.",
    "excess": "That share beyond what the cosine predicts, for the pair where it is surest.",
    "z": "The excess in units of its jackknife error.",
    "overlap": "Mean squared cosine of the members' leading directions, both sides.",
    "overlap_chance": "The same of random directions.",
    "collides": "Opposed, in cosine or in signs, beyond chance.",
    "left": "One model.",
    "right": "The other model.",
    "cosine": "Cosine of the two updates.",
    "norm_ratio": "The longer update over the shorter one.",
    "copies": "Near copies by their raw weights.",
    "best_scale": "The scale with the best mean score on half of the test data.",
    "score_kept": "Score over the member's own, mean over members, at that scale, on the other half.",
    "worst_kept": "The same of the worst member.",
    "worst_member": "The worst member.",
    "model": "The member whose task was tried, with its own head.",
    "choose": "Score on the half of the test data that chooses the scale.",
    "judge": "Score on the other half.",
}


def methods(
    standings: Sequence[Standing],
    labels: Sequence[str],
    *,
    names: Mapping[str, str] | None = None,
    best: Sequence[BestScale] = (),
) -> pl.DataFrame:
    """One row a method at its one scale: norms, distances, what survives; with scores where there are some."""
    scored = {one.method: one for one in best}
    rows = []
    for one in standings:
        distances, kept = one.distance_to_members[0, 0], one.kept[0, 0]
        known = np.isfinite(distances).any()
        far = int(np.nanargmax(distances)) if known else 0
        rows.append(
            {
                "method": (names or {}).get(one.method, one.method),
                "scale": float(one.scales[0]),
                "distance_to_mean": float(one.distance_to_mean[0, 0]),
                "off_mean": float(one.off_mean[0]),
                "mean_scale": float(one.mean_scale[0, 0]),
                "norm_to_mean": float(one.norm_to_mean[0, 0]),
                "norm_to_members": float(one.norm_to_members[0, 0]),
                "farthest_member": labels[far] if known else None,
                "farthest": float(distances[far]),
                "least_kept": float(np.nanmin(kept)) if known else float("nan"),
                **_score_columns(scored.get(one.method), bool(best)),
                "note": one.note,
            }
        )
    return pl.DataFrame(rows)


def _score_columns(best: BestScale | None, there: bool) -> dict[str, object]:
    if not there:
        return {}
    if best is None:
        return {"best_scale": None, "score_kept": None, "worst_kept": None, "worst_member": None}
    return {
        "best_scale": best.scale,
        "score_kept": best.kept,
        "worst_kept": best.worst,
        "worst_member": best.worst_model,
    }


def sweep(standings: Sequence[Standing], *, names: Mapping[str, str] | None = None) -> pl.DataFrame:
    """One row a method and scale, over all layers together."""
    frames = [
        pl.DataFrame(
            {
                "method": [(names or {}).get(one.method, one.method)] * one.scales.size,
                "scale": one.scales,
                "distance_to_members": np.sqrt(np.nanmean(one.distance_to_members[:, 0] ** 2, axis=1)),
                "distance_to_mean": one.distance_to_mean[:, 0],
                "norm_to_members": one.norm_to_members[:, 0],
            }
        )
        for one in standings
        if np.isfinite(one.distance_to_members[:, 0]).any()
    ]
    return pl.concat(frames) if frames else pl.DataFrame(schema={"method": pl.String, "scale": pl.Float64})


def kept(
    standings: Sequence[Standing], labels: Sequence[str], *, names: Mapping[str, str] | None = None
) -> pl.DataFrame:
    """One row a member and method: the share of the member's update that survives, and the distance."""
    return pl.DataFrame(
        [
            {
                "member": label,
                "method": (names or {}).get(one.method, one.method),
                "kept": float(one.kept[0, 0, place]),
                "distance": float(one.distance_to_members[0, 0, place]),
            }
            for one in standings
            for place, label in enumerate(labels)
        ]
    )


def layers(compatibility: Compatibility) -> pl.DataFrame:
    """One row a layer: cosines with their chance, what survives in the mean, opposed signs, overlap."""
    fields = (
        *("mean_cosine", "least_cosine", "chance", "survives", "opposed", "excess", "z", "overlap"),
        *("overlap_chance", "collides"),
    )
    return pl.DataFrame(
        {"layer": [one.layer.short for one in compatibility.layers]}
        | {name: [getattr(one, name) for one in compatibility.layers] for name in fields}
    )


def pairs(compatibility: Compatibility) -> pl.DataFrame:
    """One row a pair of members, the most opposed first: cosine of the updates, ratio of norms, near copies."""
    rows, columns = np.triu_indices(len(compatibility.labels), 1)
    longest, shortest = (
        np.maximum(compatibility.norms[rows], compatibility.norms[columns]),
        np.minimum(compatibility.norms[rows], compatibility.norms[columns]),
    )
    ratio = np.divide(longest, shortest, out=np.full(longest.shape, np.nan), where=shortest > 0)
    return pl.DataFrame(
        {
            "left": [compatibility.labels[row] for row in rows],
            "right": [compatibility.labels[column] for column in columns],
            "cosine": compatibility.cosines[rows, columns],
            "norm_ratio": ratio,
            "copies": compatibility.copies[rows, columns],
        }
    ).sort("cosine", nulls_last=True)


def scores(points: Sequence[MergeScore], *, names: Mapping[str, str] | None = None) -> pl.DataFrame:
    """One row a method, scale and member."""
    return pl.DataFrame(
        {
            "method": [(names or {}).get(point.method, point.method) for point in points],
            "scale": [point.scale for point in points],
            "model": [point.model for point in points],
            "choose": [point.choose for point in points],
            "judge": [point.judge for point in points],
        }
    )
