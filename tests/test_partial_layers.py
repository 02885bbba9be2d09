"""Layers that only part of the models have: they are listed, and compared in the collection of these models."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import uws_core as uws
from uws_core.cli.main import main
from uws_core.errors import CollectionError

Q, V = "layers.0.q_proj.weight", "layers.0.v_proj.weight"


def written(folder: Path, models: dict[str, dict[str, tuple[int, int]]]) -> Path:
    """A folder of models with random weights of these shapes; equal names have equal weights in every folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for label, layers in models.items():
        rng = np.random.default_rng(list(label.encode()))
        tensors = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in sorted(layers.items())}
        save_file(tensors, folder / f"{label}.safetensors")
    return folder


def adapters(folder: Path, targets: dict[str, tuple[str, ...]], rank: int = 2) -> Path:
    """PEFT adapters of these modules, 6 x 5 each."""
    for label, modules in targets.items():
        place, rng = folder / label, np.random.default_rng(list(label.encode()))
        place.mkdir(parents=True)
        config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": list(modules)}
        (place / "adapter_config.json").write_text(json.dumps(config))
        shapes = {"lora_A": (rank, 5), "lora_B": (6, rank)}
        factors = {
            f"base_model.model.layers.0.{module}.{side}.weight": rng.standard_normal(shape).astype(np.float32)
            for module in modules
            for side, shape in shapes.items()
        }
        save_file(factors, place / "adapter_model.safetensors")
    return folder


def some_with_v(n: int, having: int) -> dict[str, dict[str, tuple[int, int]]]:
    return {f"m{i:02d}": {Q: (6, 5)} | ({V: (4, 5)} if i < having else {}) for i in range(n)}


@pytest.mark.parametrize("having", [2, 14, 20])
def test_a_layer_of_part_of_the_models_is_listed_and_compared_among_them(tmp_path: Path, having: int) -> None:
    place = written(tmp_path / "all", some_with_v(21, having))
    whole = uws.collect(place)
    assert [(str(item), item.key.shape) for item in whole.partial] == [(f"{V}, in {having} of 21 models", (4, 5))]
    assert [key.name for key in whole.layers] == [Q]
    part = uws.collect(place, having=V)
    alone = uws.collect(written(tmp_path / "part", some_with_v(having, having)))
    assert part.labels == alone.labels
    # Their stored results are shared.
    assert part.fingerprint == alone.fingerprint != whole.fingerprint
    assert {key.name for key in part.layers} == {Q, V}
    np.testing.assert_array_equal(uws.gram(part, V).values, uws.gram(alone, V).values)
    reasons = {item.what: item.reason for item in part.left_out}
    assert reasons["m20"] == f"it has no {V} of 4 x 5, and the models that have it were chosen"


def test_adapters_that_target_other_modules(tmp_path: Path) -> None:
    targets = {f"a{i}": ("q_proj", "v_proj") if i % 3 else ("q_proj",) for i in range(7)}
    place = adapters(tmp_path / "all", targets)
    (item,) = uws.collect(place).partial
    assert item.models == ("a1", "a2", "a4", "a5")
    part = uws.collect(place, having=item.key.name)
    alone = uws.collect(adapters(tmp_path / "part", {label: targets[label] for label in item.models}))
    assert part.layers == alone.layers
    np.testing.assert_array_equal(uws.gram(part, item.key).values, uws.gram(alone, item.key).values)


def test_one_holder_and_a_layer_of_all_models_are_no_partial_layer(tmp_path: Path) -> None:
    place = written(tmp_path, some_with_v(5, 1))
    whole = uws.collect(place)
    assert whole.partial == ()
    assert uws.collect(place, having=Q).labels == whole.labels
    with pytest.raises(CollectionError, match=r"is in part of the models\. Such layers are none"):
        uws.collect(place, having=V)


def test_of_two_shapes_the_commoner_is_listed(tmp_path: Path) -> None:
    heads = {f"m{i}": {Q: (6, 5), "head": (3 if i < 4 else 9, 5)} for i in range(6)}
    place = written(tmp_path, heads)
    (item,) = uws.collect(place).partial
    assert (item.key.shape, item.models) == ((3, 5), ("m0", "m1", "m2", "m3"))
    assert len(uws.collect(place, having="head")) == 4


def test_a_name_nobody_has_is_told_with_those_there_are(tmp_path: Path) -> None:
    place = written(tmp_path, some_with_v(5, 3))
    with pytest.raises(CollectionError, match=rf"No layer 'x'.*{V}, in 3 of 5 models"):
        uws.collect(place, having="x")


def test_a_collection_with_partial_layers_travels(tmp_path: Path) -> None:
    whole = uws.collect(written(tmp_path, some_with_v(5, 3)))
    assert pickle.loads(pickle.dumps(whole)) == whole


def test_the_command_line_lists_and_takes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = str(written(tmp_path, some_with_v(5, 3)))
    assert main(["ls", place]) == 0
    said = capsys.readouterr().out
    assert "layers of part of the models, one of which --having takes:" in said
    assert f"  {V}  4 x 5  in 3 of 5 models" in said
    assert main(["ls", place, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["partial"] == [
        {"name": V, "shape": [4, 5], "models": ["m00", "m01", "m02"]}
    ]
    assert main(["scan", place, "--having", V, "--json"]) == 0
    assert V in capsys.readouterr().out
    assert main(["ls", place, "--having", "nothing"]) == 1
    assert "Such layers are" in capsys.readouterr().err
