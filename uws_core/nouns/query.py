"""What a page asks the core for: plain text and numbers, so that an answer can be kept under its question."""

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
