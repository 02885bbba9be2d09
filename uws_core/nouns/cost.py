"""Amounts of bytes, the cost of a pass before it starts, and the speed of a machine."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from uws_core.errors import BudgetError
from uws_core.nouns.block_grams import most_blocks
from uws_core.nouns.models import LayerKey

# No machine holds more.
_MOST = 2**50
# Binary and decimal prefixes; a bare letter (4G) is binary, as in most command lines.
_UNITS = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgt", start=1):
    _UNITS |= {_letter: 1024**_power, f"{_letter}ib": 1024**_power, f"{_letter}b": 1000**_power}


def bytes_from(text: str) -> int:
    """The number of bytes that `4GiB`, `500 MB`, `2g` or `1048576` stands for.

    Raises:
        ValueError: no such amount.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text.lower())
    if not found or found[2] not in _UNITS:
        raise ValueError(f"An amount of bytes such as 4GiB, 500MB or 1048576 was expected; found {text!r}")
    amount = float(found[1]) * _UNITS[found[2]]
    if amount > _MOST:
        raise ValueError(f"An amount of at most {bytes_text(_MOST)} was expected; found {text[:40]!r}")
    return int(amount)


def bytes_text(count: float) -> str:
    """A number of bytes with three digits and a binary unit: `1.50 GiB`."""
    size = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if abs(size) < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} TiB" if size < 1000 else f"{size:,.0f} TiB"


# The bytes of slabs in memory, unless somebody says otherwise.
BUDGET = 256 * 2**20
# More memory than this for one slab only costs page faults, unless a model's share falls below one good read.
_ENOUGH = 32 * 2**20
_GOOD_READ = 128 * 2**10
# Beside a GPU reading takes most of the time, and four times longer pieces take half of it.
_TIMES_BESIDE_GPU = 4
# The factors of all adapters of a layer are held together, and may take that many budgets.
LOW_RANK_BUDGETS = 4


@dataclass(frozen=True, slots=True)
class Throughput:
    """How fast a machine does what a pass is made of; `measured` is False where these are a modest machine's.

    `bytes_per_second` of reading files, `steps_per_second` multiply-adds of float32 products, `entries_per_second`
    weights taken through the sums around the products, all of `cores` cores together; `seconds_per_open` to open one
    model, once a scan, `seconds_per_read` to find one tensor of it and read that much more.
    """

    bytes_per_second: float = 400e6
    steps_per_second: float = 2e10
    entries_per_second: float = 2e8
    seconds_per_open: float = 1e-3
    seconds_per_read: float = 2e-4
    cores: int = 2
    measured: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """What reading one layer of `models` models moves: `bytes` as they are stored, of them `far` from the Hub.

    `ranks` is the sum of the models' ranks where they are adapters whose factors are read, else 0; `item_bytes` is
    what one number takes in the products: 4, or 8 in double precision.
    """

    layer: LayerKey
    models: int
    bytes: int
    far: int = 0
    ranks: int = 0
    item_bytes: int = 4

    @property
    def factors(self) -> int:
        """The numbers in all factors together, `R (m + p)`; 0 of a dense layer."""
        return self.ranks * sum(self.layer.shape)

    def rows(self, budget: int) -> int:
        """How many rows of all models one slab has; all rows of thin factors.

        Raises:
            BudgetError: not even one row fits, or not all factors do.
        """
        if self.ranks:
            check_factors(self.models, self.layer, held=self.factors * self.item_bytes, budget=budget)
            return self.layer.shape[0]
        return slab_rows(self.models, self.layer, item_bytes=self.item_bytes, budget=budget)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a scan takes: `layers`, `bytes` to read, peak `memory` in bytes beyond the imports, `seconds`, about.

    `stored` are the bytes of the results in the store: 8 n^2 a layer, and a little. `far` are the bytes that the Hub
    must send; their time is part of `seconds`. `refused` says of each layer that the budget has no room for why; these
    are not in the other numbers.
    """

    layers: int
    bytes: int
    memory: int
    seconds: float
    far: int = 0
    stored: int = 0
    refused: tuple[str, ...] = ()

    @property
    def refusal(self) -> str:
        """Why some layers cannot be read within the budget, in one sentence; nothing when all can."""
        more = f"; and {len(self.refused) - 1} more layers" if len(self.refused) > 1 else ""
        return self.refused[0] + more if self.refused else ""


def slab_rows(n: int, layer: LayerKey, *, item_bytes: int, budget: int, beside_gpu: bool = False) -> int:
    """How many rows of `n` models make a slab: as many as reading well needs, if two such fit into `budget` bytes.

    The number depends on nothing else, so that products are formed of the same rows on every processor.

    Raises:
        BudgetError: not even one row does; the message says how much one row needs.
    """
    m, p = layer.shape
    one_row = 2 * n * p * item_bytes
    if one_row > budget:
        raise BudgetError(
            f"{layer.name}: one row of {n} models takes {bytes_text(one_row)} (twice, to read ahead), the memory "
            f"budget is {bytes_text(budget)}; raise the budget to at least that or choose fewer models"
        )
    enough = 2 * max(_ENOUGH, n * _GOOD_READ) * (_TIMES_BESIDE_GPU if beside_gpu else 1)
    rows = min(m, max(1, min(budget, enough) // one_row))
    # Whole row blocks: what is left of one at the end of a slab makes products of few entries, 5 % of a pass.
    height = -(-m // max(most_blocks(n), 1))
    return rows - rows % height if rows < m and rows > height else rows


def slabs_at_once(n: int, layer: LayerKey, *, item_bytes: int, budget: int, cores: int) -> int:
    """How many slabs are in memory: one for each core and one more, if so many fit into `budget` and make the layer.

    Raises:
        BudgetError: not even one row of every model fits twice.
    """
    m, p = layer.shape
    rows = slab_rows(n, layer, item_bytes=item_bytes, budget=budget)
    return min(cores + 1, budget // (rows * n * p * item_bytes), -(-m // rows))


def check_factors(n: int, layer: LayerKey, *, held: int, budget: int, of: int | None = None) -> None:
    """Nothing, where the factors of `n` adapters (`of` so many), `held` bytes together, fit four budgets.

    Raises:
        BudgetError: they do not; the message says both figures.
    """
    if held > LOW_RANK_BUDGETS * budget:
        raise BudgetError(
            f"{layer.name}: the factors of {n if of is None else f'{n} of {of}'} adapters take {bytes_text(held)}, "
            f"{LOW_RANK_BUDGETS} memory budgets allow {bytes_text(LOW_RANK_BUDGETS * budget)}; "
            f"raise the budget to at least {bytes_text(-(-held // LOW_RANK_BUDGETS))} or choose fewer models"
        )


def planned(layers: Sequence[LayerKey], *, n: int, item_bytes: int = 4, ranks: int = 0) -> tuple[Reading, ...]:
    """The readings of layers of `n` models before any header was read: `item_bytes` a stored weight, `ranks` a layer.

    With `ranks`, the sum over the models, the layers are adapters' updates.
    """
    held = max(item_bytes, 4)
    return tuple(
        Reading(
            layer,
            n,
            item_bytes * (ranks * sum(layer.shape) if ranks else n * layer.entries),
            ranks=ranks,
            item_bytes=held,
        )
        for layer in layers
    )


def result_bytes(layers: int, *, n: int) -> int:
    """The most bytes that the Grams of so many layers of `n` models take in the store.

    n x n numbers in float64, `n` rows of statistics, and half of the symmetric products of row and column blocks in
    float32.
    """
    # Nine numbers and a name a model, and the file's own head; 40 models were measured at 17 kB.
    return layers * (8 * n * n + 90 * n + 1000 + most_blocks(n) * (n + 1) * (n + 2) * 4)
