"""What a person has chosen, the same on every page, and its form in an address.

The address is the security boundary: every value in it is looked up among what exists or cleaned to a default.
Nothing in it is ever joined into a path, and nothing in it can raise.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol, Self

from uws_core.nouns.architectures import Architecture
from uws_core.nouns.gram import Axis
from uws_core.nouns.models import Collection
from uws_core.ui import tokens

# What a layer choice can be besides one layer: all chosen ones together, averaged, or side by side.
POOLS = ("sum", "mean", "each")
# Axes of a layer (`nouns.gram.Axis`) as they are shown.
AXES = {"models": "models", "out": "outputs", "in": "inputs"}
CENTRES = ("mean", "zero", "base")
NULLS = ("profile", "strength", "gaussian", "none")
# Between the id of a place, that of an architecture in it, and a layer that part of its models have.
ARCHITECTURE = "/"
# Longer texts than any list of rows, and more values than any list of layers, are noise.
MOST_CHARACTERS = 8_000
MOST_VALUES = 1_000


class Catalogue(Protocol):
    """The collections there are, by id."""

    def ids(self) -> tuple[str, ...]:
        """Every id that can be chosen, the first being where a new visitor starts."""
        ...

    def get(self, collection: str) -> Collection | None:
        """The collection, or None when the id is unknown or its files cannot be read now."""
        ...

    def architectures(self, collection: str) -> Sequence[Architecture]:
        """The groups of models that can be chosen in a collection; none where it is of one architecture."""
        ...


@dataclass(frozen=True, slots=True)
class Selection:
    """What a person has chosen. Make one with `clean` or `from_params`: both always succeed.

    `members` and `layers` are tokens (see `tokens`), empty for all; `layer` is a layer name or one of `POOLS`, empty
    for the first; `about` one of `CENTRES` or a model's label; `group` an attribute of the models table or empty.
    """

    collection: str = ""
    members: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    layer: str = ""
    axis: str = Axis.MODELS.value
    about: str = "mean"
    unit: bool = False
    null: str = "profile"
    k: int = 16
    share: float = 0.9
    group: str = ""

    @classmethod
    def clean(cls, catalogue: Catalogue, **raw: object) -> Self:
        """The nearest valid selection to `raw`: what is unknown, impossible or of another type becomes its default."""
        collection = _collection(raw.get("collection"), catalogue)
        found = catalogue.get(collection) if collection else None
        plain = cls(
            collection=collection,
            axis=_one_of(raw.get("axis"), [axis.value for axis in Axis], Axis.MODELS.value),
            unit=_switch(raw.get("unit")),
            null=_one_of(raw.get("null"), NULLS, "profile"),
            k=int(_number(raw.get("k"), low=1, high=4096, default=16)),
            share=round(_number(raw.get("share"), low=0.01, high=0.999, default=0.9), 3),
        )
        return plain if found is None else plain._within(found, raw)

    @classmethod
    def from_params(cls, params: Mapping[str, Iterable[str]], catalogue: Catalogue) -> Self:
        """The selection an address asks for; `params` maps each key to all its values, as the address repeats them."""
        return cls.clean(catalogue, **{name: params[key] for name, key in _KEYS.items() if key in params})

    def to_params(self) -> dict[str, str | list[str]]:
        """The shortest address that reads back as this selection: the collection, and what differs from the default."""
        usual = type(self)()
        params: dict[str, str | list[str]] = {}
        for name, key in _KEYS.items():
            value = getattr(self, name)
            if value == getattr(usual, name):
                continue
            params[key] = list(value) if isinstance(value, tuple) else _text_form(value)
        return params

    def members_in(self, collection: Collection) -> tuple[int, ...]:
        """The chosen models' indices; possibly none."""
        return tokens.member_indices(collection, self.members)

    def layers_in(self, collection: Collection) -> tuple[str, ...]:
        """The chosen layers' names; never none while the collection has any."""
        return tokens.layer_names(collection, self.layers)

    def pools_in(self, collection: Collection) -> tuple[str, ...]:
        """What several of the chosen layers can become here.

        Layers add up to one long layer on the models axis only, and an adapter's factor views never: every B has as
        many columns as the rank, so a pooled curve would break off there even on noise.
        """
        chosen = self.layers_in(collection)
        whole = [name for name in chosen if not collection.by_name[name].factor]
        together = (POOLS[:2] if self.axis == Axis.MODELS else POOLS[1:2]) if len(whole) > 1 else ()
        return (*together, *(POOLS[2:] if len(chosen) > 1 else ()))

    def shown_in(self, collection: Collection) -> tuple[str, ...]:
        """The layers behind what is in focus: the one, all that are drawn side by side, or those that are pooled."""
        if self.layer not in POOLS:
            return (self.layer,)
        chosen = self.layers_in(collection)
        return chosen if self.layer == "each" else tuple(n for n in chosen if not collection.by_name[n].factor)

    def _within(self, collection: Collection, raw: Mapping[str, object]) -> Self:
        """This selection with everything that depends on the collection looked up in it."""
        layers = tokens.known_layers(collection, _texts(raw.get("layers")))
        chosen = tokens.layer_names(collection, layers)
        pools = replace(self, layers=layers).pools_in(collection)
        models = [label for label in collection.labels if label not in CENTRES]
        centres = CENTRES if collection.base is not None else CENTRES[:2]
        return replace(
            self,
            members=tokens.known_models(collection, _texts(raw.get("members"))),
            layers=layers,
            layer=_one_of(raw.get("layer"), (*pools, *chosen), chosen[0] if chosen else ""),
            about=_one_of(raw.get("about"), (*centres, *models), "mean"),
            group=_one_of(raw.get("group"), tokens.group_columns(collection), ""),
        )


# Field to key in the address: short, because addresses are pasted into mails.
_SHORT = {"collection": "c", "members": "m", "layers": "l"}
_KEYS = {field.name: _SHORT.get(field.name, field.name) for field in fields(Selection)}


def base_id(collection: str) -> str:
    """The id of the place, without that of an architecture in it."""
    return collection.partition(ARCHITECTURE)[0]


def id_parts(collection: str) -> tuple[str, str, str]:
    """The ids of place and architecture, and the layer that the models have; empty where none is named."""
    place, architecture, layer = (*collection.split(ARCHITECTURE, 2), "", "")[:3]
    return place, architecture, layer


def having_id(collection: str, layer: str) -> str:
    """The id of the models of a place and architecture that have a layer; of all of them where `layer` is empty."""
    place, architecture, _ = id_parts(collection)
    parts = (place, architecture, layer) if layer else (place, architecture) if architecture else (place,)
    return ARCHITECTURE.join(parts)


def _collection(value: object, catalogue: Catalogue) -> str:
    """The id when it is known, without an architecture or a layer that is not there; else the first of all."""
    known, last = catalogue.ids(), _last(value)
    base, architecture, layer = id_parts(last if isinstance(last, str) else "")
    if base not in known:
        return known[0] if known else ""
    there = catalogue.architectures(base) if architecture else ()
    place = f"{base}{ARCHITECTURE}{architecture}" if any(item.id == architecture for item in there) else base
    whole = catalogue.get(place) if layer else None
    if whole is None or all(item.key.name != layer for item in whole.partial):
        return place
    return having_id(place, layer)


def _texts(value: object) -> tuple[str, ...]:
    """Every text in a value of any kind, each once, without the overlong and the empty."""
    several = value if isinstance(value, list | tuple | set | frozenset) else (value,)
    kept = (each for each in several if isinstance(each, str) and 0 < len(each) <= MOST_CHARACTERS)
    return tuple(dict.fromkeys(kept))[:MOST_VALUES]


def _last(value: object) -> object:
    """The last of several values: what a browser means by a repeated key that takes one."""
    if isinstance(value, list | tuple):
        return value[-1] if value else None
    return value


def _one_of(value: object, known: Iterable[str], default: str) -> str:
    """The value when it is among the known, else the default."""
    last = _last(value)
    return next((each for each in known if each == last), default) if isinstance(last, str) else default


def _number(value: object, *, low: float, high: float, default: float) -> float:
    """The value as a finite number moved into [low, high]; the default when it is none."""
    last = _last(value)
    if not isinstance(last, str | int | float):
        return default
    try:
        number = float(last)
    except (ValueError, OverflowError):
        return default
    return min(max(number, low), high) if math.isfinite(number) else default


def _switch(value: object) -> bool:
    """True for true, 1, "1", "true", "yes", "on"."""
    last = _last(value)
    return last is True or (isinstance(last, str) and last.strip().lower() in {"1", "true", "yes", "on"})


def _text_form(value: object) -> str:
    """A single value in the address."""
    if isinstance(value, bool):
        return "1" if value else "0"
    return f"{value:g}" if isinstance(value, float) else str(value)
