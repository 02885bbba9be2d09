"""Tables of a compression: its rivals, its models, its layers."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from uws_core.nouns.arrays import Floats
from uws_core.nouns.storage import Compression, SizePoint

HELP = {
    "way": "How the same bytes are spent.",
    "bytes": "Bytes of the chosen layers of all models, without what travels untouched.",
    "worst_error": "The largest relative error of any model.",
    "median_error": "The median model's relative error.",
    "note": "Bits an entry, or why this way does not exist at this size.",
    "model": "The model's name.",
    "error": "Relative error in the shared basis, over all chosen layers.",
    "own_svd_error": "Relative error of the model's own truncated SVD at the same bytes.",
    "held_out_error": "Relative error in the basis that is made without the model's group.",
    "folder_bytes": "Bytes of the whole folder, with what travels untouched.",
    "score": "The median of the models' scores relative to their own.",
    "layer": "The layer's short name.",
    "method": "How the layer is shared.",
    "k": "Directions a side.",
    "shared_numbers": "Numbers stored once for all models.",
    "numbers_per_model": "Numbers stored for each model.",
}


def rivals(compression: Compression) -> pl.DataFrame:
    """One row a way to spend the bytes: bytes, the worst and the median model's relative error, a note."""
    rows = [("shared basis", compression.bytes - compression.untouched_bytes, compression.errors, "")]
    rows += [(rival.name, rival.bytes, rival.errors, rival.note) for rival in compression.rivals]
    return pl.DataFrame(
        {
            "way": [name for name, _, _, _ in rows],
            "bytes": [size for _, size, _, _ in rows],
            "worst_error": [float(errors.max()) for _, _, errors, _ in rows],
            "median_error": [float(pl.Series(errors).median()) for _, _, errors, _ in rows],  # type: ignore[arg-type]
            "note": [note for _, _, _, note in rows],
        }
    )


def models(compression: Compression, held_out: Floats | None = None) -> pl.DataFrame:
    """One row a model, the worst first: its relative error in the shared basis and with its own SVD.

    With `held_out` (n,) also in the basis that is made without its group.
    """
    own = compression.rival("own SVD").errors
    columns = {"model": compression.labels, "error": compression.errors, "own_svd_error": own}
    frame = pl.DataFrame(columns if held_out is None else columns | {"held_out_error": held_out})
    return frame.sort("error", descending=True)


def curve(points: Sequence[SizePoint]) -> pl.DataFrame:
    """One row a way and size: bytes of the folder, the worst and the median model's error."""
    return pl.DataFrame(
        {
            "way": [point.way for point in points],
            "folder_bytes": [point.bytes for point in points],
            "worst_error": [point.worst for point in points],
            "median_error": [point.median for point in points],
        }
    )


def scores(points: Sequence[SizePoint]) -> pl.DataFrame:
    """One row a way and size: bytes of the folder, the median of the models' scores relative to their own."""
    return pl.DataFrame(
        {
            "way": [point.way for point in points],
            "folder_bytes": [point.bytes for point in points],
            "score": [point.score for point in points],
        }
    )


def layers(compression: Compression) -> pl.DataFrame:
    """One row a layer: directions, numbers stored once and for each model, the worst model's error."""
    return pl.DataFrame(
        {
            "layer": [plan.layer.short for plan in compression.layers],
            "method": [str(plan.method) for plan in compression.layers],
            "k": [plan.k for plan in compression.layers],
            "shared_numbers": [plan.shared_numbers for plan in compression.layers],
            "numbers_per_model": [plan.member_numbers for plan in compression.layers],
            "worst_error": compression.layer_errors.max(axis=1),
        }
    )
