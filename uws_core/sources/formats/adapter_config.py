"""The size of an adapter's updates as its configuration gives it: `adapter_config.json`, or the file's own header."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from uws_core.errors import UnreadableFile, UnsupportedFormat
from uws_core.sources.files.tensors import CONFIG, LONGEST_CONFIG
from uws_core.sources.formats.patterns import Patterns

# The header entry in which diffusers keeps the configuration as JSON, with or without the component before each key.
NOTES: Final = "lora_adapter_metadata"
# Header entries that hold one alpha for the whole file, and those that hold the rank it belongs to.
_HEADER_ALPHAS: Final = ("lora_alpha", "alpha", "network_alpha", "ss_network_alpha")
_HEADER_RANKS: Final = ("r", "rank", "lora_rank", "network_dim", "ss_network_dim")
# What PEFT takes when the file does not say.
_PEFT_ALPHA: Final = 8.0
# All patterns of one table together; a name a module of the largest models takes a tenth.
_MOST_PATTERN: Final = 500_000
# Methods whose updates are products of small matrices.
KINDS: Final = frozenset({"LORA", "LOHA", "LOKR"})
# Values of `init_lora_weights` after which `scale * up @ down` is no update of the base as it is published.
_STARTS: Final[Mapping[str, str]] = {
    "pissa": "PiSSA start: the update counts from the base minus its leading part, not from the published base",
    "olora": "OLoRA start: the update counts from the base minus its start, not from the published base",
    "corda": "CorDA start: the update counts from the base minus its start, not from the published base",
    "loftq": "LoftQ start: the update counts from a quantised base, not from the published one",
    "lora_ga": "LoRA-GA start: the update counts from the base minus its start, not from the published base",
}
# Other starts that leave the base as it is.
_PLAIN_STARTS: Final = frozenset({"true", "false", "none", "gaussian", "eva", "orthogonal", "mica"})
# Settings that change what the update means, and are read with a note.
_NOTED: Final[Mapping[str, str]] = {
    "use_dora": "DoRA: what is compared is the low-rank part, before the magnitudes rescale the sum with the base",
    "kasa_config": "KaSA: the update counts from the base without its least singular values, not the published one",
    "alora_invocation_tokens": "aLoRA: the update acts only on tokens after the invocation",
    "layer_replication": "the base was made longer by repeating layers; layers are named as in that longer model",
}
# Settings of PEFT under which the stored matrices mean something else.
_STRANGE: Final = ("use_qalora", "use_bdlora", "monteclora_config", "use_bd_lora", "arrow_config")
# Settings of PEFT, and of programs that write its file, which leave `scale * up @ down` as it is.
_HARMLESS: Final = frozenset(
    """
    task_type peft_type auto_mapping peft_version base_model_name_or_path revision inference_mode r target_modules
    exclude_modules lora_alpha alpha lora_dropout fan_in_fan_out bias use_rslora modules_to_save init_lora_weights
    init_weights layers_to_transform layers_pattern rank_pattern alpha_pattern megatron_config megatron_core
    trainable_token_indices loftq_config eva_config corda_config lora_ga_config velora_config qalora_group_size
    runtime_config lora_bias target_parameters ensure_weight_tying rank_dropout module_dropout use_effective_conv2d
    decompose_both decompose_factor rank_dropout_scale merge_weights modules_mapping unsloth_fixed model_name_or_path
    """.split()  # noqa: SIM905 - forty names are read more easily in lines than as literals
)
# The layers that GPT-2 and its like store as inputs x outputs, and the classes that do.
_CONV1D: Final = re.compile(r"(?:^|\.)h\.\d+\.(?:attn|crossattention|mlp)\.(?:c_attn|c_proj|c_fc|q_attn)$")
_CONV1D_MODELS: Final = re.compile(r"(?i)gpt-?2|openai-?gpt|imagegpt|decision_?transformer|dialogpt|cerebras")


@dataclass(frozen=True)
class Settings:
    """The ingredients of a scale: rank and alpha, with exceptions by module, and how weights are stored.

    `factor` replaces alpha / rank where a writer stores the scale itself. `whole` names the modules that were trained
    whole, None where the writer does not say. `conv1d` tells that the base is known to store its `c_attn`, `c_proj`
    and so on as inputs x outputs, whatever `transposed` says: PEFT saves one flag for all kinds of layers.
    """

    where: str
    kind: str = "LORA"
    rank: float | None = None
    alpha: float | None = _PEFT_ALPHA
    factor: float | None = None
    rs: bool = False
    transposed: bool = False
    conv1d: bool = False
    ranks: Mapping[str, float] = field(default_factory=dict)
    alphas: Mapping[str, float] = field(default_factory=dict)
    experts: frozenset[str] = frozenset()
    whole: frozenset[str] | None = None
    notes: tuple[str, ...] = ()

    def scale(self, module: str, rank: int | None) -> tuple[float, str]:
        """The factor of a module's update and where it was found; `rank` is that of the stored matrices, if known.

        Raises:
            UnsupportedFormat: a pattern that is not understood, or no rank anywhere.
        """
        if self.factor is not None:
            return self.factor, f"{self.where}: scale {self.factor:g}"
        alpha, pattern = self._exception(self.alphas, self._alpha_patterns, module)
        of = rank or self._exception(self.ranks, self._rank_patterns, module)[0] or self.rank
        if not of:
            raise UnsupportedFormat(f"{module}: neither its matrices nor {self.where} tell its rank")
        alpha = self.alpha if alpha is None else alpha
        if alpha is None:
            raise UnsupportedFormat(f"{module}: {self.where} has no alpha")
        named = f"alpha_pattern {pattern!r}" if pattern else "lora_alpha"
        if self.rs:
            return alpha / math.sqrt(of), f"{self.where}: {named} {alpha:g} / sqrt(rank {of:g}), rsLoRA"
        return alpha / of, f"{self.where}: {named} {alpha:g} / rank {of:g}"

    def expected_rank(self, module: str) -> float | None:
        """The rank that the configuration gives a module's matrices; None where it gives none."""
        return self._exception(self.ranks, self._rank_patterns, module)[0] or self.rank

    def of_experts(self, module: str) -> bool:
        """Whether a module's update is of stacked experts, whose ranks are not one matrix's."""
        # PEFT nests the wrappers of two parameters of one module: `experts.base_layer`.
        nested = module.endswith(".base_layer")
        while module.endswith(".base_layer"):
            module = module.removesuffix(".base_layer")
        words = module.split(".") if self.experts else []
        return nested or "" in self.experts or any(".".join(words[i:]) in self.experts for i in range(len(words)))

    def turns(self, module: str, *, has_conv1d: bool) -> bool:
        """Whether the base stores the module as inputs x outputs; `has_conv1d` tells if any module bears such a name.

        PEFT keeps one `fan_in_fan_out` for all modules, that of the last one it wrapped.
        """
        if self.conv1d or (self.transposed and has_conv1d):
            return is_conv1d(module)
        return self.transposed

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
    """The settings in an `adapter_config.json` of PEFT, mlx-lm or AdapterHub.

    Raises:
        UnreadableFile: no such JSON, or a value of the wrong kind.
        UnsupportedFormat: a method that is no low-rank update, or settings that are not known.
    """
    config = _object(text, CONFIG)
    if "peft_type" not in config:
        if "lora_parameters" in config or "fine_tune_type" in config:
            return _mlx_settings(config)
        if isinstance(values := config.get("config"), dict):
            return _adapterhub_settings(values)
    return _settings(config, CONFIG)


def settings_in_header(metadata: Mapping[str, str]) -> Mapping[str, Settings]:
    """The settings in a file's header by component (`unet`, `transformer`, ...); those of `""` are for all. Often none.

    Raises:
        UnreadableFile: damaged notes.
        UnsupportedFormat: a method that is no low-rank update, or settings that are not known.
    """
    parts: dict[str, dict[str, object]] = {}
    for key, value in (_object(metadata[NOTES].encode(), NOTES) if NOTES in metadata else {}).items():
        # Before 0.35, and in `save_lora_adapter` still, diffusers writes the keys of the configuration themselves.
        component, dot, name = ("", "", key) if key in _HARMLESS or key in _NOTED else key.partition(".")
        parts.setdefault(component if dot else "", {})[name if dot else key] = value
    settings = {component: _settings(values, NOTES) for component, values in parts.items()}
    if "" not in settings and (key := next((key for key in _HEADER_ALPHAS if _is_number(metadata.get(key))), "")):
        rank = next((float(metadata[name]) for name in _HEADER_RANKS if _is_number(metadata.get(name))), None)
        rs = metadata.get("use_rslora", "").lower() == "true"
        settings[""] = Settings(f"the header's {key}", rank=rank, alpha=float(metadata[key]), rs=rs)
    return settings


def other_alpha(metadata: Mapping[str, str]) -> str:
    """The header's alpha where it is no number, as a sentence, or nothing."""
    key = next((key for key in _HEADER_ALPHAS if metadata.get(key, "None") not in ("", "None")), "")
    return f"the header's {key} is {metadata[key][:40]!r}, no number" if key and not _is_number(metadata[key]) else ""


def is_conv1d(module: str) -> bool:
    """Whether a module bears the name of one that GPT-2 stores as inputs x outputs."""
    return _CONV1D.search(module) is not None


def _settings(config: Mapping[str, object], where: str) -> Settings:
    kind = str(config.get("peft_type") or "LORA")
    if kind not in KINDS:
        raise UnsupportedFormat(f"{where}: the method {kind[:40]} is no low-rank update; LoRA, LoHa and LoKr are read")
    if strange := [name for name in _STRANGE if config.get(name)]:
        raise UnsupportedFormat(f"{where}: {strange[0]} stores matrices that are not up and down; it is not read")
    unknown = [name for name, value in config.items() if value and name not in _HARMLESS | set(_NOTED) | set(_STRANGE)]
    if unknown:
        raise UnsupportedFormat(
            f"{where}: the setting {unknown[0][:60]!r} is not known here and may change what the matrices mean"
        )
    # LoHa and LoKr call it alpha.
    alphas = _number(config, "lora_alpha", where), _number(config, "alpha", where)
    start = str(config.get("init_lora_weights", "")).lower()
    known = next((name for name in _STARTS if start.startswith(name)), "")
    if start and not known and start not in _PLAIN_STARTS:
        raise UnsupportedFormat(f"{where}: the start {start[:40]!r} is not known here and may have changed the base")
    notes = [note for name, note in _NOTED.items() if config.get(name)]
    base = f"{config.get('base_model_name_or_path')} {config.get('auto_mapping')}"
    modules = config.get("modules_to_save")
    return Settings(
        where=where,
        kind=kind,
        rank=_number(config, "r", where),
        alpha=next((one for one in alphas if one is not None), _PEFT_ALPHA),
        rs=config.get("use_rslora") is True,
        transposed=config.get("fan_in_fan_out") is True,
        conv1d=_CONV1D_MODELS.search(base) is not None,
        ranks=_numbers(config, "rank_pattern", where),
        alphas=_numbers(config, "alpha_pattern", where),
        experts=frozenset(name.rpartition(".")[0] for name in _texts(config, "target_parameters", where)),
        whole=frozenset(map(str, modules)) if isinstance(modules, list) else frozenset(),
        notes=tuple(notes + ([_STARTS[known]] if known else [])),
    )


def _mlx_settings(config: Mapping[str, object]) -> Settings:
    """The settings that mlx-lm writes: the scale itself, times alpha / rank before it dropped alpha."""
    kind = str(config.get("fine_tune_type") or ("dora" if config.get("use_dora") else "lora")).lower()
    if kind not in ("lora", "dora"):
        raise UnsupportedFormat(f"{CONFIG}: fine_tune_type {kind[:40]!r} of mlx-lm is no low-rank update")
    parameters = config.get("lora_parameters")
    values: Mapping[str, object] = parameters if isinstance(parameters, dict) else {}
    where = f"{CONFIG} of mlx-lm"
    scale, rank = _number(values, "scale", where), _number(values, "rank", where)
    alpha = _number(values, "alpha", where)
    if scale is None:
        raise UnsupportedFormat(f"{where}: it has no scale, so the size of the updates is not known")
    if alpha is not None and not rank:
        raise UnsupportedFormat(f"{where}: it has an alpha and no rank, so the size of the updates is not known")
    factor = scale * alpha / rank if alpha is not None and rank else scale
    return Settings(where, rank=rank, factor=factor, notes=(_NOTED["use_dora"],) if kind == "dora" else ())


def _adapterhub_settings(values: Mapping[str, object]) -> Settings:
    """The settings that AdapterHub's library writes for LoRA; its other methods are refused by name."""
    kind = str(values.get("architecture") or "bottleneck adapters")
    where = f"{CONFIG} of AdapterHub"
    if kind != "lora":
        raise UnsupportedFormat(f"{where}: the method {kind[:40]} is no low-rank update; it is not read")
    strange = [name for name in ("use_gating", "vera_d", "vera_b") if values.get(name)]
    if values.get("composition_mode", "add") != "add" or strange:
        name = strange[0] if strange else "composition_mode"
        raise UnsupportedFormat(f"{where}: {name} {str(values.get(name))[:40]!r} is no plain sum with the base")
    alpha = _number(values, "alpha", where)
    if alpha is None:
        raise UnsupportedFormat(f"{where}: it has no alpha, so the size of the updates is not known")
    return Settings(where, rank=_number(values, "r", where), alpha=alpha)


def _is_number(text: str | None) -> bool:
    try:
        return text is not None and 0 <= float(text) < 1e9
    except ValueError:
        return False


def _object(text: bytes, where: str) -> dict[str, object]:
    if len(text) >= LONGEST_CONFIG:
        raise UnreadableFile(f"{where} has {len(text):,} bytes or more, at most {LONGEST_CONFIG - 1:,} are read")
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnreadableFile(f"{where} is not JSON: {str(error)[:200]}") from error
    if not isinstance(config, dict):
        raise UnreadableFile(f"{where} is not a JSON object")
    return config


def _number(config: Mapping[str, object], name: str, where: str) -> float | None:
    value = config.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise UnreadableFile(f"{where}: {name} is {str(value)[:40]!r}, a number from 0 was expected")
    return float(value)


def _numbers(config: Mapping[str, object], name: str, where: str) -> dict[str, float]:
    table = config.get(name) or {}
    if not isinstance(table, dict) or len(table) > 10_000:
        raise UnreadableFile(f"{where}: {name} is no table of numbers, or of more than 10,000")
    if (size := sum(map(len, table))) > _MOST_PATTERN:
        raise UnreadableFile(f"{where}: {name} has {size:,} characters of patterns, at most {_MOST_PATTERN:,} are read")
    return {key: _number(table, key, f"{where}: {name}") or 0.0 for key in table}


def _texts(config: Mapping[str, object], name: str, where: str) -> list[str]:
    names = config.get(name) or []
    if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
        raise UnreadableFile(f"{where}: {name} is no list of names")
    return names
