"""What a command may take, on which device, and what is refused before it starts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import uws_core as uws
from uws_core import run
from uws_core.cli.main import main
from uws_core.errors import UwsError
from uws_core.passes import layer_scan
from uws_core.passes.open_models import torch_device
from uws_core.passes.options import ComputeOptions
from uws_core.store.results import default_store

pytestmark = pytest.mark.usefixtures("results_folder")


def written(place: Path, dtype: torch.dtype = torch.float32, **shapes: tuple[int, ...]) -> Path:
    place.mkdir()
    generator = torch.Generator().manual_seed(0)
    for number in range(4):
        weights = {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}
        save_file(weights, place / f"model-{number}.safetensors")
    return place


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written(tmp_path / "models", narrow=(12, 8), wide=(12, 800))


def test_the_budget_is_that_of_the_environment(folder: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    assert ComputeOptions().budget == 256 * 2**20
    monkeypatch.setenv("UWS_BUDGET", "100")
    assert ComputeOptions().budget == 100
    assert main(["scan", str(folder)]) == 1
    assert "the memory budget is 100 bytes" in capsys.readouterr().err
    monkeypatch.setenv("UWS_BUDGET", "plenty")
    assert main(["scan", str(folder)]) == 1
    assert "UWS_BUDGET: An amount of bytes such as 4GiB" in capsys.readouterr().err


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_what_has_no_room_is_refused_before_anything_is_read(
    folder: Path, capsys, monkeypatch: pytest.MonkeyPatch, more: list[str]
):
    monkeypatch.setattr(layer_scan, "compute_batch", lambda *given: pytest.fail("something was read"))
    assert main(["scan", str(folder), "--budget", "1", *more]) == 1
    said = capsys.readouterr().err
    assert "narrow: one row of 4 models takes 256 bytes (twice, to read ahead), the memory budget is 1 bytes" in said
    assert "to read," not in said


def test_layers_that_have_room_are_read_beside_those_that_have_not(folder: Path, capsys):
    assert main(["scan", str(folder), "--budget", "1KiB", "--dry-run"]) == 3
    assert main(["scan", str(folder), "--budget", "1KiB"]) == 3
    assert "wide: one row of 4 models takes 25 KiB" in capsys.readouterr().err
    assert set(run.stored_layers(uws.collect(folder), store=default_store())) == {"narrow"}


def test_the_price_is_what_the_headers_tell(tmp_path: Path, capsys):
    place = written(tmp_path / "half", torch.bfloat16, a=(64, 32))
    assert main(["scan", str(place), "--dry-run"]) == 0
    assert "; 16 KiB to read, " in capsys.readouterr().err


def test_a_stack_of_experts_needs_no_more_than_a_row_of_one(tmp_path: Path):
    place = written(tmp_path / "experts", **{"experts.up": (2, 40, 290)})
    collection = uws.collect(place)
    assert collection.layers[0].shape == (80, 290)
    # One row of all experts would be 40 times that.
    gram = uws.gram(collection, "experts.up", budget=2 * 4 * 290 * 4)
    files = sorted(place.iterdir())
    flat = torch.stack([load_file(file)["experts.up"].flatten() for file in files]).double()
    flat -= flat.mean(0)
    torch.testing.assert_close(torch.tensor(gram.values), flat @ flat.T, rtol=0, atol=1e-6 * float(flat.square().sum()))


@pytest.mark.parametrize("device", ["banana", "meta", "cpu:1", "cuda:x"])
def test_a_device_that_is_none_is_not_understood(folder: Path, capsys, device: str):
    main(["scan", str(folder)])
    with pytest.raises(SystemExit) as stopped:
        main(["scan", str(folder), "--device", device])
    assert stopped.value.code == 2
    assert "a device is auto, cpu, cuda or cuda:1" in capsys.readouterr().err
    with pytest.raises(UwsError, match="A device is auto, cpu, cuda or cuda:1"):
        torch_device(device)


def test_a_device_that_is_not_there_is_refused_with_nothing_to_compute(folder: Path, capsys):
    main(["scan", str(folder)])
    capsys.readouterr()
    assert main(["scan", str(folder), "--device", "cuda:77"]) == 1
    assert "'cuda:77' was asked for" in capsys.readouterr().err


def test_side_axes_have_a_price_and_are_computed_here(folder: Path, capsys):
    asked = ["scan", str(folder), "--axis", "in", "--layers", "narrow"]
    assert main([*asked, "--dry-run"]) == 0
    assert "axis in; 3 KiB to read" in capsys.readouterr().err
    assert main([*asked, "--dry-run", "--budget", "1"]) == 1
    assert "one row of 4 models takes 256 bytes" in capsys.readouterr().err
    assert main([*asked, "--scheduler", "tcp://127.0.0.1:1"]) == 0
    assert "the cluster tcp://127.0.0.1:1 is not asked" in capsys.readouterr().err


def test_an_empty_scheduler_is_this_machine(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("UWS_SCHEDULER", "tcp://127.0.0.1:1")
    assert main(["scan", str(folder), "--scheduler", ""]) == 0


@pytest.mark.parametrize("draws", ["-4", "many", "1.5"])
def test_draws_are_a_number_of_them(folder: Path, tmp_path: Path, capsys, draws: str):
    with pytest.raises(SystemExit) as stopped:
        main(["export", str(folder), "--to", str(tmp_path / "x.csv"), f"--draws={draws}"])
    assert stopped.value.code == 2
    assert "draws are a whole number from 0" in capsys.readouterr().err


def test_nothing_is_pruned_that_nobody_named(folder: Path, capsys):
    main(["scan", str(folder)])
    for words in ([], ["--all", "--unused", "3"]):
        assert main(["store", "prune", *words]) == 2
        assert "--all" in capsys.readouterr().err
    for days in ("-3", "nan", "inf", "0", "soon"):
        with pytest.raises(SystemExit):
            main(["store", "prune", f"--unused={days}"])
        assert "days are a number above 0" in capsys.readouterr().err
    assert len(default_store().keys()) == 2
    assert main(["store", "prune", "--down-to", "0"]) == 0
    assert default_store().keys() == ()
