"""Who may read what: tokens, refusals, no network, and repositories that mean harm."""

import json
import logging
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save, save_file

from tests.hub_fixtures import QUICK, files, standin, tensors
from tests.hub_standin import STRANGER, TOKEN, HubStandIn
from uws_core.errors import HubError, OutsideRoot, SourceError
from uws_core.nouns.models import ModelRef
from uws_core.sources.hub import hub
from uws_core.sources.opening import open_source

__all__ = ["standin"]

LAYER = "blocks.1.q.weight"


# --- who may read


@pytest.mark.parametrize(
    ("token", "about", "message"),
    [
        (STRANGER, {"gated": True}, r"gated: the account of the token in HF_TOKEN was not granted access"),
        (STRANGER, {"private": True}, r"no such repository on \S+, or the account of the token .* may not see it"),
        ("hf_expired", {}, r"does not accept the token in HF_TOKEN; it may have expired"),
    ],
)
def test_a_token_that_does_not_help_is_told_from_none(
    standin: HubStandIn, monkeypatch: pytest.MonkeyPatch, token: str, about: dict[str, bool], message: str
):
    monkeypatch.setenv("HF_TOKEN", token)
    standin.add("lab/m", files(), **about)
    with pytest.raises(HubError, match=message) as raised:
        open_source(ModelRef("lab/m", ""))
    assert token not in str(raised.value)


def test_forbidden_with_a_token_reads_private(standin: HubStandIn, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", STRANGER)
    standin.add("lab/m", files())
    standin.fail("/api/models/lab/m", status=403)
    with pytest.raises(HubError, match="private: the token in HF_TOKEN has no right"):
        open_source(ModelRef("lab/m", ""))


@pytest.mark.parametrize("about", [{"gated": True}, {"private": True}])
def test_the_token_goes_to_the_hub_in_a_header_and_nowhere_else(
    standin: HubStandIn, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, about: dict[str, bool]
):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.client().retry = QUICK
    commit = standin.add("lab/m", files(), **about)
    source = open_source(ModelRef("lab/m", ""))
    standin.fail("/blob/*", status=500)
    assert torch.equal(source.read(LAYER), tensors()[LAYER])
    for seen in standin.quiet():
        assert seen.headers.get("authorization") == (f"Bearer {TOKEN}" if seen.server == "hub" else None)
        assert TOKEN not in f"{seen.path}{seen.query}"
    assert TOKEN not in caplog.text
    assert TOKEN not in f"{hub.client()!r} {source.ref} {commit}"


def test_a_login_kept_in_a_file_is_not_used(standin: HubStandIn):
    path = Path(constants.HF_TOKEN_PATH)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(TOKEN)
    try:
        standin.add("lab/m", files())
        open_source(ModelRef("lab/m", ""))
    finally:
        path.unlink()
    assert all("authorization" not in seen.headers for seen in standin.quiet())


# --- offline


def test_switched_off_says_so_and_how_to_switch_on(standin: HubStandIn, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE; unset it"):
        open_source(ModelRef("lab/m", "main"))
    assert not standin.quiet()


def test_a_machine_that_is_offline_learns_it_at_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    hub.client().retry = QUICK
    began = time.monotonic()
    for ask in (lambda: open_source(ModelRef("lab/m", "main")), lambda: hub.find("lab/*")):
        with pytest.raises(HubError, match=r"127\.0\.0\.1:9 cannot be reached .*online"):
            ask()
    assert time.monotonic() - began < 3


def test_a_folder_needs_no_client(tmp_path: Path):
    save_file(tensors(), tmp_path / "m.safetensors")
    code = (
        "import sys; from uws_core.sources.opening import resolved; from uws_core.nouns.models import ModelRef;"
        f"resolved(ModelRef({str(tmp_path / 'm.safetensors')!r}, '')); print('huggingface_hub' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]
    )
    assert done.stdout.strip() == "False"


# --- hostile repositories


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "/etc/passwd", "sub/x.safetensors", "..\\x.safetensors", "a/../../b"]
)
def test_an_index_that_leads_outside_is_refused_before_any_request(standin: HubStandIn, name: str):
    index = json.dumps({"weight_map": {"w": name}}).encode()
    commit = standin.add("lab/m", {"model.safetensors.index.json": index, "model-1.safetensors": save(tensors())})
    with pytest.raises(OutsideRoot, match=r"lab/m: the index names files outside"):
        open_source(ModelRef("lab/m", commit))
    assert {seen.path.rsplit("/", 1)[-1] for seen in standin.calls("*resolve/*")} == {"model.safetensors.index.json"}


def test_a_part_that_climbs_is_refused(standin: HubStandIn):
    commit = standin.add("lab/m", files())
    with pytest.raises(OutsideRoot, match="not a plain relative path"):
        open_source(ModelRef("lab/m", commit, "../other"))
    assert not standin.calls("*resolve*")


@pytest.mark.parametrize("body", [b"[]", b"{}", b"not json", b'{"id": 3}'])
def test_nonsense_from_the_hub_is_a_message(standin: HubStandIn, body: bytes, monkeypatch: pytest.MonkeyPatch):
    from tests.hub_routes import Handler

    monkeypatch.setattr(Handler, "_info", lambda self: self._answer(200, body))
    with pytest.raises(SourceError, match=r"lab/m: .*(not understood|empty)"):
        open_source(ModelRef("lab/m", "main"))
