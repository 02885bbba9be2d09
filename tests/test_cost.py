"""The estimate before a scan: the formulas by hand, and the measured pace of a real machine."""

import pytest

import uws_core as uws
from uws_core.analysis.cost import FIXED_BYTES, scan_cost
from uws_core.codec import gram_bytes
from uws_core.nouns.cost import Pace, result_bytes
from uws_core.nouns.models import LayerKey
from uws_core.passes.pace import measured_pace

LAYERS = [LayerKey("a", (10, 20)), LayerKey("b", (5, 8))]
PACE = Pace(bytes_per_second=1000.0, steps_per_second=1e4, entries_per_second=1e3, seconds_per_read=0.5)


def test_the_formula_by_hand():
    # 3 models: reading 3 * 240 * 4 = 2880 bytes takes 2.88 s; sums 0.72 s and products 9 * 240 / 1e4 = 0.216 s overlap.
    cost = scan_cost(LAYERS, n=3, budget=10**6, pace=PACE)
    assert cost.bytes == 2880
    assert cost.seconds == pytest.approx(2.88 + 3 * 2 * 0.5)
    assert cost.memory == 4 * 3 * 200 + 32 * 9 + FIXED_BYTES
    assert cost.layers == 2


def test_results_take_the_square_of_the_models_in_the_store():
    finetuned = uws.collect("demo:finetuned")
    gram = uws.gram(finetuned, finetuned.layers[0])
    assert result_bytes(1, n=40) == pytest.approx(len(gram_bytes(gram)), rel=0.1)
    assert result_bytes(130, n=2000) == pytest.approx(130 * 32e6, rel=0.01)
    assert scan_cost(LAYERS, n=3, budget=1).stored == result_bytes(2, n=3)


def test_products_dominate_where_models_are_many_and_only_part_of_the_square_is_formed():
    slow = Pace(1e12, 1e4, 1e12, 0.0)
    for n, part in ((10, 1.0), (100, 0.75), (1000, 0.625)):
        assert scan_cost(LAYERS, n=n, budget=1, pace=slow).seconds == pytest.approx(part * n * n * 240 / 1e4)


def test_half_precision_moves_half_and_adapters_move_their_factors():
    assert scan_cost(LAYERS, n=3, budget=1, item_bytes=2).bytes == 1440
    thin = scan_cost(LAYERS, n=3, budget=1, thin_ranks=12)
    assert thin.bytes == 4 * 12 * (30 + 13)


def test_memory_never_asks_for_more_slabs_than_the_budget():
    assert scan_cost(LAYERS, n=3, budget=100).memory == 100 + 32 * 9 + FIXED_BYTES


def test_the_pace_of_this_machine_is_measured_once_and_is_possible():
    pace = measured_pace()
    assert pace is measured_pace()
    assert pace.measured
    # From a crowded single core to a machine of the next decade.
    assert 1e6 < pace.bytes_per_second < 1e13
    assert 1e6 < pace.steps_per_second < 1e16
    assert 1e4 < pace.entries_per_second < 1e13
