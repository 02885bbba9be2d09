"""The questions of the pages to the core: hashable, plain text and numbers, so that each is a key of its answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Query:
    """One question about a collection.

    `collection` is an id and `fingerprint` the content it had, so a changed folder is another question. `members` are
    indices of models, `layers` names. `pool` says what several layers become: `sum`, `mean` or `each`; `precision` is
    that of the products, auto or double. A page fills in what it uses and leaves the rest, so that answers are found
    again whatever other pages set.
    """

    collection: str
    fingerprint: str
    members: tuple[int, ...]
    layers: tuple[str, ...]
    pool: str = "each"
    axis: str = "models"
    about: str = "mean"
    unit: bool = False
    null: str = "none"
    draws: int = 200
    seed: int = 0
    k: int = 16
    share: float = 0.9
    group: str = ""
    precision: str = "auto"


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
class PairQuery:
    """Which two models of a collection are compared, by their indices, and in which layers."""

    collection: str
    fingerprint: str
    layers: tuple[str, ...]
    left: int
    right: int


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
