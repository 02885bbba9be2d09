"""Linear layers with a frozen weight and a trained update: a core, a diagonal, members' weights, LoRA, or all of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from uws_core.errors import LayerError


class AdaptedLinear(nn.Module):
    """`y = W x + b + update(x)`: the layer it wraps stays as it is, only the update is trained.

    The update is computed in `kind`: float32 where the layer is in half precision, in which small steps would be lost.
    """

    def __init__(self, linear: nn.Module, kind: torch.dtype) -> None:
        super().__init__()
        self.linear, self.kind = linear, kind

    def forward(self, x: Tensor) -> Tensor:
        """The layer's outputs with the update's added."""
        y: Tensor = self.linear(x)
        return y + self.update(x.to(self.kind)).to(y.dtype)

    def update(self, x: Tensor) -> Tensor:
        """The update's outputs alone."""
        raise NotImplementedError

    def factors(self) -> tuple[Tensor, Tensor]:
        """The update as `up` (m, r) and `down` (r, p)."""
        raise NotImplementedError

    def coefficients(self) -> dict[str, nn.Parameter]:
        """The trained parameters, by name."""
        return dict(self.named_parameters(recurse=False))


class CoreLinear(AdaptedLinear):
    """Update `U C V^T` with orthonormal U (m, k_out), V (p, k_in) and trained C, zero at the start."""

    def __init__(self, linear: nn.Module, left: Tensor, right: Tensor) -> None:
        super().__init__(linear, left.dtype)
        self.left: Tensor
        self.right_t: Tensor
        self.register_buffer("left", left, persistent=False)
        self.register_buffer("right_t", right.T.contiguous(), persistent=False)
        self.core = nn.Parameter(left.new_zeros(left.shape[1], right.shape[1]))

    def update(self, x: Tensor) -> Tensor:
        """The update's outputs: three products of k columns."""
        return functional.linear(functional.linear(functional.linear(x, self.right_t), self.core), self.left)

    def factors(self) -> tuple[Tensor, Tensor]:
        """`U C` and `V^T`."""
        return self.left @ self.core, self.right_t


class DiagonalLinear(AdaptedLinear):
    """Update `U diag(c) V^T` with trained c, zero at the start."""

    def __init__(self, linear: nn.Module, left: Tensor, right: Tensor) -> None:
        super().__init__(linear, left.dtype)
        k = min(left.shape[1], right.shape[1])
        self.left: Tensor
        self.right_t: Tensor
        self.register_buffer("left", left[:, :k].contiguous(), persistent=False)
        self.register_buffer("right_t", right[:, :k].T.contiguous(), persistent=False)
        self.diagonal = nn.Parameter(left.new_zeros(k))

    def update(self, x: Tensor) -> Tensor:
        """The update's outputs."""
        return functional.linear(functional.linear(x, self.right_t) * self.diagonal, self.left)

    def factors(self) -> tuple[Tensor, Tensor]:
        """`U diag(c)` and `V^T`."""
        return self.left * self.diagonal, self.right_t


class MixtureLinear(AdaptedLinear):
    """Update `U (sum_i a_i C_i / |C_i|) V^T`: the members' cores mixed with trained weights a, zero at the start."""

    def __init__(self, linear: nn.Module, left: Tensor, right: Tensor, cores: Tensor) -> None:
        super().__init__(linear, left.dtype)
        self.left: Tensor
        self.right_t: Tensor
        self.cores: Tensor
        sizes = cores.flatten(1).norm(dim=1).clamp_min(torch.finfo(cores.dtype).tiny)
        self.register_buffer("left", left, persistent=False)
        self.register_buffer("right_t", right.T.contiguous(), persistent=False)
        self.register_buffer("cores", cores / sizes[:, None, None], persistent=False)
        self.mixture = nn.Parameter(left.new_zeros(cores.shape[0]))

    def _core(self) -> Tensor:
        mixed: Tensor = torch.tensordot(self.mixture, self.cores, dims=1)
        return mixed

    def update(self, x: Tensor) -> Tensor:
        """The update's outputs."""
        return functional.linear(functional.linear(functional.linear(x, self.right_t), self._core()), self.left)

    def factors(self) -> tuple[Tensor, Tensor]:
        """`U C` and `V^T` of the mixed core."""
        return self.left @ self._core(), self.right_t


class LoraLinear(AdaptedLinear):
    """Update `B A` with A (r, p) uniform within 1 / sqrt(p) as PEFT draws it, and B (m, r) zero; the scale is 1."""

    def __init__(self, linear: nn.Module, down: Tensor, outputs: int) -> None:
        super().__init__(linear, down.dtype)
        self.lora_a = nn.Parameter(down)
        self.lora_b = nn.Parameter(down.new_zeros(outputs, down.shape[0]))

    def update(self, x: Tensor) -> Tensor:
        """The update's outputs."""
        return functional.linear(functional.linear(x, self.lora_a), self.lora_b)

    def factors(self) -> tuple[Tensor, Tensor]:
        """B and A."""
        return self.lora_b, self.lora_a


class FullLinear(AdaptedLinear):
    """Every weight is trained, as an added matrix D (m, p) that is zero at the start."""

    def __init__(self, linear: nn.Module, kind: torch.dtype) -> None:
        super().__init__(linear, kind)
        self.delta = nn.Parameter(torch.zeros_like(weight_of(linear), dtype=kind))

    def forward(self, x: Tensor) -> Tensor:
        """The layer's outputs with its changed weight: one product, as the layer itself has."""
        bias = self.linear.bias
        weight = (weight_of(self.linear) + self.delta).to(weight_of(self.linear).dtype)
        return functional.linear(x, weight, bias if isinstance(bias, Tensor) else None)

    def factors(self) -> tuple[Tensor, Tensor]:
        """D and the unit matrix."""
        return self.delta, torch.eye(self.delta.shape[1], dtype=self.delta.dtype, device=self.delta.device)


def weight_of(linear: nn.Module) -> Tensor:
    """The weight (outputs, inputs) of a linear layer; transformers' Conv1D stores it as inputs x outputs."""
    weight = linear.weight
    if not isinstance(weight, Tensor):
        raise LayerError(f"{type(linear).__name__} has no weight")
    return weight.T if type(linear).__name__ == "Conv1D" else weight
