"""Whole layers of many models on the Hub: fetched at once, with few requests, and priced before."""

import weakref
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from tests.hub_fixtures import adapter, files, standin, tensors
from tests.hub_standin import HubStandIn, Seen
from uws_core.collection import collect
from uws_core.errors import Cancelled, UnreadableFile
from uws_core.nouns.models import Collection, ModelRef
from uws_core.passes.factors import factors
from uws_core.passes.gram import gram
from uws_core.passes.side import side_gram
from uws_core.passes.stored_sizes import StoredBytes, stored_bytes
from uws_core.run import scan
from uws_core.sources.files.blob import Extent, FileBlob
from uws_core.sources.files.header import FIRST_READ
from uws_core.sources.hub import hub, prefetch
from uws_core.sources.hub.files import HubBlob
from uws_core.sources.hub.prefetch import prefetch_layers
from uws_core.sources.opening import open_source
from uws_core.store.results import Store

__all__ = ["standin"]

LAYER = "blocks.1.q.weight"
SHAPE = (300, 200)
NBYTES = 300 * 200 * 4


@pytest.fixture
def many(standin: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> Collection:
    """Twelve models and their base."""
    monkeypatch.setenv("UWS_HUB_KEEP", "1GiB")
    for i in range(12):
        standin.add(f"lab/m{i:02d}", files(i, shape=SHAPE))
    standin.add("lab/base", files(99, shape=SHAPE))
    return collect([f"lab/m{i:02d}" for i in range(12)], base="lab/base")


def moved(standin: HubStandIn) -> list[Seen]:
    """The answers with weights so far, without the reads of headers."""
    return [
        seen
        for seen in standin.quiet()
        if seen.server == "cdn" and "range" in seen.headers and not seen.headers["range"].startswith("bytes=0-")
    ]


def test_a_pass_fetches_its_layer_once_and_later_passes_fetch_nothing(standin: HubStandIn, many: Collection):
    told = []
    gram(many, LAYER, report=lambda share, text: told.append(text))
    assert sum(seen.sent for seen in moved(standin)) == 13 * NBYTES
    assert told[0].endswith("MiB from the Hub")
    for repeat in (
        lambda: side_gram(many, LAYER, axis="out"),
        lambda: factors(many, LAYER, kept=2),
        lambda: gram(many, LAYER),
    ):
        repeat()
    assert len(moved(standin)) == 13


def test_several_models_are_fetched_at_once(standin: HubStandIn, many: Collection):
    standin.busiest = 0
    standin.fail("/blob/*", "slow", seconds=0.05, times=13)
    gram(many, LAYER)
    assert standin.busiest >= 4


def test_a_block_of_rows_fetches_that_block(standin: HubStandIn, many: Collection):
    gram(many, LAYER, rows=(0, 30))
    assert sum(seen.sent for seen in moved(standin)) == 13 * NBYTES // 10


def test_a_large_layer_is_fetched_in_pieces(standin: HubStandIn, many: Collection, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(prefetch, "_PIECE", NBYTES // 3)
    whole = gram(many, LAYER)
    assert len(moved(standin)) == 13 * 3
    assert sum(seen.sent for seen in moved(standin)) == 13 * NBYTES
    monkeypatch.setenv("UWS_HUB_KEEP", "0")
    assert (gram(many, LAYER).values == whole.values).all()


@pytest.mark.parametrize("keep", ["0", f"{20 * NBYTES}"])
def test_what_would_not_be_kept_is_not_fetched_ahead(
    standin: HubStandIn, many: Collection, monkeypatch: pytest.MonkeyPatch, keep: str
):
    monkeypatch.setenv("UWS_HUB_KEEP", keep)
    sources = [open_source(ref) for ref in many.refs]
    assert prefetch_layers(sources, [many.by_name[LAYER]]) == 0
    assert not moved(standin)


def test_adapters_are_fetched_as_they_are_stored(standin: HubStandIn, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("UWS_HUB_KEEP", "1GiB")
    for i in range(3):
        standin.add(f"lab/lora{i}", adapter(i, layers=6, rank=32))
    found = collect([f"lab/lora{i}" for i in range(3)])
    layer = found.layers[4]
    assert not layer.factor
    gram(found, layer)
    stored = sum(open_source(ref).stored_bytes(layer.name) for ref in found.refs)
    assert sum(seen.sent for seen in moved(standin)) == stored == 3 * (300 + 200) * 32 * 4
    before = len(moved(standin))
    gram(found, layer)
    assert len(moved(standin)) == before


# A file has layers 10 to 19 between 1 and 2.
@pytest.mark.parametrize(("count", "requests"), [(8, 1), (20, 5)])
def test_small_layers_of_a_scan_come_eight_with_a_request(
    standin: HubStandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, count: int, requests: int
):
    monkeypatch.setenv("UWS_HUB_KEEP", "1GiB")
    for i in range(3):
        standin.add(f"lab/lora{i}", adapter(i, layers=count, rank=32))
    found = collect([f"lab/lora{i}" for i in range(3)])
    with Store(tmp_path) as store:
        assert len(list(scan(found, store=store))) == count
    # The first answer has the header and what lies behind it.
    every = 3 * count * (300 + 200) * 32 * 4
    assert every - 3 * FIRST_READ <= sum(seen.sent for seen in moved(standin)) <= every
    assert len(moved(standin)) == 3 * requests


def test_layers_that_together_are_more_than_is_kept_are_fetched_one_by_one(
    standin: HubStandIn, many: Collection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("UWS_HUB_KEEP", str(13 * NBYTES * 2 + 1_000_000))
    hub._tensors.cache_clear()
    with Store(tmp_path) as store:
        assert len(list(scan(many, store=store))) == 3
    # The first answer has the beginning of the first layer.
    assert 3 * 13 * NBYTES - 13 * FIRST_READ <= sum(seen.sent for seen in moved(standin)) <= 3 * 13 * NBYTES
    assert len(moved(standin)) == 3 * 13


def test_what_was_fetched_is_not_held_in_memory(many: Collection, monkeypatch: pytest.MonkeyPatch):
    read, alive = HubBlob.read, list[weakref.ref[object]]()

    def watched(self: HubBlob, start: int, stop: int, *, into: memoryview | None = None) -> memoryview:
        found = read(self, start, stop, into=into)
        alive.append(weakref.ref(found))
        return found

    monkeypatch.setattr(HubBlob, "read", watched)
    held = list[int]()
    sources = [open_source(ref) for ref in many.refs]
    prefetch_layers(
        sources,
        [many.by_name[LAYER]],
        report=lambda share, text: held.append(sum(one() is not None for one in alive)) if share == 1 else None,
    )
    assert len(alive) == 12
    assert held == [0]


def test_what_was_downloaded_whole_is_not_fetched(standin: HubStandIn, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("UWS_HUB_KEEP", "1GiB")
    # Downloads outlive a test: no other has these weights.
    refs = [ModelRef(f"lab/whole{i}", standin.add(f"lab/whole{i}", files(500 + i, shape=SHAPE))) for i in range(5)]
    hub.download(refs[:2])
    found = collect([str(ref) for ref in refs])
    before = len(moved(standin))
    assert stored_bytes(found, [LAYER]) == StoredBytes(5 * NBYTES, 3 * NBYTES)
    gram(found, LAYER)
    assert len(moved(standin)) - before == 3


@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 400_000), st.integers(0, 50_000)), min_size=1, max_size=20),
    st.integers(1, 100_000),
)
def test_reads_are_the_ranges_with_little_between_them(ranges: list[tuple[int, int, int]], most: int):
    blobs = [FileBlob(Path(__file__), name) for name in "ab"]
    asked = [Extent(blobs[which], start, start + count) for which, start, count in ranges]
    reads = [part for whole in prefetch._joined(asked) for part in prefetch._pieces(whole, most)]
    for blob in blobs:
        own, read = ([one for one in some if one.blob is blob] for some in (asked, reads))
        wanted = np.zeros(500_000, bool)
        for one in own:
            wanted[one.start : one.stop] = True
        moved = np.zeros(500_000, int)
        for one in read:
            assert 0 < one.nbytes <= most
            moved[one.start : one.stop] += 1
        assert moved.max() <= 1
        assert (moved[wanted] == 1).all()
        # What nobody asked for lies in gaps of at most 16 KiB between what somebody did.
        gaps = np.flatnonzero(np.diff(np.concatenate([[0], (moved > wanted).astype(int), [0]])))
        assert (np.diff(gaps)[::2] <= 16 * 1024).all()


def test_stop_is_heard_while_fetching(standin: HubStandIn, many: Collection, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(prefetch, "_PIECE", NBYTES // 10)

    def stop(share: float, text: str) -> None:
        raise Cancelled(text)

    standin.fail("/blob/*", "slow", seconds=0.02, times=100)
    with pytest.raises(Cancelled, match="from the Hub"):
        gram(many, LAYER, report=stop)
    assert len(moved(standin)) < 130 / 2


def test_a_model_that_cannot_be_fetched_is_an_error_that_names_it(standin: HubStandIn, many: Collection):
    standin.fail("/blob/*/lab/m07/*", "shifted", times=10)
    with pytest.raises(UnreadableFile, match=r"lab/m07: model\.safetensors: asked for bytes"):
        gram(many, LAYER)


def test_models_on_this_machine_are_left_alone(tmp_path: Path):
    for i in range(2):
        save_file(tensors(i), tmp_path / f"m{i}.safetensors")
    found = collect(tmp_path)
    assert prefetch_layers([open_source(ref) for ref in found.refs], found.layers[:1]) == 0


# --- what a layer costs


def test_the_bytes_of_layers_are_told_before_they_are_read_and_which_the_hub_must_send(
    standin: HubStandIn, many: Collection
):
    before = len(standin.quiet())
    assert stored_bytes(many, [LAYER]) == StoredBytes(13 * NBYTES, 13 * NBYTES)
    assert stored_bytes(many, [layer.name for layer in many.layers]).bytes == 3 * 13 * NBYTES
    assert len(standin.quiet()) == before
    gram(many, LAYER)
    assert stored_bytes(many, [LAYER]) == StoredBytes(13 * NBYTES, 0)


def test_what_made_room_must_be_sent_again(standin: HubStandIn, many: Collection, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("UWS_HUB_KEEP", str(13 * NBYTES * 2 + 1_000_000))
    hub._tensors.cache_clear()
    gram(many, LAYER)
    assert stored_bytes(many, [LAYER]).far == 0
    for layer in many.layers:
        gram(many, layer)
    assert stored_bytes(many, [LAYER]).far == 13 * NBYTES
    monkeypatch.setenv("UWS_HUB_KEEP", "0")
    assert stored_bytes(many, [LAYER]).far == 13 * NBYTES


def test_models_on_this_machine_cost_no_network(tmp_path: Path):
    for i in range(2):
        save_file(tensors(i), tmp_path / f"m{i}.safetensors")
    found = collect(tmp_path)
    assert stored_bytes(found, [LAYER]) == StoredBytes(2 * 24 * 16 * 4, 0)
