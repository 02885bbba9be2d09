"""The stream of results: finished ones first, no weight read twice, nothing lost when stopped."""

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pytest

import uws_core as uws
from uws_core import run
from uws_core.errors import Cancelled, LayerError, StoreError
from uws_core.nouns.gram import Gram
from uws_core.passes import layer_scan
from uws_core.passes.options import ComputeOptions
from uws_core.store.codec import from_bytes, gram_key, to_bytes
from uws_core.store.results import Store


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "store") as opened:
        yield opened


@pytest.fixture(scope="module")
def finetuned():
    return uws.collect("demo:finetuned")


def test_a_gram_survives_the_store_bit_for_bit(finetuned):
    gram = uws.gram(finetuned, finetuned.layers[0])
    again = from_bytes(Gram, to_bytes(gram))
    assert again.layers == gram.layers
    assert again.labels == gram.labels
    assert (again.values == gram.values).all()
    assert (again.base.to_models == gram.base.to_models).all()
    assert (again.entry_stats.kurtosis == gram.entry_stats.kurtosis).all()
    assert (again.d, again.floor, again.center_norm2, again.variance2_per_entry) == (
        gram.d,
        gram.floor,
        gram.center_norm2,
        gram.variance2_per_entry,
    )
    for raw in (b"", b"\x08" + b"\0" * 30, to_bytes(gram)[:100]):
        with pytest.raises(StoreError, match="computed again"):
            from_bytes(Gram, raw)


def test_finished_layers_come_first_and_weights_are_read_once(finetuned, store, monkeypatch):
    names = [layer.name for layer in finetuned.layers]
    list(uws.scan(finetuned, names[3:5], store=store))
    order = [gram.layer.name for gram in uws.scan(finetuned, store=store)]
    assert order == names[3:5] + names[:3] + names[5:]
    monkeypatch.setattr(layer_scan, "compute_batch", lambda *given: pytest.fail("weights were read again"))
    assert [gram.layer.name for gram in uws.scan(finetuned, store=store)] == names


def test_stored_grams_are_read_one_at_a_time(finetuned, store, monkeypatch):
    list(uws.scan(finetuned, store=store))
    get, read = Store.get, []
    monkeypatch.setattr(Store, "get", lambda self, key: read.append(key) or get(self, key))
    names = [layer.name for layer in finetuned.layers]
    assert list(run.stored_layers(finetuned, store=store)) == names
    assert read == []
    grams = uws.scan(finetuned, store=store)
    for count in range(1, 4):
        next(grams)
        assert len(read) == count


def test_progress_is_that_of_what_has_to_be_read(finetuned, store):
    names = [layer.name for layer in finetuned.layers]
    list(uws.scan(finetuned, names[:16], store=store))
    told = []
    list(uws.scan(finetuned, store=store, report=lambda fraction, message: told.append(fraction)))
    rest = sum(layer.entries for layer in finetuned.layers[16:])
    assert told[:16] == [0.0] * 16
    assert finetuned.layers[16].entries / rest in told
    assert told[-1] == 1.0
    told.clear()
    list(uws.scan(finetuned, store=store, report=lambda fraction, message: told.append(fraction)))
    assert told[-1] == 1.0, "all was there"


def test_another_precision_is_another_result(finetuned, store):
    layer = finetuned.layers[0]
    (single,) = uws.scan(finetuned, [layer], store=store, options=ComputeOptions(precision="single"))
    (double,) = uws.scan(finetuned, [layer], store=store, options=ComputeOptions(precision="double"))
    assert (single.values != double.values).any()
    assert len(run.stored_grams(finetuned, [layer], store=store)) == 0
    assert len(run.stored_grams(finetuned, [layer], store=store, precision="single")) == 1


def test_a_stop_keeps_what_is_finished(finetuned, store):
    seen = []

    def report(fraction: float, message: str) -> None:
        seen.append(fraction)
        # The first of three bunches of small layers is done by then.
        if fraction > 0.6:
            raise Cancelled("stopped")

    done = []
    with pytest.raises(Cancelled):
        done.extend(gram.layer.name for gram in uws.scan(finetuned, store=store, report=report))
    assert seen == sorted(seen)
    assert 1 <= len(run.stored_grams(finetuned, store=store)) < len(finetuned.layers)


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_any_executor_gives_the_same_numbers(finetuned, store, kind):
    wanted = finetuned.layers[:3]
    here = {gram.layer.name: gram for gram in uws.scan(finetuned, wanted, store=store)}
    pool = ThreadPoolExecutor(2) if kind == "threads" else ProcessPoolExecutor(2, mp_context=get_context("spawn"))
    with pool as executor, Store(store.path.parent / "other") as other:
        spread = {gram.layer.name: gram for gram in uws.scan(finetuned, wanted, store=other, executor=executor)}
    assert spread.keys() == here.keys()
    for name, gram in spread.items():
        assert gram.labels == here[name].labels
        np.testing.assert_allclose(gram.values, here[name].values, rtol=0, atol=1e-12 * here[name].values.max())


def test_labels_are_those_of_the_collection_that_asks(finetuned, store):
    list(uws.scan(finetuned, finetuned.layers[:1], store=store))
    renamed = replace(finetuned, labels=tuple(f"renamed-{index}" for index in range(len(finetuned))))
    (gram,) = run.stored_grams(renamed, finetuned.layers[:1], store=store).values()
    assert gram.labels[0] == "renamed-0"


def test_a_damaged_entry_is_computed_again(finetuned, store):
    layer = finetuned.layers[0]
    store.put(gram_key(finetuned, layer), b"not a gram")
    (gram,) = uws.scan(finetuned, [layer], store=store)
    assert gram.n == 40


def test_unknown_layers_are_all_named(finetuned, store):
    with pytest.raises(LayerError, match="none called nope, other"):
        list(uws.scan(finetuned, ["nope", "other"], store=store))


def test_the_whole_network_is_the_sum_of_its_layers(finetuned, store):
    grams = list(uws.scan(finetuned, store=store))
    total = run.whole_network(grams)
    assert total.d == sum(layer.entries for layer in finetuned.layers)
    np.testing.assert_allclose(total.values, sum(gram.values for gram in grams), rtol=1e-12)


@pytest.mark.parametrize("members", [None, [0, 5, 9]])
def test_side_grams_and_factors_are_kept_under_their_subset(finetuned, store, monkeypatch, members):
    layer = finetuned.layers[0]
    first = run.cached_side_gram(finetuned, layer, axis="in", members=members, store=store)
    own = run.cached_factors(finetuned, layer, kept=4, members=members, store=store)
    assert (
        first.values != run.cached_side_gram(finetuned, layer, axis="in", members=[1, 2, 3], store=store).values
    ).any()
    assert (
        first.values
        != run.cached_side_gram(finetuned, layer, axis="in", members=members, about="zero", store=store).values
    ).any()
    monkeypatch.setattr("uws_core.passes.side.side_gram", lambda *a, **k: pytest.fail("weights were read again"))
    monkeypatch.setattr("uws_core.passes.factors.factors", lambda *a, **k: pytest.fail("weights were read again"))
    again = run.cached_side_gram(finetuned, layer, axis="in", members=members, store=store)
    assert (again.values == first.values).all()
    assert again.labels == first.labels
    same = run.cached_factors(finetuned, layer, kept=4, members=members, store=store)
    assert (same.left == own.left).all()
    assert (same.singular == own.singular).all()
    assert same.labels == own.labels
