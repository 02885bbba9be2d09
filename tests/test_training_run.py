"""Steps of one training run: recognised, in order, as a path in the map, and as the centre of a spectrum."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import uws_core as uws
from uws_core.analysis.model_map import model_map
from uws_core.analysis.training_run import training_steps
from uws_core.charts.lineage import model_map as drawn
from uws_core.frames.lineage import points


def test_steps_are_read_from_names_or_from_their_column() -> None:
    assert training_steps(["run/checkpoint-0", "run/checkpoint-100", "run/checkpoint-25"]) == (0, 100, 25)
    assert training_steps(["x/global_step5/w", "x/global_step10/w", "x/global_step2/w"]) == (5, 10, 2)
    assert training_steps("abc", {"Step": (3, 1, 2), "seed": (0, 0, 0)}) == (3, 1, 2)


@pytest.mark.parametrize(
    ("labels", "table"),
    [
        (["a/step-1", "a/step-2"], {}),
        (["a/step-1", "b/step-2", "a/step-3"], {}),
        (["seed-1", "seed-2", "seed-3"], {"task": ("x", "x", "x")}),
        ("abc", {"step": (1, 2, 2)}),
        ("abc", {"step": (1, None, 2)}),
        ("abc", {"step": (1, 2, 3), "seed": (0, 1, 1)}),
    ],
)
def test_other_models_are_no_training_run(labels: list[str], table: dict[str, tuple[object, ...]]) -> None:
    assert training_steps(labels, table) == ()


def test_the_run_of_the_mixed_folder_is_a_path_from_its_first_step_to_its_last() -> None:
    known = next(item for item in uws.architectures("demo:mixed") if item.title.startswith("run"))
    models = uws.collect("demo:mixed", architecture=known.id)
    steps = training_steps(models.labels)
    assert sorted(steps) == [0, 25, 50, 100, 200, 400]
    layer = models.layers[0]
    frame = points(model_map(uws.gram(models, layer)), {"step": list(steps)})
    path = next(trace for trace in drawn(frame, shares=(0.7, 0.2), path="step").data if trace.name == "path")
    # A second opinion from the weights themselves.
    order = np.argsort(steps)
    files = [Path(models.refs[i].repo) / "model.safetensors" for i in order]
    weights = np.stack([load_file(file)[layer.name].ravel() for file in files]).astype(np.float64)
    left, values, _ = np.linalg.svd(weights - weights.mean(axis=0), full_matrices=False)
    for component, along in enumerate((path.x, path.y)):
        expected = left[:, component] * values[component]
        np.testing.assert_allclose(np.abs(along), np.abs(expected), rtol=1e-4, atol=1e-5 * values[0])
    assert abs(path.x[0] - path.x[-1]) > 1.5 * abs(path.x[0] - path.x[1])
