"""Several adapters in one file: each is a model, and the file is understood once, however many there are."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.written import dense, pair, reason
from uws_core.collection import collect
from uws_core.errors import UnsupportedFormat
from uws_core.nouns.models import ModelRef
from uws_core.sources.files import blob, tensors
from uws_core.sources.formats import adapter_keys, adapter_layout
from uws_core.sources.opening import open_source


def packed(path: Path, count: int, modules: int = 2) -> Path:
    """A file of `count` adapters, each with its own factors of the same modules, and one key of no adapter."""
    path.parent.mkdir(exist_ok=True, parents=True)
    parts = {"base_model.model.head.bias": torch.ones(3)}
    for i in range(count):
        for module in range(modules):
            up, down = pair(100 * i + module)
            parts[f"base_model.model.{module}.q.lora_A.style{i}.weight"] = down
            parts[f"base_model.model.{module}.q.lora_B.style{i}.weight"] = up
    save_file(parts, path)
    (path.parent / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2, "lora_alpha": 6}')
    return path


def test_each_reads_its_own_factors(tmp_path: Path):
    found = collect(packed(tmp_path / "adapter_model.safetensors", 12))
    # Labels are in the order of the names.
    order = sorted(range(12), key=lambda i: f"style{i}")
    assert found.labels == tuple(f"adapter_model:style{i}" for i in order)
    for ref, i in zip(found.refs, order, strict=True):
        up, down = pair(100 * i + 1)
        torch.testing.assert_close(dense(open_source(ref).read("1.q.weight")), 3 * (up.double() @ down.double()))


def test_each_has_a_commit_of_its_own_content(tmp_path: Path):
    first = collect(packed(tmp_path / "a" / "adapter_model.safetensors", 3))
    again = collect(packed(tmp_path / "b" / "adapter_model.safetensors", 3))
    assert first.fingerprint == again.fingerprint
    assert len({ref.commit for ref in first.refs}) == 3


def test_every_key_of_the_file_is_in_the_report_of_each(tmp_path: Path):
    found = collect(packed(tmp_path / "adapter_model.safetensors", 3))
    fates = open_source(found.refs[1]).report().keys
    assert len(fates) == 1 + 3 * 4 == len({one.key for one in fates})
    why = {one.key: one.why for one in fates}
    assert why["base_model.model.0.q.lora_A.style2.weight"] == "it belongs to the adapter style2"


def test_a_name_that_no_adapter_has_is_refused_with_those_there_are(tmp_path: Path):
    path = packed(tmp_path / "adapter_model.safetensors", 3)
    with pytest.raises(UnsupportedFormat, match="3 adapters in one file \\(style0, style1, style2\\)"):
        open_source(ModelRef(str(path), "", ":none"))


def test_the_keys_of_a_file_are_understood_a_few_times_not_once_an_adapter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # A file that was just written may change unseen, so what is understood of it is not kept.
    monkeypatch.setattr(blob, "SETTLED_NS", -1)
    path = packed(tmp_path / "adapter_model.safetensors", 40)
    calls = []
    parse = adapter_keys.parsed

    def counted(key: str, *, peft: bool = False) -> adapter_keys.Key | None:
        calls.append(key)
        return parse(key, peft=peft)

    for module in (adapter_layout, tensors):
        monkeypatch.setattr(module, "parsed", counted)
    found = collect(path)
    for ref in found.refs:
        open_source(ref)
    keys = 1 + 40 * 4
    # Once to count the adapters, once to part them, and each one's own when it is opened and opened again.
    assert len(found) == 40
    assert len(calls) <= 5 * keys + 4 * 40


def test_more_adapters_than_a_collection_takes_are_left_out_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("uws_core.sources.opening.MOST_ADAPTERS", 5)
    found = collect(packed(tmp_path / "adapter_model.safetensors", 8))
    assert len(found) == 5
    assert reason(found.left_out, "adapter_model") == (
        "8 adapters are in this one file and the first 5 are taken; the other 3 are style5, style6, style7; "
        "name one as part ':name'"
    )
