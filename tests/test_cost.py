"""The estimate before a scan: the formulas by hand, and the measured pace of a real machine."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import uws_core as uws
from uws_core.analysis.cost import FIXED_BYTES, NETWORK, scan_cost, side_cost
from uws_core.errors import BudgetError
from uws_core.nouns.cost import Reading, Throughput, planned, result_bytes
from uws_core.nouns.gram import Axis
from uws_core.nouns.models import LayerKey
from uws_core.passes.stored_sizes import readings
from uws_core.passes.throughput import measured_throughput
from uws_core.store.codec import to_bytes

LAYERS = [LayerKey("a", (10, 20)), LayerKey("b", (5, 8))]
# Row and column blocks of three models, in float32 with the mean and a row of ones.
BLOCKS_OF_3 = 2 * 64 * 4 * 5**2
THROUGHPUT = Throughput(1000.0, 1e4, 1e3, seconds_per_open=2.0, seconds_per_read=0.5)


def test_the_formula_by_hand():
    # 3 models: reading 3 * 240 * 4 = 2880 bytes takes 2.88 s, sums 0.72 s, products 9 * 240 / 1e4 = 0.216 s.
    cost = scan_cost(planned(LAYERS, n=3), n=3, budget=10**6, throughput=THROUGHPUT)
    assert cost.bytes == 2880
    assert cost.seconds == pytest.approx(2.88 + 0.72 + 0.216 + 3 * 2.0 + 3 * 2 * 0.5)
    assert cost.memory == 4 * 3 * 200 + 7 * 8 * 9 + 5 * BLOCKS_OF_3 + FIXED_BYTES
    assert cost.layers == 2


def test_results_take_the_square_of_the_models_in_the_store():
    finetuned = uws.collect("demo:finetuned")
    largest = max(finetuned.layers, key=lambda layer: layer.entries)
    # The bound is for 64 blocks a side, this layer has fewer rows and columns than would make so many.
    assert 0.5 * result_bytes(1, n=40) < len(to_bytes(uws.gram(finetuned, largest))) <= result_bytes(1, n=40)
    assert result_bytes(130, n=2000) == pytest.approx(130 * 32e6, rel=0.01)
    assert scan_cost(planned(LAYERS, n=3), n=3, budget=10**6).stored == result_bytes(2, n=3)


def test_products_dominate_where_models_are_many():
    slow = Throughput(1e12, 1e4, 1e12, 0.0, 0.0)
    for n in (10, 100, 1000):
        cost = scan_cost(planned(LAYERS, n=n), n=n, budget=10**6, throughput=slow)
        assert cost.seconds == pytest.approx(n * n * 240 / 1e4)


def test_half_precision_moves_half_and_adapters_move_their_factors():
    assert scan_cost(planned(LAYERS, n=3, item_bytes=2), n=3, budget=10**6).bytes == 1440
    thin = scan_cost(planned(LAYERS, n=3, ranks=12), n=3, budget=10**6)
    assert thin.bytes == 4 * 12 * (30 + 13)


def test_what_the_hub_must_send_takes_its_time():
    far = Reading(LAYERS[0], 3, 2400, far=int(NETWORK))
    near = Reading(LAYERS[0], 3, 2400)
    first, second = (scan_cost([one], n=3, budget=10**6, throughput=THROUGHPUT) for one in (far, near))
    assert first.seconds == pytest.approx(second.seconds + 1)
    assert (first.far, second.far) == (NETWORK, 0)


def test_memory_is_a_slab_a_core_and_one_more_within_the_budget():
    # One row of three models takes 240 bytes; five fit twice into 2,500, and then no third slab of so many.
    assert scan_cost(planned(LAYERS, n=3), n=3, budget=2500).memory == (
        2 * 5 * 240 + 7 * 8 * 9 + 5 * BLOCKS_OF_3 + FIXED_BYTES
    )
    large = planned([LayerKey("a", (10**4, 10**4))], n=10)
    slab = 32 * 2**20 // 400_000 * 400_000
    for cores, budget, count in ((1, 2**30, 2), (2, 2**30, 3), (15, 2**30, 16), (15, 2**27, 4)):
        cost = scan_cost(large, n=10, budget=budget, throughput=Throughput(cores=cores))
        blocks = 2 * 64 * 4 * 12**2
        assert cost.memory == count * slab + (cores + 5) * 8 * 100 + (cores + 3) * blocks + FIXED_BYTES


def test_a_layer_without_room_for_one_row_is_refused_with_the_figure_and_costs_nothing():
    cost = scan_cost(planned(LAYERS, n=3), n=3, budget=400, throughput=THROUGHPUT)
    assert cost.refused == (
        "a: one row of 3 models takes 480 bytes (twice, to read ahead), the memory budget is 400 bytes; "
        "raise the budget to at least that or choose fewer models",
    )
    assert (cost.layers, cost.bytes) == (1, 3 * 40 * 4)
    nothing = scan_cost(planned(LAYERS, n=3), n=3, budget=1)
    assert (nothing.layers, nothing.seconds) == (0, 0)
    assert nothing.refusal.endswith("and 1 more layers")
    with pytest.raises(BudgetError, match=r"factors of 3 adapters take 1\.41 KiB, 4 memory budgets"):
        planned(LAYERS, n=3, ranks=12)[0].rows(300)


def test_the_side_axes_cost_the_square_of_the_side():
    cost = side_cost(
        planned(LAYERS[:1], n=3), axis=Axis.IN, budget=10**6, throughput=Throughput(1e12, 1e4, 1e12, 0.0, 0.0)
    )
    assert cost.seconds == pytest.approx(3 * 200 * 20 / 1e4)
    assert cost.bytes == 2 * 2400


@pytest.mark.parametrize(("kind", "item"), [(torch.bfloat16, 2), (torch.float32, 4), (torch.float64, 8)])
def test_readings_are_what_the_headers_tell(tmp_path: Path, kind: torch.dtype, item: int):
    for number in range(3):
        save_file({"a.weight": torch.ones(6, 4, dtype=kind)}, tmp_path / f"m{number}.safetensors")
    collection = uws.collect(tmp_path)
    (found,) = readings(collection, ["a.weight"])
    assert (found.bytes, found.models, found.ranks) == (3 * 24 * item, 3, 0)
    assert found.item_bytes == max(item, 4)
    assert readings(collection, ["a.weight"], precision="double")[0].item_bytes == 8


def test_adapters_cost_their_factors():
    collection = uws.collect("demo:lora")
    key = next(key for key in collection.layers if not key.factor)
    (found,) = readings(collection, [key.name])
    rank = collection.by_name[f"{key.name}:A"].shape[0]
    assert found.ranks == rank * len(collection)
    # An alpha beside the factors is a few bytes more.
    assert found.bytes == pytest.approx(4 * found.factors, rel=0.05)
    assert scan_cost([found], n=len(collection), budget=2**28).bytes == found.bytes


def test_the_pace_of_this_machine_is_measured_once_and_is_possible():
    throughput = measured_throughput()
    assert throughput is measured_throughput()
    assert throughput.measured
    # From a crowded single core to a machine of the next decade.
    assert 1e6 < throughput.bytes_per_second < 1e13
    assert 1e6 < throughput.steps_per_second < 1e16
    assert 1e4 < throughput.entries_per_second < 1e13
    assert 1e-6 < throughput.seconds_per_read < 1.0
    assert 1e-6 < throughput.seconds_per_open < 1.0
    # What nobody measured is the same on every machine.
    assert (throughput.seconds_per_open, throughput.seconds_per_read) != (
        Throughput().seconds_per_open,
        Throughput().seconds_per_read,
    )
