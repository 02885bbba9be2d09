"""What is not asked of the Hub twice: whole downloads, and bytes kept on disk."""

from pathlib import Path

import pytest
import torch

from tests.hub_fixtures import files, standin, tensors
from tests.hub_standin import STRANGER, TOKEN, HubStandIn
from uws_core.collection import collect
from uws_core.errors import HubError
from uws_core.nouns.models import ModelRef
from uws_core.passes.gram import gram
from uws_core.sources.files.header import FIRST_READ
from uws_core.sources.hub import hub
from uws_core.sources.opening import open_source
from uws_core.store.saved_collections import save

__all__ = ["standin"]

LAYER = "blocks.1.q.weight"


# --- whole downloads


def test_a_whole_download_is_found_and_nothing_of_it_is_asked_again(standin: HubStandIn):
    refs = [ModelRef(f"lab/m{i}", standin.add(f"lab/m{i}", files(i))) for i in range(2)]
    told = []
    hub.download(refs, report=lambda share, text: told.append((share, text)))
    before = len(standin.quiet())
    for i, ref in enumerate(refs):
        source = open_source(ref)
        assert torch.equal(source.read(LAYER), tensors(i)[LAYER])
        assert source.ref == ref
    assert len(standin.quiet()) == before
    assert told == [(0.0, "lab/m0: model 1 of 2"), (0.5, "lab/m1: model 2 of 2")]


def test_a_download_fetches_what_reading_needs_and_no_more(standin: HubStandIn):
    commit = standin.add("lab/m", files() | {"pytorch_model.bin": b"x" * 1000, "extra.safetensors": b"y" * 1000})
    hub.download([ModelRef("lab/m", commit)])
    asked = {seen.path.rsplit("/", 1)[-1] for seen in standin.calls("*resolve*")}
    assert asked == {"model.safetensors", "config.json"}


def test_a_download_that_is_refused_names_the_model(standin: HubStandIn):
    standin.add("lab/m", files(), gated=True)
    with pytest.raises(HubError, match=r"lab/m: gated"):
        hub.download([ModelRef("lab/m", "")])


# --- bytes kept on disk


def test_kept_bytes_are_not_asked_for_again(standin: HubStandIn, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("UWS_HUB_KEEP", "1GiB")
    ref = ModelRef("lab/m", standin.add("lab/m", files(shape=(300, 200))))
    first = open_source(ref)
    first.read(LAYER, (100, 200))
    hub._tensors.cache_clear()
    before = standin.bytes_sent("/blob/*")
    again = open_source(ref)
    assert torch.equal(again.read(LAYER), tensors(shape=(300, 200))[LAYER])
    assert standin.bytes_sent("/blob/*") - before == 200 * 200 * 4
    assert len([seen for seen in standin.quiet() if seen.status == 206]) == 4


def test_what_was_read_opens_and_reads_again_without_a_network(
    standin: HubStandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("UWS_HUB_KEEP", "1GiB")
    for i in range(2):
        standin.add(f"lab/m{i}", files(i, shape=(300, 200)), tags=["license:mit"])
    made = collect(["lab/m0", "lab/m1"])
    save(made, tmp_path / "mine.uws.toml")
    known = gram(made, LAYER)
    hub._tensors.cache_clear()
    hub.client().models.clear()
    standin.seen.clear()
    again = collect(tmp_path / "mine.uws.toml")
    assert (gram(again, LAYER).values == known.values).all()
    assert again == made
    assert not standin.quiet()


def test_what_is_kept_of_a_model_is_what_was_told(standin: HubStandIn, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("UWS_HUB_KEEP", "1GiB")
    commit = standin.add("lab/m", files(), tags=["license:mit", "x"], downloads=3)
    told = hub.look_up(ModelRef("lab/m", commit))
    hub.client().models.clear()
    assert hub.look_up(ModelRef("lab/m", commit)) == told
    assert len(standin.calls("/api/*")) == 1
    # A branch is asked for each time: it may have moved.
    hub.look_up(ModelRef("lab/m", "main"))
    assert len(standin.calls("/api/*")) == 2


def test_what_needs_a_token_is_kept_for_who_has_one(standin: HubStandIn, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("UWS_HUB_KEEP", "1GiB")
    ref = ModelRef("lab/secret", standin.add("lab/secret", files(3, shape=(300, 200)), gated=True))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    open_source(ref).read(LAYER)
    hub._tensors.cache_clear()
    before = standin.bytes_sent("/blob/*")
    assert torch.equal(open_source(ref).read(LAYER), tensors(3, shape=(300, 200))[LAYER])
    assert 0 < standin.bytes_sent("/blob/*") - before <= FIRST_READ
    for token in ("", STRANGER):
        monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(HubError, match=r"lab/secret: gated"):
            open_source(ref)


def test_an_amount_that_is_none_is_said(standin: HubStandIn, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("UWS_HUB_KEEP", "plenty")
    standin.add("lab/m", files())
    with pytest.raises(HubError, match=r"UWS_HUB_KEEP: .*plenty"):
        open_source(ModelRef("lab/m", ""))
