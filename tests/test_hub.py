import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from tests.contracts import SourceContract, Written
from tests.hub_fixtures import files, standin, tensors
from tests.hub_standin import TOKEN, HubStandIn
from uws_core.errors import UnsupportedFormat
from uws_core.nouns.models import ModelRef
from uws_core.sources.files.header import FIRST_READ
from uws_core.sources.hub import hub
from uws_core.sources.hub.files import HubBlob
from uws_core.sources.opening import open_source, resolved

__all__ = ["standin"]

LAYER = "blocks.1.q.weight"


class TestOneFile(SourceContract):
    @pytest.fixture
    def written(self, standin: HubStandIn) -> Written:
        weights = tensors() | {"half": torch.randn(7, 3).half(), "brain": torch.randn(7, 3).bfloat16()}
        commit = standin.add("lab/one", {"model.safetensors": save(weights)})
        return Written(ModelRef("lab/one", commit), {name: v for name, v in weights.items() if v.ndim == 2})

    def test_holds_no_file_open(self, written: Written):
        """Connections are kept for the next request, but no more of them for more models."""
        written.open().read(next(iter(written.layers)))
        before = len(list(Path("/proc/self/fd").iterdir()))
        sources = [written.open() for _ in range(20)]
        for source in sources:
            source.read(next(iter(written.layers)))
        assert len(list(Path("/proc/self/fd").iterdir())) <= before


class TestShards(SourceContract):
    @pytest.fixture
    def written(self, standin: HubStandIn) -> Written:
        weights = {name: v for name, v in tensors(layers=4).items() if v.ndim == 2}
        halves = [dict(list(weights.items())[:2]), dict(list(weights.items())[2:])]
        names = [f"model-0000{i + 1}-of-00002.safetensors" for i in range(2)]
        index = {"weight_map": {tensor: name for name, half in zip(names, halves, strict=True) for tensor in half}}
        shards = {name: save(half) for name, half in zip(names, halves, strict=True)}
        commit = standin.add("lab/two", shards | {"model.safetensors.index.json": json.dumps(index).encode()})
        return Written(ModelRef("lab/two", commit), weights)

    def test_holds_no_file_open(self, written: Written):
        """See `TestOneFile`; not said again."""


# --- opening


def test_a_branch_is_resolved_once_and_the_commit_stays_when_it_moves(standin: HubStandIn):
    first = standin.add("lab/m", files(1))
    ref, source = resolved(ModelRef("lab/m", "main"))
    second = standin.add("lab/m", files(2))
    assert (ref.commit, source.ref) == (first, ref)
    assert first != second
    assert torch.equal(source.read(LAYER), tensors(1)[LAYER])
    assert torch.equal(open_source(ref).read(LAYER), tensors(1)[LAYER])
    assert len(standin.calls("/api/models/*")) == 1
    assert not [one for one in standin.calls("*resolve*") if "/main/" in one.path]


def test_a_tag_and_a_full_commit_are_revisions_too(standin: HubStandIn):
    old = standin.add("lab/m", files(1), revision="v1")
    standin.add("lab/m", files(2))
    assert resolved(ModelRef("lab/m", "v1"))[0].commit == old
    assert resolved(ModelRef("lab/m", old))[0].commit == old
    assert resolved(ModelRef("lab/m", ""))[0].commit != old


def test_a_layer_costs_what_was_said_before_it_was_read_and_not_a_byte_more(standin: HubStandIn):
    commit = standin.add("lab/m", files(layers=6, shape=(300, 200)))
    source = open_source(ModelRef("lab/m", commit))
    headers = standin.bytes_sent("/blob/*")
    assert headers <= FIRST_READ
    source.read(LAYER)
    assert standin.bytes_sent("/blob/*") - headers == source.stored_bytes(LAYER) == 300 * 200 * 4
    source.read(LAYER, (10, 20), into=torch.empty(10, 200))
    assert standin.bytes_sent("/blob/*") - headers == 310 * 200 * 4


def test_a_header_longer_than_the_first_read_takes_one_more_range_and_later_models_none(standin: HubStandIn):
    many = {f"layer.{i:05d}.{'x' * 60}": torch.zeros(2, 2) for i in range(700)}
    refs = [ModelRef(f"lab/m{i}", standin.add(f"lab/m{i}", {"model.safetensors": save(many)})) for i in range(2)]
    assert [len(open_source(ref).layers()) for ref in refs] == [700, 700]
    first, second = (
        standin.calls("*cdn*") + [s for s in standin.seen if s.server == "cdn" and ref.repo in s.path] for ref in refs
    )
    assert (len(first), len(second)) == (2, 1)


def test_the_second_model_of_an_architecture_moves_its_header_and_little_more(standin: HubStandIn):
    refs = [ModelRef(f"lab/m{i}", standin.add(f"lab/m{i}", files(i, shape=(300, 200)))) for i in range(2)]
    for ref in refs:
        open_source(ref)
    moved = [standin.bytes_sent(f"/blob/*/{ref.repo}/*") for ref in refs]
    assert moved == [FIRST_READ, 4096]


def test_opening_again_asks_nothing(standin: HubStandIn):
    ref, _ = resolved(ModelRef("lab/m", standin.add("lab/m", files())))
    before = len(standin.quiet())
    open_source(ref)
    assert len(standin.quiet()) == before


def test_a_part_names_a_file_of_the_repository(standin: HubStandIn):
    one, two = save(tensors(1)), save(tensors(2))
    commit = standin.add("lab/set", {"a.safetensors": one, "b.safetensors": two})
    assert torch.equal(open_source(ModelRef("lab/set", commit, "b.safetensors")).read(LAYER), tensors(2)[LAYER])
    with pytest.raises(UnsupportedFormat, match=r"lab/set: 2 safetensors files.*name one"):
        open_source(ModelRef("lab/set", commit))


# --- reading


def test_many_pieces_are_read_at_once_and_put_together_in_order(standin: HubStandIn, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(HubBlob, "piece", 1000)
    commit = standin.add("lab/m", files(shape=(60, 50)))
    source = open_source(ModelRef("lab/m", commit))
    standin.busiest = 0
    standin.fail("/blob/*", "slow", seconds=0.05, times=12)
    assert torch.equal(source.read(LAYER), tensors(shape=(60, 50))[LAYER])
    assert 4 <= standin.busiest <= hub.client().workers


def test_the_hub_is_asked_once_for_where_a_file_lies(standin: HubStandIn):
    commit = standin.add("lab/m", files())
    source = open_source(ModelRef("lab/m", commit))
    for row in range(24):
        source.read(LAYER, (row, row + 1))
    assert len(standin.calls("*/resolve/*")) == 1


def test_an_address_that_expired_is_asked_for_anew(standin: HubStandIn):
    commit = standin.add("lab/m", files())
    source = open_source(ModelRef("lab/m", commit))
    standin.fail("/blob/*", status=403)
    assert torch.equal(source.read(LAYER), tensors()[LAYER])
    assert len(standin.calls("*/resolve/*")) == 2


def test_small_files_of_a_private_repository_come_from_the_hub_itself(
    standin: HubStandIn, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    commit = standin.add("lab/m", files(), private=True)
    opened = hub.files_of(ModelRef("lab/m", commit))
    assert bytes(opened["README.md"].read(0, 7)) == b"a model"
    assert torch.equal(open_source(ModelRef("lab/m", commit)).read(LAYER), tensors()[LAYER])
