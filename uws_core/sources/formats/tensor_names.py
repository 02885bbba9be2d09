"""What a tensor's name says about the model it belongs to, besides being a name."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final

# What compilers and trainers in parallel put around a model.
_WRAPPERS: Final = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
# A longer name is nobody's layer.
LONGEST: Final = 1000
_SHOWN: Final = 80
_ROWS: Final = re.compile(r"^(.*)\[:(\d{1,12})\]$")
# The layers that GPT-2 and its like keep as inputs x outputs, and the one whose shape tells whether they do.
_CONV1D: Final = re.compile(r"(?:^|\.)(?:c_attn|c_proj|c_fc|q_attn)\.weight$")
_TELLING: Final = re.compile(r"(?:^|\.)c_attn\.weight$")


def unwrapped(name: str) -> str:
    """The name without what `torch.compile` and data-parallel training put into it."""
    parts = [part for part in name.split(".") if part not in _WRAPPERS]
    first = next((i for i, part in enumerate(parts) if part != "module"), len(parts))
    # A name of nothing but wrappers keeps its last word.
    return ".".join(parts[min(first, len(parts) - 1) :]) if parts else ""


def shown(name: str) -> str:
    """The name as a note shows it: cut where nobody reads on."""
    return name if len(name) <= LONGEST else f"{name[:_SHOWN]}... ({len(name):,} characters)"


def too_long(name: str) -> str:
    """Why a tensor of this name is no layer, or nothing."""
    return f"its name has {len(name):,} characters, at most {LONGEST:,} are read" if len(name) > LONGEST else ""


def first_rows(name: str) -> tuple[str, int | None]:
    """A layer's own name and how many of its rows are meant: `embed.weight[:32000]`; None is all of them."""
    found = _ROWS.match(name)
    return (found[1], int(found[2])) if found else (name, None)


def nearest(name: str, names: Collection[str]) -> str | None:
    """The name itself, or the only one that differs from it by leading components: `h.0.q` for `transformer.h.0.q`."""
    if name in names:
        return name
    near = [other for other in names if other.endswith(f".{name}") or name.endswith(f".{other}")]
    return near[0] if len(near) == 1 else None


def inputs_first(shapes: Mapping[str, Sequence[int]]) -> frozenset[str]:
    """The layers of a model that are stored as inputs x outputs, told by the one with thrice as many outputs."""
    telling = [shape for name, shape in shapes.items() if _TELLING.search(name) and len(shape) == 2]
    if not telling or any(shape[1] != 3 * shape[0] for shape in telling):
        return frozenset()
    return frozenset(name for name in shapes if _CONV1D.search(name))
