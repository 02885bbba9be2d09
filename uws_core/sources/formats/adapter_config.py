"""What an adapter's configuration says of the size of its updates: `adapter_config.json`, or the file's own notes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from uws_core.errors import UnreadableFile, UnsupportedFormat
from uws_core.sources.files.tensors import CONFIG, LONGEST_CONFIG
from uws_core.sources.formats.patterns import Patterns

# Where diffusers keeps the configuration: JSON inside the header, keys prefixed with the component.
NOTES: Final = "lora_adapter_metadata"
# What PEFT takes when the file does not say.
_PEFT_ALPHA: Final = 8.0
# All patterns of one table together; a name a module of the largest models takes a tenth.
_MOST_PATTERN: Final = 500_000
# Methods whose updates are products of small matrices.
KINDS: Final = frozenset({"LORA", "LOHA", "LOKR"})
# Settings under which `scale * up @ down` is not the whole update, or not of the base as it is published.
_NOTES: Final[Mapping[str, str]] = {
    "use_dora": "DoRA: what is compared is the low-rank part, before the magnitudes rescale the sum with the base",
    "pissa": "PiSSA start: the update counts from the base minus its leading part, not from the published base",
    "olora": "OLoRA start: the update counts from the base minus its start, not from the published base",
    "corda": "CorDA start: the update counts from the base minus its start, not from the published base",
    "loftq": "LoftQ start: the update counts from a quantised base, not from the published one",
}
# Settings under which the stored matrices mean something else.
_STRANGE: Final = ("use_qalora", "use_bdlora", "monteclora_config", "use_bd_lora")


@dataclass(frozen=True)
class Settings:
    """The scale's ingredients: rank and alpha, with exceptions by module, and whether weights are stored in x out."""

    where: str
    kind: str = "LORA"
    rank: float | None = None
    alpha: float = _PEFT_ALPHA
    rs: bool = False
    transposed: bool = False
    ranks: Mapping[str, float] = field(default_factory=dict)
    alphas: Mapping[str, float] = field(default_factory=dict)
    experts: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    def scale(self, module: str, rank: int | None) -> tuple[float, str]:
        """The factor of a module's update and where it was found; `rank` is that of the stored matrices, if they tell.

        Raises:
            UnsupportedFormat: a pattern that is not understood, or no rank anywhere.
        """
        alpha, pattern = self._exception(self.alphas, self._alpha_patterns, module)
        of = rank or self._exception(self.ranks, self._rank_patterns, module)[0] or self.rank
        if not of:
            raise UnsupportedFormat(f"{module}: neither its matrices nor {self.where} tell its rank")
        alpha = self.alpha if alpha is None else alpha
        named = f"alpha_pattern {pattern!r}" if pattern else "lora_alpha"
        if self.rs:
            return alpha / math.sqrt(of), f"{self.where}: {named} {alpha:g} / sqrt(rank {of:g}), rsLoRA"
        return alpha / of, f"{self.where}: {named} {alpha:g} / rank {of:g}"

    def of_experts(self, module: str) -> bool:
        """Whether a module's update is of stacked experts, whose ranks are not one matrix's."""
        words = module.split(".") if self.experts else []
        return "" in self.experts or any(".".join(words[i:]) in self.experts for i in range(len(words)))

    @cached_property
    def _alpha_patterns(self) -> Patterns:
        return Patterns(self.alphas)

    @cached_property
    def _rank_patterns(self) -> Patterns:
        return Patterns(self.ranks)

    def _exception(self, table: Mapping[str, float], patterns: Patterns, module: str) -> tuple[float | None, str]:
        try:
            pattern = patterns.first(module)
        except ValueError as error:
            raise UnsupportedFormat(f"{module}: {self.where}: {error}") from error
        return (None, "") if pattern is None else (table[pattern], pattern)


def settings_of(text: bytes) -> Settings:
    """The settings in an `adapter_config.json`.

    Raises:
        UnreadableFile: no such JSON, or a value of the wrong kind.
        UnsupportedFormat: a method that is no low-rank update.
    """
    return _settings(_object(text, CONFIG), CONFIG)


def settings_in_notes(metadata: Mapping[str, str]) -> Mapping[str, Settings]:
    """The settings by component (`unet`, `transformer`, ...) that diffusers keeps in a file's header; often none.

    Raises:
        UnreadableFile: damaged notes.
    """
    if NOTES not in metadata:
        return {}
    parts: dict[str, dict[str, object]] = {}
    for key, value in _object(metadata[NOTES].encode(), NOTES).items():
        component, _, name = key.partition(".")
        parts.setdefault(component, {})[name] = value
    return {component: _settings(values, NOTES) for component, values in parts.items()}


def _settings(found: Mapping[str, object], where: str) -> Settings:
    kind = str(found.get("peft_type") or "LORA")
    if kind not in KINDS:
        raise UnsupportedFormat(f"{where}: the method {kind[:40]} is no low-rank update; LoRA, LoHa and LoKr are read")
    if strange := [name for name in _STRANGE if found.get(name)]:
        raise UnsupportedFormat(f"{where}: {strange[0]} stores matrices that are not up and down; it is not read")
    # LoHa and LoKr call it alpha.
    alphas = _number(found, "lora_alpha", where), _number(found, "alpha", where)
    start = found.get("init_lora_weights")
    told = ["use_dora"] if found.get("use_dora") else []
    told += [name for name in _NOTES if isinstance(start, str) and start.lower().startswith(name)]
    return Settings(
        where=where,
        kind=kind,
        rank=_number(found, "r", where),
        alpha=next((one for one in alphas if one is not None), _PEFT_ALPHA),
        rs=found.get("use_rslora") is True,
        transposed=found.get("fan_in_fan_out") is True,
        ranks=_numbers(found, "rank_pattern", where),
        alphas=_numbers(found, "alpha_pattern", where),
        experts=frozenset(name.rpartition(".")[0] for name in _texts(found, "target_parameters", where)),
        notes=tuple(_NOTES[name] for name in told),
    )


def _object(text: bytes, where: str) -> dict[str, object]:
    if len(text) >= LONGEST_CONFIG:
        raise UnreadableFile(f"{where} has {len(text):,} bytes or more, at most {LONGEST_CONFIG - 1:,} are read")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnreadableFile(f"{where} is not JSON: {str(error)[:200]}") from error
    if not isinstance(found, dict):
        raise UnreadableFile(f"{where} is not a JSON object")
    return found


def _number(found: Mapping[str, object], name: str, where: str) -> float | None:
    value = found.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise UnreadableFile(f"{where}: {name} is {str(value)[:40]!r}, a number from 0 was expected")
    return float(value)


def _numbers(found: Mapping[str, object], name: str, where: str) -> dict[str, float]:
    table = found.get(name) or {}
    if not isinstance(table, dict) or len(table) > 10_000:
        raise UnreadableFile(f"{where}: {name} is no table of numbers, or of more than 10,000")
    if (size := sum(map(len, table))) > _MOST_PATTERN:
        raise UnreadableFile(f"{where}: {name} has {size:,} characters of patterns, at most {_MOST_PATTERN:,} are read")
    return {key: _number(table, key, f"{where}: {name}") or 0.0 for key in table}


def _texts(found: Mapping[str, object], name: str, where: str) -> list[str]:
    names = found.get(name) or []
    if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
        raise UnreadableFile(f"{where}: {name} is no list of names")
    return names
