"""The matrices around a hidden layer of an MLP, told by their names."""

from __future__ import annotations

from collections.abc import Sequence, Set

from uws_core.nouns.independence import HiddenLayer
from uws_core.nouns.models import LayerKey

# Last parts of the names of the matrices before a hidden layer, and of the one after it.
_NAMES: tuple[tuple[tuple[str, ...], str], ...] = (
    (("gate_proj", "up_proj"), "down_proj"),  # Llama, Mistral, Qwen, Gemma
    (("up_proj",), "down_proj"),  # Nemotron, Falcon-Mamba
    (("w1", "w3"), "w2"),  # Mixtral, and Llama as first published
    (("wi_0", "wi_1"), "wo"),  # T5 1.1, UL2
    (("wi",), "wo"),  # T5
    (("fc1",), "fc2"),  # ViT of timm, CLIP, SigLIP, Phi, OPT, BART, Whisper
    (("c_fc",), "c_proj"),  # GPT-2
    (("fc_in",), "fc_out"),  # GPT-J, CodeGen
    (("dense_h_to_4h",), "dense_4h_to_h"),  # GPT-NeoX, BLOOM, Falcon
    (("intermediate.dense",), "output.dense"),  # BERT, ViT of transformers
    (("lin1",), "lin2"),  # DistilBERT, SAM
    (("linear1",), "linear2"),  # torch's own transformer layers
    (("up",), "down"),  # the built-in networks
)
KNOWN_NAMES = ", ".join(f"{before[-1]} and {after}" for before, after in _NAMES)


def hidden_layers(layers: Sequence[LayerKey], *, transposed: Set[str] = frozenset()) -> tuple[HiddenLayer, ...]:
    """Returns the hidden layers whose matrices before and after are known by name and fit each other, in order.

    `transposed` names the layers that are stored as inputs x outputs.
    """
    by_name = {key.name: key for key in layers if not key.factor}
    found: dict[str, HiddenLayer] = {}
    for key in layers:
        one = _before_and_after(key.name, by_name, transposed)
        if one is not None:
            found.setdefault(one.name, one)
    return tuple(found.values())


def _before_and_after(name: str, by_name: dict[str, LayerKey], transposed: Set[str]) -> HiddenLayer | None:
    """The hidden layer that the layer `name` stands before."""
    plain = name.removesuffix(".weight")
    for before, after in _NAMES:
        stem = next((plain.removesuffix(word) for word in before if f".{plain}".endswith(f".{word}")), None)
        if stem is None:
            continue
        suffix = name[len(plain) :]
        names = tuple(f"{stem}{word}{suffix}" for word in (*before, after))
        if not all(other in by_name for other in names):
            continue
        # Units are the outputs before and the inputs after, each the other side where the layer is stored transposed.
        sides = tuple(
            "out" if (place < len(before)) != (other in transposed) else "in" for place, other in enumerate(names)
        )
        units = {by_name[other].shape[0 if side == "out" else 1] for other, side in zip(names, sides, strict=True)}
        if len(units) == 1:
            # Named as the block it stands in: `blocks.0.mlp`.
            return HiddenLayer(stem.rstrip(".") or "mlp", names, sides, units.pop())
    return None
