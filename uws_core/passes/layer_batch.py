"""Several small layers in one opening of the models, which takes longer than reading them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

from uws_core.analysis.cores import one_core_each
from uws_core.errors import Cancelled, UwsError
from uws_core.nouns.gram import Gram
from uws_core.nouns.models import Collection, LayerKey
from uws_core.passes.gram import gram, of_opened, rows_of
from uws_core.passes.open_models import BUDGET, Report, full_single_precision, opened, silent
from uws_core.sources.ahead import fetch_ahead


def grams(
    collection: Collection,
    layers: Sequence[LayerKey],
    *,
    device: str = "auto",
    precision: str = "auto",
    budget: int = BUDGET,
    report: Report | None = None,
) -> list[Gram | UwsError]:
    """What `gram` makes of each layer of one of `blocks.bunches`, or what is wrong with it alone.

    Nothing is returned before all models were found unchanged after the last read.

    Raises:
        SourceError: a model cannot be opened, or changed meanwhile.
        Cancelled: `report` was told to stop.
    """
    told = {"device": device, "precision": precision, "budget": budget}
    if len(layers) == 1:
        return [gram(collection, layers[0], report=report, **told)]  # type: ignore[arg-type]
    total, behind, found, tell = sum(key.entries for key in layers), 0, list[Gram | UwsError](), report or silent

    def inside(fraction: float, message: str) -> None:
        tell((behind + fraction * key.entries) / total, message)

    with opened(rows_of(collection, layers)) as sources, full_single_precision():
        thin = any(key.name in sources[0].thin for key in layers)
        # Dense layers would ask for it one by one, which takes as long as computing them.
        with nullcontext() if thin else one_core_each():
            fetch_ahead(sources, layers, report=report)
            for key in layers:
                # All of them may be more than is kept.
                fetch_ahead(sources, [key], report=report)
                try:
                    found.append(of_opened(collection, key, sources, report=inside, **told))  # type: ignore[arg-type]
                except Cancelled:
                    raise
                except UwsError as error:
                    found.append(error)
                behind += key.entries
                tell(behind / total, f"{key.short}: {len(collection)} models")
    return found
