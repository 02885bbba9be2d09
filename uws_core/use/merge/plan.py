"""What is merged and how: members, layers and recipe, checked before a weight is read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from uws_core import run
from uws_core.errors import CollectionError, LayerError
from uws_core.nouns.merging import MergeRecipe
from uws_core.nouns.models import Collection, LayerKey
from uws_core.passes.open_models import is_low_rank

DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class MergePlan:
    """A merge that can be carried out: `members` are rows of the collection, `layers` what the recipe is applied to.

    `beside` says what becomes of weights that adapters trained whole: `mean`, `drop`, or the label of the member whose
    are taken. `dtype` is the type written; auto is the type that the base (or the first member) has. Whole weights are
    merged in slabs of at most `budget` bytes.
    """

    collection: Collection
    recipe: MergeRecipe
    members: tuple[int, ...]
    layers: tuple[LayerKey, ...]
    adapters: bool
    dtype: str
    beside: str
    budget: int

    @property
    def labels(self) -> tuple[str, ...]:
        """The members' labels."""
        return tuple(self.collection.labels[row] for row in self.members)

    @property
    def about(self) -> str:
        """The point that updates are taken from: `base`, or `zero` where whole weights have none."""
        return "base" if self.adapters or self.collection.base is not None else "zero"

    def digest(self) -> str:
        """A digest of all that decides the written bytes: contents, recipe, layers and type."""
        refs = [self.collection.refs[row] for row in self.members]
        parts = [
            [f"{ref.commit}#{ref.part}" for ref in refs],
            str(self.collection.base),
            self.recipe.as_dict(),
            [key.name for key in self.layers],
            [self.dtype, self.beside],
        ]
        return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def plan_merge(
    collection: Collection,
    recipe: MergeRecipe,
    *,
    members: Sequence[int | str] | None = None,
    layers: Sequence[LayerKey | str] | None = None,
    dtype: str = "auto",
    beside: str = "mean",
    budget: int,
) -> MergePlan:
    """Returns the merge of these members (rows or labels; None: all), checked.

    Raises:
        NotEnoughModels: fewer members than the method needs.
        CollectionError: an unknown member, a weight, scale or option out of range, a rank above what the layers have.
        LayerError: an unknown layer, layers that are updates in some models and whole in others, or no base where the
            method starts from one.
    """
    rows = _rows(collection, members)
    recipe.checked(len(rows))
    if dtype not in DTYPES:
        raise CollectionError(f"dtype is one of {', '.join(DTYPES)}; found {dtype!r}")
    if beside not in ("mean", "drop") and beside not in collection.labels:
        raise CollectionError(f"beside is mean, drop or the label of a member; found {beside!r}")
    keys = run.chosen_layers(collection, layers)
    updates = tuple(key for key in keys if is_low_rank(collection, key))
    keys = updates or keys
    plan = MergePlan(collection, recipe, rows, keys, bool(updates), dtype, beside, budget)
    _check_base(plan)
    most = max(min(key.shape) for key in keys)
    if recipe.rank is not None and recipe.rank > most and (plan.adapters or "rank" in recipe.facts.uses):
        raise CollectionError(f"rank {recipe.rank} is above {most}, the most that any of the chosen layers has")
    return plan


def _rows(collection: Collection, members: Sequence[int | str] | None) -> tuple[int, ...]:
    if members is None:
        return tuple(range(len(collection)))
    rows = []
    for member in members:
        if isinstance(member, str) and member not in collection.labels:
            raise CollectionError(f"{collection.name} has no model {member!r}; `ls` lists its {len(collection)}")
        row = collection.labels.index(member) if isinstance(member, str) else int(member)
        if not 0 <= row < len(collection):
            raise CollectionError(f"Members are rows 0 to {len(collection) - 1}; found {row}")
        if row in rows:
            raise CollectionError(f"{collection.labels[row]} is named twice; give it twice the weight instead")
        rows.append(row)
    return tuple(rows)


def _check_base(plan: MergePlan) -> None:
    """Updates of whole weights need the base they are about."""
    if plan.adapters:
        return
    collection, facts = plan.collection, plan.recipe.facts
    if collection.base is None:
        if facts.needs_base:
            raise LayerError(
                f"{plan.recipe.method} merges updates, and the base of {collection.name} is not known; name it "
                "(base=, --base), or take mean, linear, slerp, multi-slerp or karcher"
            )
        if plan.recipe.scale != 1:
            raise LayerError(
                f"A scale of {plan.recipe.scale:g} moves the merge along its distance to the base, and the base of "
                f"{collection.name} is not known; name it (base=, --base), or leave the scale at 1"
            )
        return
    lacking = [key.name for key in plan.layers if key.name not in collection.base_layers]
    if lacking:
        raise LayerError(
            f"The base lacks {len(lacking)} of {len(plan.layers)} layers, among them {', '.join(lacking[:3])}; choose "
            "the layers that it has, or merge without a base"
        )


def some_of(names: Sequence[str]) -> str:
    """The first three of these names, and how many there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
