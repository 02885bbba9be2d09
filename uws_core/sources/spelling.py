"""Gives the layers of models that only spell them otherwise the names that the other models use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from uws_core.nouns.models import LayerKey, LeftOut
from uws_core.sources.formats.tensor_names import nearest

# A model is spelled otherwise when so much of the usual layers is found under other names.
_SHARE = 0.5

Layers = Sequence[LayerKey]


def spelled_alike(models: Mapping[str, Layers]) -> tuple[dict[str, Layers], tuple[LeftOut, ...]]:
    """The layers of every model (by label) under the names that most models use, and a note for each other spelling.

    A layer gets another name only where `nearest` leads from that name to it and the shapes agree, and only in models
    of which half of the usual layers are found so: a prefix belongs to a whole model. Price: once a distinct layout.
    """
    layouts = Counter(tuple(layers) for layers in models.values())
    if len(layouts) < 2:
        return dict(models), ()
    # Among equals the first, which `Counter` keeps in front.
    usual = layouts.most_common(1)[0][0]
    spellings = {layout: _renamed(layout, usual) for layout in layouts}
    by_note: dict[LeftOut, list[str]] = {}
    found: dict[str, Layers] = {}
    for label, layers in models.items():
        names = spellings[tuple(layers)]
        found[label] = [LayerKey(names.get(layer.name, layer.name), layer.shape) for layer in layers]
        if names:
            own, other = next(iter(names.items()))
            by_note.setdefault(LeftOut(own, other), []).append(label)
    notes = []
    for note, labels in by_note.items():
        more = f" and {len(labels) - 1} more" if len(labels) > 1 else ""
        reason = f"its layers have other names, or another prefix: {note.what} is compared as {note.reason}"
        notes.append(LeftOut(labels[0] + more, reason))
    return found, tuple(notes)


def _renamed(layout: Layers, usual: Layers) -> dict[str, str]:
    """Own name to usual name of the layers that are spelled otherwise; nothing where too few are found."""
    own = {layer.name: layer.shape for layer in layout}
    taken = {layer.name: layer.shape for layer in usual}
    claims: dict[str, list[str]] = {}
    for name, shape in taken.items():
        # A name that the usual layout has too stays what it is.
        spelled = None if name in own else nearest(name, own)
        if spelled is not None and spelled not in taken and own[spelled] == shape:
            claims.setdefault(spelled, []).append(name)
    # One tower of a model with two may be either.
    names = {name: others[0] for name, others in claims.items() if len(others) == 1}
    known = sum(own.get(name) == shape for name, shape in taken.items())
    return names if known + len(names) >= _SHARE * len(usual) else {}
