"""Names of tensors: without wrappers, as shown in notes, and matched where only their spelling differs."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from functools import lru_cache
from typing import Final
from unicodedata import normalize

# What compilers and trainers in parallel put around a model.
_WRAPPERS: Final = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
# Words that name a whole model inside another: versions and task heads of one architecture add, drop and swap them.
_MODELS: Final = frozenset(
    """
    model module base_model language_model text_model transformer backbone pretrained_model diffusion_model llm lm
    bert roberta distilbert albert electra deberta xlm_roberta camembert mpnet esm vit deit beit dinov2 gpt_neox
    """.split()  # noqa: SIM905 - more easily read in lines than as literals
)
# A longer name is no layer.
LONGEST: Final = 1000
_SHOWN: Final = 80
_ROWS: Final = re.compile(r"^(.*)\[:(\d{1,12})\]$")
# The layers that GPT-2 and its like keep as inputs x outputs, and the one whose shape shows it.
_CONV1D: Final = re.compile(r"(?:^|\.)(?:c_attn|c_proj|c_fc|q_attn)\.weight$")
_QKV: Final = re.compile(r"(?:^|\.)c_attn\.weight$")


def unwrapped(name: str) -> str:
    """The name without what `torch.compile` and data-parallel training put into it."""
    parts = [part for part in name.split(".") if part not in _WRAPPERS]
    first = next((i for i, part in enumerate(parts) if part != "module"), len(parts))
    # A name of nothing but wrappers keeps its last word.
    return ".".join(parts[min(first, len(parts) - 1) :]) if parts else ""


def shown(name: str) -> str:
    """The name as a note shows it: very long ones are cut."""
    return name if len(name) <= LONGEST else f"{name[:_SHOWN]}... ({len(name):,} characters)"


def too_long(name: str) -> str:
    """Why a tensor of this name is no layer, or nothing."""
    return f"its name has {len(name):,} characters, at most {LONGEST:,} are read" if len(name) > LONGEST else ""


def first_rows(name: str) -> tuple[str, int | None]:
    """A layer's own name and how many of its rows are meant: `embed.weight[:32000]`; None is all of them."""
    found = _ROWS.match(name)
    return (found[1], int(found[2])) if found else (name, None)


def nearest(name: str, names: Collection[str]) -> str | None:
    """The name itself, or the only one that is spelled otherwise: `h.0.q` for `transformer.h.0.q`; None if unclear.

    Two names are alike when one is the other with leading components, or when both are equal without the words that
    name a whole model (`model.language_model.layers.0.q`, `language_model.model.layers.0.q`) and with underscores for
    dots. Price: one pass over `names` for every set of names, then a look-up.
    """
    if name in names:
        return name
    shorter, by_path = _spellings(tuple(names))
    alike = set(shorter.get(name, ()))
    words = name.split(".")
    alike |= {end for start in range(1, len(words)) if (end := ".".join(words[start:])) in names}
    alike = alike or set(by_path.get(path_of(name), ()))
    return alike.pop() if len(alike) == 1 else None


def path_of(name: str) -> str:
    """The name without the words that name a whole model before its first number, and with underscores for dots."""
    words = normalize("NFC", name).split(".")
    first = next((i for i, word in enumerate(words) if word.isdecimal()), len(words) - 2)
    return "_".join([*(word for word in words[:first] if word not in _MODELS), *words[max(first, 0) :]])


@lru_cache(maxsize=256)
def _spellings(names: tuple[str, ...]) -> tuple[Mapping[str, Sequence[str]], Mapping[str, Sequence[str]]]:
    """The names by every end of them that follows a dot, and by their path."""
    shorter: dict[str, list[str]] = {}
    by_path: dict[str, list[str]] = {}
    for name in names:
        words = name.split(".")
        for start in range(1, len(words)):
            shorter.setdefault(".".join(words[start:]), []).append(name)
        by_path.setdefault(path_of(name), []).append(name)
    return shorter, by_path


class LayerNames(Set[str]):
    """Some of a model's layer names; a name that is spelled otherwise is found too, see `nearest`."""

    def __init__(self, some: Iterable[str], every: Iterable[str]) -> None:
        self._some, self._every = frozenset(some), dict.fromkeys(every)

    def __contains__(self, name: object) -> bool:
        if name in self._some or not self._some or not isinstance(name, str):
            return name in self._some
        return nearest(name, self._every) in self._some

    def __iter__(self) -> Iterator[str]:
        return iter(self._some)

    def __len__(self) -> int:
        return len(self._some)


def inputs_first(shapes: Mapping[str, Sequence[int]]) -> frozenset[str]:
    """The layers of a model that are stored as inputs x outputs, known by one with three times as many outputs."""
    telling = [shape for name, shape in shapes.items() if _QKV.search(name) and len(shape) == 2]
    if not telling or any(shape[1] != 3 * shape[0] for shape in telling):
        return frozenset()
    return frozenset(name for name in shapes if _CONV1D.search(name))
