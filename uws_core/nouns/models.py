"""What is compared: models, their layers, and the collection they form."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING

from uws_core.errors import LayerError
from uws_core.nouns.shown import Shown

if TYPE_CHECKING:
    from torch import Tensor

# So many layers of a model are named where it is left out of more.
MOST_NAMED = 6
# At the end of a file's name in a reference: somebody chose to read a pickled file.
_PICKLED = "?pickled"
# At the beginning of the place of a model that is known by its results only.
WITHOUT_WEIGHTS = "results:"
# What a cell of the models table may hold.
Value = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class ModelRef:
    """One model at one immutable state.

    `repo` is a Hub name (`owner/name`), a folder, a file, or `demo:name`; `commit` is the Hub commit or a digest of
    the content; `part` names what of the repository is meant, and is `file`, `adapter` and `pickled` in one text:
    `weights/x.safetensors:style` is the adapter `style` in that file, `x.bin?pickled` a pickled file that somebody
    chose to read. The text form is `repo@commit` or `repo@commit#part`.
    """

    repo: str
    commit: str
    part: str = ""
    # A file or sub-folder inside the repository, relative and in posix form; empty where there is no choice.
    file: str = field(init=False, compare=False, repr=False)
    # One adapter of several in a file.
    adapter: str = field(init=False, compare=False, repr=False)
    pickled: bool = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        place, _, adapter = self.part.partition(":")
        file, mark, _ = place.partition(_PICKLED)
        for name, value in (("file", file), ("adapter", adapter), ("pickled", bool(mark))):
            object.__setattr__(self, name, value)

    def __str__(self) -> str:
        return f"{self.repo}@{self.commit}" + (f"#{self.part}" if self.part else "")

    @property
    def without_weights(self) -> bool:
        """Whether the model came in a results file, so that none of its weights can be read."""
        return self.repo.startswith(WITHOUT_WEIGHTS)

    @classmethod
    def of_part(cls, repo: str, commit: str, *, file: str = "", adapter: str = "", pickled: bool = False) -> ModelRef:
        """The reference to one file, one adapter of a file, or a pickled file."""
        return cls(repo, commit, file + (_PICKLED if pickled else "") + (f":{adapter}" if adapter else ""))

    @classmethod
    def parse(cls, text: str) -> ModelRef:
        """The reference written as `repo@commit` or `repo@commit#part`; without `@` all of it is the repo."""
        repo, at, rest = text.rpartition("@")
        commit, _, part = rest.partition("#")
        if not at:
            return cls(text, "")
        return cls(repo, commit, part)


@dataclass(frozen=True, slots=True)
class LayerKey:
    """A layer that can be compared: its name and its shape `(m, p)`, outputs by inputs.

    A convolution kernel is seen as `out x (in kh kw)`. The factor views of an adapter are layers of their own,
    named `name:A` (r x p) and `name:B` (m x r).
    """

    name: str
    shape: tuple[int, int]
    # Set by the collection, which alone knows what tells its layers apart: see `named`.
    label: str = field(default="", compare=False, repr=False)
    block: int | None = field(default=None, compare=False, repr=False)
    part: str = field(default="", compare=False, repr=False)

    @property
    def entries(self) -> int:
        """The number of weights, `d = m p`."""
        return self.shape[0] * self.shape[1]

    @property
    def depth(self) -> int | None:
        """The block the layer stands in, or None: the number that repeats over the collection's layers.

        For a layer outside a collection it is the first number of the dotted name.
        """
        if self.label:
            return self.block
        number = re.search(r"(?:^|\.)(\d+)(?:\.|$)", self.name)
        return int(number[1]) if number else None

    @property
    def module(self) -> str:
        """The layer's name inside its block, equal at every depth: `attn.q`, or `encoder.*.attn.q` beside a decoder."""
        return self.part or _without_weight(re.split(r"(?:^|\.)\d+\.", self.name, maxsplit=1)[-1])

    @property
    def whole(self) -> str:
        """The layer's own name: `embed.weight` where the first rows of it are meant, `embed.weight[:32000]`."""
        return re.sub(r"\[:\d+\]$", "", self.name)

    @property
    def factor(self) -> str:
        """`A` or `B` for a factor view, whose spectrum depends on the gauge and is never pooled; else nothing."""
        return self.name[-1] if self.name.endswith((":A", ":B")) else ""

    @property
    def short(self) -> str:
        """The name on every figure, unique in its collection: `blocks.2.attn.q.weight` reads `2.attn.q`."""
        return self.label or (self.module if self.depth is None else f"{self.depth}.{self.module}")


def named(layers: Sequence[LayerKey]) -> tuple[LayerKey, ...]:
    """The layers with the names that figures show: unique, and as short as tells them apart.

    A layer's block is the number in its dotted name for which most other layers have the same name but for that number;
    where no number repeats, the first one. The short name is the block and what follows it, `2.attn.q`; where a module
    stands in several stacks of blocks, it begins with as many components of the path as tell the stacks apart,
    `encoder.2.attn.q`.
    """
    parts = [layer.name.split(".") for layer in layers]
    blocks = _block_positions(parts)
    # The stacks that each module stands in: paths before the block.
    stacks: dict[str, set[tuple[str, ...]]] = {}
    for names, at in zip(parts, blocks, strict=True):
        if at is not None:
            stacks.setdefault(".".join(names[at + 1 :]), set()).add(tuple(names[:at]))
    result = []
    for layer, names, at in zip(layers, parts, blocks, strict=True):
        if at is None:
            whole = _without_weight(layer.name)
            result.append(replace(layer, label=whole, block=None, part=whole))
            continue
        module = ".".join(names[at + 1 :])
        own, others = tuple(names[:at]), stacks[module] - {tuple(names[:at])}
        deep = 0
        while deep < len(own) and any(path[len(path) - deep :] == own[at - deep :] for path in others):
            deep += 1
        before, after = own[at - deep :] if others else (), _without_weight(module) if module else ""
        label = ".".join((*before, names[at], *([after] if after else [])))
        part = ".".join((*before, "*", after)) if before else after or ".".join(own)
        result.append(replace(layer, label=label, block=int(names[at]), part=part))
    count = Counter(layer.label for layer in result)
    return tuple(layer if count[layer.label] == 1 else replace(layer, label=layer.name) for layer in result)


def _block_positions(parts: Sequence[Sequence[str]]) -> list[int | None]:
    """For each dotted name the component that counts blocks, or None."""
    numbers = [[at for at, part in enumerate(names) if part.isdecimal()] for names in parts]
    repeats = Counter(
        (*names[:at], "", *names[at + 1 :]) for names, places in zip(parts, numbers, strict=True) for at in places
    )
    # A module that one block alone has stands in that block too.
    stacks = {key[: key.index("")] for key, count in repeats.items() if count > 1}
    result: list[int | None] = []
    for names, places in zip(parts, numbers, strict=True):
        counts = [repeats[(*names[:at], "", *names[at + 1 :])] for at in places]
        if max(counts, default=0) > 1:
            result.append(places[counts.index(max(counts))])
        elif stacks:
            result.append(next((at for at in places if tuple(names[:at]) in stacks), None))
        else:
            result.append(places[0] if places else None)
    return result


def _without_weight(name: str) -> str:
    return re.sub(r"\.weight(?=$|:[AB]$|\[:)", "", name)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something that was not compared, and why; shown on the page and written into every export."""

    what: str
    reason: str


def by_model(items: Iterable[LeftOut]) -> tuple[LeftOut, ...]:
    """What passes left out, one line a model: a pass says `model, layer` of each layer that a model takes no part in.

    A layer's own trouble, and a model that lacks one layer only, stay as they are.
    """
    layers: dict[str, list[LeftOut]] = {}
    for item in dict.fromkeys(items):
        model, comma, _ = item.what.rpartition(", ")
        layers.setdefault(model if comma else item.what, []).append(item)
    return tuple(several[0] if len(several) == 1 else _of_model(model, several) for model, several in layers.items())


def _of_model(model: str, several: list[LeftOut]) -> LeftOut:
    names = [item.what.rpartition(", ")[2] for item in several]
    shown = ", ".join(names[:MOST_NAMED]) + (", ..." if len(names) > MOST_NAMED else "")
    return LeftOut(f"{model}, {len(names)} layers", f"{shown}: {several[0].reason}")


@dataclass(frozen=True, slots=True)
class LowRank:
    """The update `scale * up @ down` of an adapter, never multiplied out: `up` is (m, r), `down` is (r, p)."""

    up: Tensor
    down: Tensor
    scale: float


@dataclass(frozen=True, slots=True)
class PartialLayer:
    """A layer that part of the models have, at least two: `models` are their labels, of `of` models altogether."""

    key: LayerKey
    models: tuple[str, ...]
    of: int

    def __str__(self) -> str:
        return f"{self.key.name}, in {len(self.models)} of {self.of} models"


@dataclass(frozen=True)
class Collection(Shown):
    """Models of one architecture and the layers they have in common.

    `table` maps a column (task, seed, author, ...) to one value a model, in the order of `refs`.
    `labels` are unique short names, in the same order. `fingerprint` digests the models' contents in order, so the same
    files in another folder are the same collection. `base_layers` names the layers the base has too,
    `transposed` those that are stored as inputs x outputs, whose sides `in` and `out` are each other's. `partial` lists
    layers that only part of the models have: they are compared in the collection of these models.
    """

    name: str
    refs: tuple[ModelRef, ...]
    labels: tuple[str, ...]
    layers: tuple[LayerKey, ...]
    fingerprint: str
    table: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    base: ModelRef | None = None
    base_layers: frozenset[str] = frozenset()
    left_out: tuple[LeftOut, ...] = ()
    transposed: frozenset[str] = frozenset()
    partial: tuple[PartialLayer, ...] = ()

    def __post_init__(self) -> None:
        wrong = [name for name, column in self.table.items() if len(column) != len(self.refs)]
        if wrong or len(self.labels) != len(self.refs) or len(set(self.labels)) != len(self.labels):
            raise ValueError(
                f"Collection {self.name!r}: labels must be unique and every column needs one value a model; "
                f"wrong: {wrong}"
            )
        object.__setattr__(self, "layers", named(self.layers))
        object.__setattr__(self, "table", MappingProxyType(dict(self.table)))

    def __len__(self) -> int:
        return len(self.refs)

    def __reduce__(self) -> tuple[object, ...]:
        # A mapping proxy does not pickle, and a work item travels to other processes.
        plain = (self.name, self.refs, self.labels, self.layers, self.fingerprint, dict(self.table))
        return Collection, (*plain, self.base, self.base_layers, self.left_out, self.transposed, self.partial)

    @cached_property
    def by_name(self) -> Mapping[str, LayerKey]:
        """The layers by name."""
        return MappingProxyType({layer.name: layer for layer in self.layers})

    def layer(self, layer: str | LayerKey) -> LayerKey:
        """The collection's layer of that name or key.

        Raises:
            LayerError: the collection has no such layer; the message names the nearest ones.
        """
        name = layer.name if isinstance(layer, LayerKey) else layer
        key = self.by_name.get(name)
        if key is None:
            near = get_close_matches(name, self.by_name, n=3) or [key.name for key in self.layers[:3]]
            raise LayerError(f"{self.name} has no layer {name!r}; it has {len(self.layers)}, among them {near}")
        return key
