"""Names for groups of models that share layers: a short title, and an id that depends on the layers only."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

from uws_core.nouns.architectures import Architecture
from uws_core.nouns.models import LayerKey

# Where a common beginning of labels may end: `ppo/small/seed-0` and `ppo/small/seed-1` read `ppo/small`.
_WORDS = re.compile(r"[^/._ -]+[/._ -]+")
# Last words of a beginning that say nothing about the models.
_PLAIN = frozenset({"model", "seed", "checkpoint", "step", "epoch", "version"})
_DIGITS = 6


def described(groups: Sequence[tuple[str, Sequence[str], Sequence[LayerKey]]]) -> tuple[Architecture, ...]:
    """The groups (kind, labels, shared layers) with a title and an id, the most models first, each title once."""
    found = [_described(kind, labels, layers) for kind, labels, layers in groups]
    titles = Counter(item.title for item in found)
    named = [
        replace(item, title=f"{item.title} ({item.id[-_DIGITS:]})") if titles[item.title] > 1 else item
        for item in found
    ]
    return tuple(sorted(named, key=lambda item: -len(item.models)))


def matching(text: str, known: Sequence[Architecture]) -> Architecture | None:
    """The architecture that a text names: its id, its title in any case, or a part of one title only."""
    wanted = text.strip().casefold()
    for item in known:
        if wanted in (item.id.casefold(), item.title.casefold()):
            return item
    parts = [item for item in known if wanted and wanted in item.title.casefold()]
    return parts[0] if len(parts) == 1 else None


def _described(kind: str, labels: Sequence[str], layers: Sequence[LayerKey]) -> Architecture:
    whole = tuple(layer for layer in layers if not layer.factor) or tuple(layers)
    shape = _shape(whole)
    text = "\n".join([kind, *sorted(f"{layer.name} {layer.shape}" for layer in whole)])
    first, last = min(labels), max(labels)
    beginning = first[: next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))]
    words = _WORDS.findall(beginning)
    while words and words[-1].rstrip("/._ -").casefold() in _PLAIN:
        words.pop()
    name = "".join(words).rstrip("/._ -")
    noun = "adapters" if kind == "adapter" and "adapter" not in name.casefold() else ""
    return Architecture(
        id=f"{shape[0]}x{shape[1]}-{sha256(text.encode(errors='replace')).hexdigest()[:_DIGITS]}",
        title=" ".join(part for part in (name, noun, f"{shape[0]} x {shape[1]}") if part),
        kind=kind,
        models=tuple(labels),
        layers=whole,
    )


def _shape(layers: Sequence[LayerKey]) -> tuple[int, int]:
    """The commonest shape; among equals the one with the most weights."""
    counts = Counter(layer.shape for layer in layers)
    return max(counts, key=lambda shape: (counts[shape], shape[0] * shape[1]))
