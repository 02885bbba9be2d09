"""What the pages of angles and reconstruction ask for: plain text and numbers, so that answers are kept under them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AnglesQuery:
    """Whose directions are compared: of single `models`, of `groups`, random `halves` or `layers`, or with the `base`.

    `axis` says which directions (see `Query`), `k` how many. `group` names the attribute that makes the groups, or
    whose values stay in one half. `about` is the centre.
    """

    collection: str
    fingerprint: str
    members: tuple[int, ...]
    layers: tuple[str, ...]
    view: str = "models"
    axis: str = "in"
    k: int = 16
    group: str = ""
    about: str = "mean"
    draws: int = 100
    seed: int = 0


@dataclass(frozen=True, slots=True)
class RebuildQuery:
    """Which models are rebuilt from which: `group` names what is held out together, empty for one model at a time.

    Errors are relative to `reference` (`mean` of the others, `zero`, `base`), the subspace lies about `about`;
    `own` asks for the models' own SVD as well.
    """

    collection: str
    fingerprint: str
    members: tuple[int, ...]
    layers: tuple[str, ...]
    axis: str = "models"
    group: str = ""
    reference: str = "mean"
    about: str = "mean"
    own: bool = True


@dataclass(frozen=True, slots=True)
class EvidenceQuery:
    """Which claims are judged: for `layers` taken as one, or `each` of them by itself.

    `group` names the attribute that makes the groups, empty for those of the lineage. `kept` 0 is a quarter of the
    directions there can be.
    """

    collection: str
    fingerprint: str
    members: tuple[int, ...]
    layers: tuple[str, ...]
    each: bool = False
    group: str = ""
    kept: int = 0
    share: float = 0.9
    draws: int = 99
    seed: int = 0
