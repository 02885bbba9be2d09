"""What was left out, told apart: models, matrices, vectors, notes; from the reasons that the readers give."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from uws_core.answers.collection import answer
from uws_core.collection import collect
from uws_core.nouns.left_out import LeftOutCounts, counts
from uws_core.nouns.models import LeftOut


def test_each_kind_is_counted_once_a_name(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def save(name: str, **shapes: tuple[int, ...]) -> None:
        tensors = {key: rng.normal(size=shape).astype(np.float32) for key, shape in shapes.items()}
        save_file(tensors, tmp_path / f"{name}.safetensors")

    for name in "abc":
        save(name, w=(4, 3), v=(4, 3), bias=(4,), head=(5 if name == "a" else 6, 3), scalar=())
    save("stranger", x=(9, 9), y=(9, 9))
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    collection = collect(tmp_path)
    assert counts(collection.left_out) == LeftOutCounts(others=1, models=1, matrices=1, vectors=2, notes=0)
    assert (
        str(counts(collection.left_out))
        == "1 model of another architecture, 1 model or file, 1 matrix, 2 biases and other vectors"
    )
    line = answer(collection, members=range(3), layers=["w", "v"])
    assert line == "3 models of one architecture, 2 layers comparable, 1 model or file left out; no base known."


def test_a_note_is_no_loss(tmp_path: Path) -> None:
    for rows, name in ((5, "a"), (7, "b")):
        save_file(
            {"embed": np.ones((rows, 2), np.float32), "w": np.ones((3, 3), np.float32)},
            tmp_path / f"{name}.safetensors",
        )
    lost = collect(tmp_path, common_rows=True).left_out
    assert counts(lost) == LeftOutCounts(others=0, models=0, matrices=0, vectors=0, notes=1)


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("it is a vector of 8 entries, not a matrix (in 2 of 3 models, first a)", "1 bias or other vector"),
        ("its entries are int8, not float16, bfloat16, float32 or float64", "1 matrix"),
        ("4 x 3 in 2 of 3 models; missing in c", "1 matrix"),
        ("scale assumed 1: no alpha is known", "1 note"),
        ("of the kind 'adapter', while 3 of 4 models are of the kind 'checkpoint'", "1 model of another architecture"),
    ],
)
def test_words(reason: str, words: str) -> None:
    assert str(counts([LeftOut("x", reason)])) == words
    assert str(counts([])) == ""
