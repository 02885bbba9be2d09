"""The forms of an adapter's update: how its matrices are put together. Shapes are checked before anything is read.

Every form ends in two thin factors, `up (m, r) @ down (r, p)`, and the full update is never formed:
* LoRA: as stored; convolutions flattened, with a core in between (CP) folded into `down`.
* KaSA: `up diag(d) down`, the diagonal folded into `up`. mlx-lm: `(a b)^T` of `a (p, r)` and `b (r, m)`.
* LoHa: `(w1_a w1_b) * (w2_a w2_b)` has rank r^2 at most; its factors are row-wise Kronecker products.
* LoKr: `kron(w1, w2)` with `w1 = P1 Q1`, `w2 = P2 Q2` is `kron(P1, P2) @ kron(Q1, Q2)`.
Sources: Hu et al. 2021 (LoRA), Hyeon-Woo et al. 2021 (FedPara, LoHa), Yeh et al. 2023 (LyCORIS).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from uws_core.sources.formats.adapter_keys import Role

if TYPE_CHECKING:
    from torch import Tensor

Shape = tuple[int, ...]
Shapes = Mapping[Role, Shape]
# Gives a part as it is stored, in a type that can be multiplied.
Load = Callable[[Role], "Tensor"]

# Factors thinner than this stay cheap; a LoKr of a full second matrix would need thousands of columns.
MOST_RANKS: Final = 256
# Two files of 320 kB can spell a product of 10^9 rows: factors up to 256 MB in float32 are formed, which holds every
# layer that is trained today (a vocabulary of 150 000 by 8192, of rank 256, takes 160 MB).
MOST_ENTRIES: Final = 2**26


@dataclass(frozen=True, slots=True)
class Sized:
    """The update's m x p, the rank of its factors, and the rank that its scale divides by (None: by the settings)."""

    shape: tuple[int, int]
    rank: int
    of: int | None


@dataclass(frozen=True, slots=True)
class Form:
    """One way to write an update: the parts it cannot do without, those it may have, and how to put them together.

    `size` returns None where the shapes do not fit. `stored` says that `up` and `down` lie in the file as they are.
    """

    name: str
    needs: frozenset[Role]
    may: frozenset[Role]
    size: Callable[[Shapes], Sized | None]
    factors: Callable[[Load, Shapes], tuple[Tensor, Tensor]]
    stored: bool = False
    # The first part stands for outputs in the file, for inputs in the layer as the base stores it.
    turned: bool = False
    # PEFT's `fan_in_fan_out` turns it.
    takes_flag: bool = False


def form_of(shapes: Shapes) -> Form | None:
    """The form whose parts are exactly these, or None; alpha, scalar and magnitude belong to any."""
    parts = set(shapes) - {Role.ALPHA, Role.SCALAR, Role.MAGNITUDE}
    if not parts or any(0 in shapes[role] for role in parts):
        return None
    return next((form for form in FORMS if form.needs <= parts <= form.needs | form.may), None)


def _lora_size(shapes: Shapes) -> Sized | None:
    up, down, mid = shapes[Role.UP], shapes[Role.DOWN], shapes.get(Role.MID)
    if len(up) < 2 or len(down) < 2 or math.prod(up[2:]) != 1 or up[1] != (mid or down)[0]:
        return None
    if mid is None:
        return Sized((up[0], math.prod(down[1:])), down[0], down[0])
    if len(mid) < 2 or mid[1] != down[0] or math.prod(down[2:]) != 1:
        return None
    return Sized((up[0], down[1] * math.prod(mid[2:])), mid[0], down[0])


def _lora(load: Load, shapes: Shapes) -> tuple[Tensor, Tensor]:
    up, down = load(Role.UP).flatten(1), load(Role.DOWN)
    if Role.MID in shapes:
        return up, _through_core(load(Role.MID), down.flatten(1))
    return up, down.flatten(1)


def _kasa_size(shapes: Shapes) -> Sized | None:
    size = _lora_size(shapes)
    return size if size and shapes[Role.DIAGONAL] == (size.rank,) else None


def _kasa(load: Load, shapes: Shapes) -> tuple[Tensor, Tensor]:
    up, down = _lora(load, shapes)
    return up * load(Role.DIAGONAL), down


def _mlx_size(shapes: Shapes) -> Sized | None:
    a, b = shapes[Role.INPUT_DOWN], shapes[Role.OUTPUT_UP]
    if len(a) != 2 or len(b) != 2 or a[1] != b[0]:
        return None
    return Sized((b[1], a[0]), b[0], b[0])


def _mlx(load: Load, shapes: Shapes) -> tuple[Tensor, Tensor]:
    return load(Role.OUTPUT_UP).T, load(Role.INPUT_DOWN).T


def _embedding_size(shapes: Shapes) -> Sized | None:
    up, down = shapes[Role.EMBED_UP], shapes[Role.EMBED_DOWN]
    if len(up) != 2 or len(down) != 2 or up[1] != down[0]:
        return None
    return Sized((up[0], down[1]), down[0], down[0])


def _embedding(load: Load, shapes: Shapes) -> tuple[Tensor, Tensor]:
    return load(Role.EMBED_UP), load(Role.EMBED_DOWN)


def _loha_size(shapes: Shapes) -> Sized | None:
    cores = shapes.get(Role.HADA_T1), shapes.get(Role.HADA_T2)
    if (cores[0] is None) != (cores[1] is None):
        return None
    first = _product_size(shapes[Role.HADA_W1_A], shapes[Role.HADA_W1_B], cores[0])
    second = _product_size(shapes[Role.HADA_W2_A], shapes[Role.HADA_W2_B], cores[1])
    if first is None or second is None or first.shape != second.shape:
        return None
    return Sized(first.shape, first.rank * second.rank, shapes[Role.HADA_W1_B][0])


def _loha(load: Load, shapes: Shapes) -> tuple[Tensor, Tensor]:
    left = _product(load, Role.HADA_W1_A, Role.HADA_W1_B, Role.HADA_T1 if Role.HADA_T1 in shapes else None)
    right = _product(load, Role.HADA_W2_A, Role.HADA_W2_B, Role.HADA_T2 if Role.HADA_T2 in shapes else None)
    up = (left[0].unsqueeze(2) * right[0].unsqueeze(1)).flatten(1)
    return up, (left[1].unsqueeze(1) * right[1].unsqueeze(0)).flatten(0, 1)


def _lokr_size(shapes: Shapes) -> Sized | None:
    first = _side_size(shapes, Role.LOKR_W1, Role.LOKR_W1_A, Role.LOKR_W1_B, None)
    second = _side_size(shapes, Role.LOKR_W2, Role.LOKR_W2_A, Role.LOKR_W2_B, Role.LOKR_T2)
    if first is None or second is None:
        return None
    shape = first.shape[0] * second.shape[0], first.shape[1] * second.shape[1]
    # Two whole matrices have no rank to divide by; of factored ones the later gives it, as in LyCORIS.
    return Sized(shape, first.rank * second.rank, second.of or first.of)


def _lokr(load: Load, shapes: Shapes) -> tuple[Tensor, Tensor]:
    import torch

    left = _side(load, shapes, Role.LOKR_W1, Role.LOKR_W1_A, Role.LOKR_W1_B, None)
    right = _side(load, shapes, Role.LOKR_W2, Role.LOKR_W2_A, Role.LOKR_W2_B, Role.LOKR_T2)
    return torch.kron(left[0], right[0]), torch.kron(left[1], right[1])


def _side_size(shapes: Shapes, whole: Role, a: Role, b: Role, core: Role | None) -> Sized | None:
    """A Kronecker factor: given whole, or as a product."""
    if (whole in shapes) == (a in shapes and b in shapes):
        return None
    if whole not in shapes:
        return _product_size(shapes[a], shapes[b], shapes.get(core) if core else None)
    if len(shapes[whole]) < 2:
        return None
    shape = shapes[whole][0], math.prod(shapes[whole][1:])
    return Sized(shape, min(shape), None)


def _side(load: Load, shapes: Shapes, whole: Role, a: Role, b: Role, core: Role | None) -> tuple[Tensor, Tensor]:
    import torch

    if whole not in shapes:
        return _product(load, a, b, core if core in shapes else None)
    matrix = load(whole).flatten(1)
    one = torch.eye(min(matrix.shape), dtype=matrix.dtype)
    return (matrix, one) if matrix.shape[1] <= matrix.shape[0] else (one, matrix)


def _product_size(a: Shape, b: Shape, core: Shape | None) -> Sized | None:
    """`a @ b`, or with a core `(i, j, ...)`: `a (i, m)`, `b (j, p)` and the core's own axes last."""
    if len(a) != 2 or len(b) < 2:
        return None
    if core is None:
        return Sized((a[0], math.prod(b[1:])), b[0], b[0]) if a[1] == b[0] else None
    if len(core) < 2 or core[0] != a[0] or core[1] != b[0] or len(b) != 2:
        return None
    return Sized((a[1], b[1] * math.prod(core[2:])), a[0], b[0])


def _product(load: Load, a: Role, b: Role, core: Role | None) -> tuple[Tensor, Tensor]:
    if core is None:
        return load(a), load(b).flatten(1)
    return load(a).T, _through_core(load(core), load(b))


def _through_core(core: Tensor, down: Tensor) -> Tensor:
    """`(i, j, ...)` and `(j, p)` to `(i, p ...)`: the core's own axes, a kernel's height and width, stay innermost."""
    import torch

    return torch.einsum("ijk,jp->ipk", core.flatten(2), down).flatten(1)


_HADA: Final = frozenset({Role.HADA_W1_A, Role.HADA_W1_B, Role.HADA_W2_A, Role.HADA_W2_B})
_LOKR: Final = frozenset(role for role in Role if role.startswith("lokr_"))

MLX: Final = "LoRA of mlx-lm"

FORMS: Final = (
    Form("LoRA", frozenset({Role.UP, Role.DOWN}), frozenset(), _lora_size, _lora, stored=True, takes_flag=True),
    Form("LoRA with a core", frozenset({Role.UP, Role.DOWN, Role.MID}), frozenset(), _lora_size, _lora),
    Form("KaSA", frozenset({Role.UP, Role.DOWN, Role.DIAGONAL}), frozenset(), _kasa_size, _kasa, takes_flag=True),
    Form(MLX, frozenset({Role.INPUT_DOWN, Role.OUTPUT_UP}), frozenset(), _mlx_size, _mlx),
    Form(
        "embedding LoRA",
        frozenset({Role.EMBED_UP, Role.EMBED_DOWN}),
        frozenset(),
        _embedding_size,
        _embedding,
        stored=True,
        turned=True,
    ),
    Form("LoHa", _HADA, frozenset({Role.HADA_T1, Role.HADA_T2}), _loha_size, _loha),
    Form("LoKr", frozenset(), _LOKR, _lokr_size, _lokr),
)
