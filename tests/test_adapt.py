"""Coefficients are trained where they were planted, beside every rival, and the counts are those of the formulas."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

import uws_core as uws
from uws_core.analysis.adapt import gradient_share, paired, row_scores
from uws_core.errors import Cancelled, CollectionError, ExportError, LayerError, TrainingError, UnreadableFile
from uws_core.nouns.adapting import Comparison, Row, TrainedRun
from uws_core.nouns.models import LayerKey
from uws_core.use.adapt import builtin
from uws_core.use.adapt.bases import Basis, LayerBasis, random_like
from uws_core.use.adapt.comparison import opened_basis
from uws_core.use.adapt.export import export_adapter
from uws_core.use.adapt.gradient import captured_gradient
from uws_core.use.adapt.log import open_log
from uws_core.use.adapt.modules import adapted, linear_modules, lora_rank, row_modules, trainable_numbers
from uws_core.use.adapt.options import AdaptData, AdaptOptions
from uws_core.zoo import vit
from uws_core.zoo.tasks import TASKS, digits, seeded

M, P, K = 24, 20, 3
SHORT = AdaptOptions(steps=60, rates=(0.01, 0.1), keep_every=20)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Products of these sizes take several times as long on two threads of a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Two(nn.Module):
    """Two layers side by side; one has its answer in the planted subspace, the other does not."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.a, self.b = nn.Linear(P, M), nn.Linear(P, M)
        for layer in (self.a, self.b):
            layer.weight.data = torch.randn(M, P, generator=generator) / P**0.5
            layer.bias.data.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.a(x), self.b(x)], dim=-1)


def orthonormal(size: int, k: int, seed: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((size, k)))[0]


def planted_basis(names: tuple[str, ...] = ("a.weight", "b.weight"), members: int = 5) -> Basis:
    cores = np.random.default_rng(9).standard_normal((members, K, K))
    layers = [
        LayerBasis(LayerKey(name, (M, P)), orthonormal(M, K, 10), orthonormal(P, K, 11), cores, np.ones(members))
        for name in names
    ]
    return Basis(tuple(layers), tuple(f"m{i}" for i in range(members)))


def planted_task(model: Two, *, inside: bool = True) -> tuple[Callable[[nn.Module, Tensor], Tensor], AdaptData]:
    """A loss whose answer adds an update to `a`: of the planted subspace, or of another one; `b` gets any update."""
    basis = planted_basis().layers[0]
    left, right = (basis.left, basis.right) if inside else (orthonormal(M, K, 77), orthonormal(P, K, 78))
    core = np.random.default_rng(3).standard_normal((K, K))
    update = torch.from_numpy(left @ core @ right.T).float()
    other = torch.randn(M, P, generator=torch.Generator().manual_seed(4)) / 20

    def wanted(x: Tensor) -> Tensor:
        return torch.cat(
            [x @ (model.a.weight.detach() + update).T, x @ (model.b.weight.detach() + other).T], dim=-1
        ).detach()

    # Whitened inputs: the gradient is then the missing update itself, not the update as the data happen to see it.
    inputs = [torch.linalg.qr(torch.randn(60, P, generator=torch.Generator().manual_seed(s)))[0] * 8 for s in range(9)]
    answers = [wanted(x) for x in inputs]
    batches = list(zip(inputs, answers, strict=True))

    def loss(given: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return functional.mse_loss(given(batch[0]), batch[1])

    return loss, AdaptData(batches[:5], batches[5:7], batches[7:])


def test_the_gradient_of_a_planted_task_lies_in_the_planted_subspace_and_at_chance_elsewhere():
    model = Two()
    loss, data = planted_task(model)
    planted, elsewhere = captured_gradient(model, planted_basis(), loss=loss, batch=data.batch(0, 0))
    assert planted.shared == pytest.approx(1.0, abs=1e-5)
    assert planted.chance == K * K / (M * P)
    assert elsewhere.shared < 3 * elsewhere.chance < 0.1
    assert planted.base < 0.1
    assert planted.chance_high < 0.1
    # Over many random bases the mean share is k^2/(m p), also for a gradient of low rank.
    (gradient,) = torch.autograd.grad(loss(model, data.batch(0, 0)), [model.a.weight])
    bases = [random_like(planted_basis(), seed).layers[0] for seed in range(60)]
    shares = [gradient_share(gradient.double().numpy(), *basis.orthonormal) for basis in bases]
    assert np.mean(shares) == pytest.approx(planted.chance, rel=0.25)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_training_finds_a_planted_answer_in_its_basis_and_says_so():
    model = Two()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    loss, data = planted_task(model)
    rows = ("shared", "random", "base SVD", "LoRA", "full", "mixture", "shared diagonal", "random diagonal")
    result = uws.adapt(model, planted_basis(), loss=loss, data=data, rows=rows, options=replace(SHORT, rates=(0.1,)))
    means = {score.row: score.mean for score in row_scores(result, "task")}
    assert means[Row.SHARED] > means[Row.RANDOM] + 0.01
    assert means[Row.FULL] > means[Row.LORA]
    # Five random cores span five of the nine numbers of a core.
    assert means[Row.SHARED] > means[Row.MIXTURE] > means[Row.RANDOM]
    difference = paired(result, Row.SHARED, Row.RANDOM)
    assert difference is not None
    assert difference.verdict == "better"
    assert {name: torch.equal(value, before[name]) for name, value in model.state_dict().items()} == dict.fromkeys(
        before, True
    )
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_an_answer_outside_the_basis_is_no_better_than_random():
    model = Two()
    loss, data = planted_task(model, inside=False)
    result = uws.adapt(model, planted_basis(), loss=loss, data=data, rows=("shared", "random"), options=SHORT)
    difference = paired(result, Row.SHARED, Row.RANDOM)
    assert difference is not None
    assert difference.verdict != "better"


def test_trained_numbers_are_those_of_the_formulas():
    def basis(layers: int, k: int, shape: tuple[int, int] = (1024, 1024), members: int = 0) -> Basis:
        sides = [np.broadcast_to(0.0, (side, k)) for side in shape]
        cores = np.broadcast_to(0.0, (members, k, k))
        return Basis(tuple(LayerBasis(LayerKey(str(i), shape), *sides, cores, np.zeros(0)) for i in range(layers)))

    # LoRA-XS on four modules a layer of RoBERTa-large, rank 25 and 16; LoRA of rank 8 on q and v.
    assert trainable_numbers(Row.SHARED, basis(24 * 4, 25)) == 60_000
    assert trainable_numbers(Row.BASE, basis(24 * 4, 16)) == 24_576
    assert lora_rank(basis(24 * 2, 128)) == 8
    assert trainable_numbers(Row.LORA, basis(24 * 2, 128)) == 786_432
    assert trainable_numbers(Row.DIAGONAL, basis(2, 25)) == 50
    assert trainable_numbers(Row.MIXTURE, basis(2, 25, members=7)) == 14


@pytest.fixture(scope="module")
def rotated() -> Basis:
    return builtin.basis_for(uws.collect("demo:lora"), "rotated")


@pytest.mark.parametrize(
    ("row", "numbers"),
    [
        ("head only", 0),
        ("shared", 648),
        ("random", 648),
        ("base SVD", 648),
        ("LoRA", 1344),
        ("full", 24_576),
        ("shared diagonal", 108),
        ("random diagonal", 108),
        ("mixture", 648),
    ],
)
def test_a_row_trains_as_many_numbers_as_it_says_and_starts_as_the_base(rotated: Basis, row: str, numbers: int):
    model = builtin.network("rotated", 0)
    images = digits()[1].images[:8]
    plain = model(images)
    with adapted(model, row_modules(Row(row), rotated, linear_modules(model, rotated), 0), ("head",)) as trained:
        assert torch.allclose(model(images), plain, atol=1e-6)
        head = sum(value.numel() for name, value in trained.items() if name.startswith("head."))
        assert head == 330
        assert (
            sum(value.numel() for value in trained.values()) - head == numbers == trainable_numbers(Row(row), rotated)
        )
        assert {id(value) for value in model.parameters() if value.requires_grad} == {id(v) for v in trained.values()}


def test_the_module_computes_what_the_built_in_network_computes():
    weights = load_file(builtin.demo.DATA / "base.safetensors")
    weights = {name: value for name, value in weights.items() if not name.startswith("rebuilding.")}
    images = digits()[1].images[:16]
    model = builtin.TinyTransformer(weights)
    for per_token in (False, True):
        expected = vit.forward(weights, images, per_token=per_token)
        assert torch.allclose(model(images, per_token=per_token), expected, atol=1e-5)
    batch = builtin.task_data("noisy").test
    task = TASKS["noisy"]
    assert builtin.score(task, model, batch) == pytest.approx(task.score(weights, digits()[1]))


def test_the_basis_of_a_task_has_not_seen_its_group(rotated: Basis, tmp_path: Path):
    assert len(rotated.members) == 36
    assert not [name for name in rotated.members if name.startswith("rotated")]
    collection = uws.collect("demo:lora")
    layers = ["blocks.0.attn.q.weight"]
    folder = uws.compress(collection, kept=4, layers=layers).write(tmp_path / "all")
    with pytest.raises(CollectionError, match=r"made with rotated-0.*own group.*compress again without them"):
        opened_basis(folder, held_out=builtin.group_of(collection, "rotated"))
    members = [row for row, label in enumerate(collection.labels) if not label.startswith("rotated")]
    clean = uws.compress(collection, kept=4, layers=layers, members=members).write(tmp_path / "clean")
    opened = opened_basis(clean, held_out=builtin.group_of(collection, "rotated"))
    again = builtin.basis_for(collection, "rotated", kept=4).layers
    (same,) = [each for each in again if each.layer.name == layers[0]]
    # The same span of outputs, whichever way it was made.
    overlap = np.linalg.norm(opened.layers[0].left.T @ same.left) ** 2
    assert overlap == pytest.approx(4.0, abs=1e-4)


@pytest.mark.parametrize("collection", ["demo:lora", "demo:finetuned"])
def test_built_in_tasks_are_compared_on_adapters_and_on_whole_networks(collection: str, tmp_path: Path):
    options = AdaptOptions(steps=20, rates=(0.1,), folder=tmp_path / "log")
    result = builtin.compare(uws.collect(collection), "inverted", rows=("head only", "shared"), options=options)
    assert result.complete
    assert result.metric == "accuracy"
    head, shared = row_scores(result, "inverted")
    # Ten classes; few steps do.
    assert min(*head.scores, *shared.scores) > 0.3
    again = open_log(tmp_path / "log")
    assert again.comparison == result
    assert len(again.gradients["inverted"]) == 18
    assert len(again.curves) >= 6 * 20


def test_the_exported_adapter_computes_what_was_trained_in_peft(tmp_path: Path, rotated: Basis):
    peft = pytest.importorskip("peft")
    options = AdaptOptions(steps=12, rates=(0.1,), folder=tmp_path / "log")
    builtin.compare(uws.collect("demo:lora"), "rotated", rows=("shared", "LoRA", "mixture"), options=options)
    images = digits()[1].images[:32]
    for row in ("shared", "LoRA", "mixture"):
        folder = export_adapter(tmp_path / "log", tmp_path / row, row=row, seed=1)
        loaded = peft.PeftModel.from_pretrained(builtin.network("rotated", 0), folder).eval()
        stored = load_file(next((tmp_path / "log" / "trained").glob(f"{row} *seed 1.safetensors")))
        model = builtin.network("rotated", 0)
        with torch.no_grad():
            for name, value in stored.items():
                if name.startswith("up|"):
                    layer = name.removeprefix("up|")
                    model.get_parameter(layer).add_(value @ stored[f"down|{layer}"])
                elif name.startswith("head|"):
                    model.get_parameter(name.removeprefix("head|")).copy_(value)
            assert torch.allclose(loaded(images), model(images), atol=1e-5), row
            assert not torch.allclose(loaded(images), builtin.network("rotated", 0)(images), atol=1e-2)
    with pytest.raises(CollectionError, match=r"vllm cannot load the trained head \(head.bias"):
        export_adapter(tmp_path / "log", tmp_path / "v", target="vllm")
    served = export_adapter(tmp_path / "log", tmp_path / "v", target="vllm", with_head=False)
    config = json.loads((served / "adapter_config.json").read_text())
    assert config["r"] == config["lora_alpha"] == 8
    for row in ("full", "sharde"):
        with pytest.raises(CollectionError, match=f"row {row} is no adapter of low rank; export one of shared"):
            export_adapter(tmp_path / "log", tmp_path / "f", row=row)
    with pytest.raises(ExportError, match="exists"):
        export_adapter(tmp_path / "log", tmp_path / "v", target="peft")


def test_layers_stored_as_inputs_by_outputs_are_trained_the_right_way_round():
    conv1d = pytest.importorskip("transformers.pytorch_utils").Conv1D(M, P)
    model = nn.Module()
    model.add_module("c", conv1d)
    sides = orthonormal(P, 2, 1), orthonormal(M, 3, 2)
    stored = LayerBasis(LayerKey("c.weight", (P, M)), *sides, np.zeros((0, 2, 3)), np.zeros(0))
    basis = Basis((stored,), transposed=frozenset({"c.weight"}))
    x = torch.randn(5, P, generator=torch.Generator().manual_seed(0))
    plain = conv1d(x)
    modules = row_modules(Row.SHARED, basis, linear_modules(model, basis), 0)
    with adapted(model, modules, ()) as trained:
        (core,) = trained.values()
        core.data = torch.randn(core.shape, generator=torch.Generator().manual_seed(1))
        update = torch.from_numpy(stored.left).float() @ core.T @ torch.from_numpy(stored.right).float().T
        assert torch.allclose(modules["c.weight"](x), plain + x @ update, atol=1e-5)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_model_in_half_precision_is_trained_on_its_device_and_goes_on_there(tmp_path: Path, device: str):
    model, kind = Two(), torch.bfloat16
    plain, data = planted_task(model)
    model = model.to(device, kind)

    def loss(given: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return functional.mse_loss(given(batch[0].to(device, kind)), batch[1].to(device, kind))

    x = data.test[0][0].to(device, kind)
    before = model(x)
    for row in Row:
        modules = row_modules(row, planted_basis(), linear_modules(model, planted_basis()), 0)
        with adapted(model, modules, ("a.bias",)) as trained:
            # Steps smaller than half precision resolves count in the coefficients.
            assert {value.dtype for name, value in trained.items() if "/" in name} <= {torch.float32}
            torch.testing.assert_close(model(x), before, rtol=0, atol=1e-6)
    rows = ("shared", "random", "LoRA", "full")
    options = replace(SHORT, steps=30, rates=(0.1,), keep_every=8, folder=tmp_path / "log")
    with pytest.raises(Cancelled):
        uws.adapt(model, planted_basis(), loss=loss, data=data, rows=rows, options=options, report=stopped_after(20))
    result = uws.adapt(model, planted_basis(), loss=loss, data=data, rows=rows, options=options)
    assert result.runs[0].resumed_at == (20,)
    means = {score.row: score.mean for score in row_scores(result, "task")}
    assert means[Row.SHARED] > means[Row.RANDOM] + 0.01
    with torch.no_grad():
        untrained = -float(np.mean([float(plain(Two(), batch)) for batch in data.test]))
    assert min(means.values()) > untrained, means


def stopped_after(reports: int) -> Callable[[float, str], None]:
    left = [reports]

    def report(fraction: float, message: str) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Cancelled("stopped")

    return report


class Noisy(Two):
    """With dropout, and a norm whose running statistics training mode would change."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2 * M)

    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(self.norm(super().forward(x)), 0.3, self.training)


def test_a_stopped_comparison_goes_on_where_it_was_and_ends_as_if_never_stopped(tmp_path: Path):
    model = Noisy()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    loss, data = planted_task(model)
    rows = ("shared", "LoRA")
    whole = uws.adapt(model, planted_basis(), loss=loss, data=data, rows=rows, options=SHORT)
    options = replace(SHORT, folder=tmp_path / "log")
    for reports in (90, 130):
        with pytest.raises(Cancelled):
            uws.adapt(
                model, planted_basis(), loss=loss, data=data, rows=rows, options=options, report=stopped_after(reports)
            )
    part = open_log(tmp_path / "log")
    assert not part.comparison.complete
    resumed = uws.adapt(model, planted_basis(), loss=loss, data=data, rows=rows, options=options)
    assert [run.resumed_at for run in resumed.runs if run.resumed_at] != []
    assert [(run.name, run.validation, run.score) for run in resumed.runs] == [
        (run.name, run.validation, run.score) for run in whole.runs
    ]
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    with pytest.raises(ExportError, match=r"another comparison|another steps"):
        uws.adapt(model, planted_basis(), loss=loss, data=data, rows=rows, options=replace(options, steps=61))


def nan_loss(model: nn.Module, batch: object) -> Tensor:
    return model.a.weight.sum() * float("nan")


def blind_loss(model: nn.Module, batch: object) -> Tensor:
    return torch.ones(())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"seeds": (0,)}, TrainingError, r"1 seed cannot tell.*give at least three"),
        ({"seeds": (0, 1)}, TrainingError, r"2 seeds cannot tell"),
        ({"steps": 0}, TrainingError, "0 steps"),
        ({"steps": 2.5}, TrainingError, "steps and keep_every are whole numbers"),
        ({"seeds": 3}, TrainingError, "seeds and rates in tuples"),
        ({"seeds": (-1, 0, 1)}, TrainingError, "whole numbers from 0 on; found -1"),
        ({"rates": (float("nan"),)}, TrainingError, r"positive rates; found .*nan"),
        ({"keep_every": 0}, TrainingError, "kept every 0"),
        ({"held_out": "m1"}, CollectionError, r"made with m1 \(1 of the target's own group"),
        ({"basis": "nowhere"}, UnreadableFile, "nowhere is no compressed collection"),
        ({"basis": 7}, CollectionError, r"A basis is a folder that `uws compress` wrote.*found a int"),
        ({"model": "gpt2"}, TrainingError, "takes a module, or a function that builds one.*found a str"),
        ({"model": lambda seed: "gpt2"}, TrainingError, "that builds a model gave a str"),
        ({"loss": lambda model, batch: {"loss": 1.0}}, TrainingError, "gave a dict; expected one number"),
        ({"score": lambda model, batches: float("nan")}, TrainingError, r"its score ended in NaN.*look at score"),
        ({"loss": nan_loss}, TrainingError, r"loss is nan before anything.*Look at the first batch"),
        ({"loss": blind_loss}, TrainingError, "does not depend on the trained layers"),
        ({"data": []}, TrainingError, r"0 batches cannot be split.*at least 5"),
        ({"data": AdaptData([1], [], [1])}, TrainingError, r"no validation data.*hold back"),
        ({"data": AdaptData([], [1], [])}, TrainingError, "no training and no test data"),
        ({"basis": planted_basis(("a.weight", "c.weight"))}, LayerError, r"no linear layer c.weight \(1 of 2"),
        ({"rows": ("sharde",)}, CollectionError, r"No row is called sharde; there are head only"),
        ({"rows": ("head only",)}, TrainingError, "no head is named"),
        ({"head": ("tail",)}, LayerError, "no parameters tail"),
        ({"head": ("a",)}, LayerError, r"a.weight is trained whole as the head and lies in the basis too"),
        ({"data": AdaptData(iter([1]), [1], [1])}, TrainingError, r"training data are a list_iterator.*give list"),
        ({"data": AdaptData(DataLoader([1]), [1], [1])}, TrainingError, r"training data are a DataLoader"),
        ({"data": AdaptData([1], [1], iter([1]))}, TrainingError, r"test data are a list_iterator"),
    ],
)
def test_bad_input_is_named_with_a_way_out(change: dict, error: type, message: str):
    model = Two()
    loss, data = planted_task(model)
    given = {"model": model, "basis": planted_basis(), "loss": loss, "data": data, "rows": ("shared",)} | change
    own = {name: given.pop(name) for name in asdict(SHORT) if name in given}
    with pytest.raises(error, match=message):
        uws.adapt(given.pop("model"), given.pop("basis"), **given, options=replace(SHORT, **own))


def test_a_basis_of_other_shapes_or_of_another_base_is_refused(tmp_path: Path):
    model = Two()
    loss, data = planted_task(model)
    other = planted_basis().layers[0]
    wide = replace(other, layer=LayerKey("a.weight", (M, P + 1)), right=orthonormal(P + 1, K, 1))
    with pytest.raises(LayerError, match=r"other shapes: a.weight 24 x 20, the basis \(24, 21\)"):
        uws.adapt(model, Basis((wide,)), loss=loss, data=data, options=SHORT)
    model.a.weight = nn.Parameter(torch.zeros(M, P, dtype=torch.int8), requires_grad=False)
    with pytest.raises(LayerError, match=r"a.weight is quantised \(int8\).*load the model in bfloat16"):
        uws.adapt(model, planted_basis(), loss=loss, data=data, options=SHORT)
    collection = uws.collect("demo:lora")
    with pytest.raises(CollectionError, match=r"not the base of this basis.*differs by.*check_base=False"):
        uws.adapt(
            builtin.TinyTransformer(vit.initialise(seeded("another"), outputs=10)),
            builtin.basis_for(collection, "rotated"),
            loss=lambda model, batch: builtin.loss(TASKS["rotated"], model, batch),
            data=builtin.task_data("rotated"),
        )


def test_a_rate_that_is_too_large_loses_and_does_not_end_the_comparison():
    model = Two()
    loss, data = planted_task(model)

    def steep(given: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        value = loss(given, batch)
        return value + torch.where(value > 50, torch.inf, 0.0)

    result = uws.adapt(
        model, planted_basis(), loss=steep, data=data, rows=("shared",), options=replace(SHORT, rates=(0.1, 1e4))
    )
    assert [run.diverged for run in result.runs] == [False, True, False, False]
    (shared,) = row_scores(result, "task")
    assert shared.rate == 0.1
    assert result.complete
    with pytest.raises(TrainingError, match=r"Every training or its score ended in NaN.*smaller rates"):
        uws.adapt(model, planted_basis(), loss=steep, data=data, rows=("shared",), options=replace(SHORT, rates=(1e4,)))


def runs_of(scores: dict[Row, list[list[float]]], rates: tuple[float, ...] = (0.1,)) -> Comparison:
    """Tasks t0, t1, ... with scores by row, task and seed."""
    return Comparison(
        tuple(
            TrainedRun(f"t{task}", row, seed, rates[0], 9, score, score)
            for row, tasks in scores.items()
            for task, seeds in enumerate(tasks)
            for seed, score in enumerate(seeds)
        )
    )


def test_paired_intervals_are_those_of_the_t_test():
    generator = np.random.default_rng(0)
    left, right = generator.normal(0.8, 0.1, (2, 4, 5))
    comparison = runs_of({Row.SHARED: left.tolist(), Row.RANDOM: right.tolist()})
    one = paired(comparison, Row.SHARED, Row.RANDOM, "t2")
    expected = stats.ttest_rel(left[2], right[2]).confidence_interval(0.95)
    assert one is not None
    assert (one.low, one.high) == pytest.approx((expected.low, expected.high), rel=1e-9)
    # Over tasks each task is one observation.
    every = paired(comparison, Row.SHARED, Row.RANDOM)
    expected = stats.ttest_1samp((left - right).mean(axis=1), 0.0).confidence_interval(0.95)
    assert every is not None
    assert (every.low, every.high) == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert paired(comparison, Row.SHARED, Row.FULL) is None


def test_the_rate_is_chosen_on_validation_and_not_on_test():
    runs = [
        TrainedRun("t", Row.SHARED, seed, rate, 9, validation, score)
        for rate, validation, score in ((0.01, 0.5, 0.9), (0.1, 0.7, 0.6), (1.0, 0.6, 0.8))
        for seed in (0, 1, 2)
    ]
    (score,) = row_scores(Comparison(tuple(runs)), "t")
    assert (score.rate, score.mean) == (0.1, pytest.approx(0.6))
    assert not score.at_edge
    (edge,) = row_scores(Comparison(tuple(run for run in runs if run.rate != 1.0)), "t")
    assert not edge.at_edge


def test_results_trained_elsewhere_are_read(tmp_path: Path):
    for task in ("one", "two"):
        (tmp_path / task).mkdir()
        pairs = [(row, seed) for row in ("shared", "random") for seed in range(3)]
        rows = [f"{row},{seed},36,{0.5 + seed / 10}" for row, seed in pairs]
        (tmp_path / task / "runs.csv").write_text("row,seed,trainables,score\n" + "\n".join(rows) + "\n")
    log = open_log(tmp_path)
    assert log.comparison.tasks == ("one", "two")
    assert log.comparison.complete
    assert [score.trainables for score in row_scores(log.comparison, "two")] == [36, 36]
    torn = tmp_path / "one" / "runs.jsonl"
    line = json.dumps({"row": "shared", "seed": 0, "trainables": 36, "score": 0.5})
    torn.write_text(line + "\n" + line[:20])
    assert len(open_log(tmp_path / "one").comparison.runs) == 1
    torn.write_text(line.replace("shared", "sharde") + "\n")
    with pytest.raises(UnreadableFile, match=r"training 1 cannot be read.*row is one of head only, shared"):
        open_log(tmp_path / "one")
    torn.write_text(f"{line}\n{line}\n")
    with pytest.raises(UnreadableFile, match=r"training 2, shared rate 0 seed 0, is there twice.*its own seed"):
        open_log(tmp_path / "one")
    torn.write_text(line.replace('"seed": 0', '"seed": 1e999') + "\n")
    with pytest.raises(UnreadableFile, match="training 1 cannot be read"):
        open_log(tmp_path / "one")
    (tmp_path / "one" / "adapt.json").write_text('{"version": 1, "rows": []}')
    with pytest.raises(UnreadableFile, match="lacks seeds, rates; delete it"):
        open_log(tmp_path / "one")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnreadableFile, match="holds no training log"):
        open_log(tmp_path / "empty")


def test_the_example_of_the_docs_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    text = (Path(__file__).parents[1] / "docs" / "adapt.md").read_text(encoding="utf-8")
    (example,) = [code for code in re.findall(r"```py\n(.*?)```", text, flags=re.S) if "uws.adapt" in code]
    collection = uws.collect("demo:lora")
    members = [row for row, label in enumerate(collection.labels) if not label.startswith("prime")]
    names = ["blocks.0.attn.q.weight", "blocks.1.mlp.up.weight"]
    uws.compress(collection, kept=3, layers=names, members=members).write(tmp_path / "small")
    monkeypatch.chdir(tmp_path)
    images, labels = digits()[0].images, digits()[0].digits
    batches = [(images[i : i + 8], labels[i : i + 8]) for i in range(0, 80, 8)]
    given = {"base": builtin.network("ten-way", 0), "cross_entropy": functional.cross_entropy}
    given |= {"train": batches[:6], "validation": batches[6:8], "test": batches[8:]}
    exec(compile(example.replace("steps=100", "steps=2"), "docs adapt", "exec"), given)
    gradient, count, verdict = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\d+% of the gradient in the basis, 1% in a random one", gradient)
    assert count == "32 trainings"
    assert "a random basis on `task`: the shared basis scores" in verdict
    assert (tmp_path / "log" / "trained").is_dir()
