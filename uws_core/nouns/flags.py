"""What a look at a collection's fingerprints shows: copies, and models that look as if they were started anew."""

from __future__ import annotations

from dataclasses import dataclass

from uws_core.nouns.lineage import Duplicate, Suspect


@dataclass(frozen=True, slots=True)
class Flag:
    """Models that a reader should look at: which, what they look like, and why, in words."""

    models: tuple[str, ...]
    what: str
    why: str


@dataclass(frozen=True, slots=True)
class LayerLook:
    """What one layer's Gram shows of its models: odd ones, and pairs that are nearly the same.

    `frozen` says that most pairs are: a layer that training left alone tells nobody's copy.
    """

    layer: str
    odd: tuple[Suspect, ...]
    copies: tuple[Duplicate, ...]
    frozen: bool
