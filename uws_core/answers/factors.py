"""What must be said where an adapter's factor is shown by itself."""

from __future__ import annotations

from collections.abc import Iterable

from uws_core.nouns.models import LayerKey


def gauge_notes(layers: Iterable[LayerKey]) -> tuple[str, ...]:
    """A warning where factors are among the layers: their numbers depend on how the adapter is written down."""
    factors = [layer.short for layer in layers if layer.factor]
    if not factors:
        return ()
    return (
        f"{', '.join(factors[:3])}{' and more' if len(factors) > 3 else ''}: the factors of an adapter are defined "
        "only up to an invertible matrix between them, which changes what is shown here and not what the adapter does; "
        "the update itself is the layer without A or B.",
    )
