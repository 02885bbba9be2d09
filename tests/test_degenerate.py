"""Reports, commands and every analysis of collections with layers that carry nothing: they answer, and never break."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import uws_core as uws
from tests.degenerate import LAYERS, N, write
from uws_core.analysis.evidence import evidence
from uws_core.analysis.model_map import model_map
from uws_core.charts.lineage import model_map as map_figure
from uws_core.cli.main import main
from uws_core.errors import UwsError
from uws_core.frames.lineage import points
from uws_core.nouns.gram import Gram

# Exit codes of an answer: done, not done with a reason, done in part.
ANSWERS = (0, 1, 3)
SUBSETS = st.lists(st.sampled_from(sorted(LAYERS)), min_size=1, max_size=len(LAYERS), unique=True)


def analyses(gram: Gram) -> None:
    for about in ("mean", "zero"):
        for unit in (False, True):
            try:
                uws.spectrum(gram, about=about, unit=unit)
                uws.null_band(gram, draws=19, unit=unit)
            except UwsError:
                assert unit, "without unit norm there is always a spectrum"
    uws.held_out(gram, groups=list(range(N)), kept=(0, 1, 9))
    if gram.usable.all():
        uws.shared_angles(gram, [0, 1], [2, 3, 4], kept=2)
    uws.lineage(gram)
    evidence(gram, draws=19)
    map_figure(points(model_map(gram)), shares=model_map(gram).shares.tolist())


@settings(max_examples=max(4, settings.default.max_examples // 10))
@given(names=SUBSETS)
def test_every_analysis_answers_or_says_why(tmp_path_factory: pytest.TempPathFactory, names: Sequence[str]) -> None:
    models = uws.collect(write(tmp_path_factory.mktemp("some") / "models", names))
    for layer in models.layers:
        try:
            gram = uws.gram(models, layer)
        except UwsError as error:
            assert "finite weights" in str(error)  # noqa: PT017 - either way is an answer
            continue
        analyses(gram)
        for about in ("mean", "zero"):
            factors = uws.factors(models, layer, kept=3, about=about)
            for side in ("in", "out"):
                uws.model_angles(factors, side=side, kept=2)
                uws.spectrum(uws.side_gram(models, layer, axis=side))
        uws.storage(models, [layer], kept=2, axis="in")


@pytest.mark.parametrize(
    "names",
    [("not_finite", "usual"), ("equal", "zero"), ("one_left", "two_left", "constant", "usual"), tuple(LAYERS)],
    ids="-".join,
)
def test_one_such_layer_does_not_refuse_the_report(tmp_path: Path, names: tuple[str, ...]) -> None:
    models = uws.collect(write(tmp_path / "models", names))
    page = uws.report(models, into=tmp_path / "report.html", draws=19).read_text()
    for name in {"not_finite", "one_left"} & set(names):
        assert f"{name}.weight" in page
        assert "finite weights" in page


def test_a_report_of_nothing_says_so(tmp_path: Path) -> None:
    models = uws.collect(write(tmp_path / "models", ["not_finite", "one_left"]))
    with pytest.raises(UwsError, match="no layer has finite weights in at least two of the 5 models"):
        uws.report(models, into=tmp_path / "report.html", draws=19)


@settings(max_examples=max(3, settings.default.max_examples // 14))
@given(names=SUBSETS)
def test_every_command_answers(tmp_path_factory: pytest.TempPathFactory, names: Sequence[str]) -> None:
    scratch = tmp_path_factory.mktemp("some")
    folder, to = str(write(scratch / "models", names)), scratch / "out"
    for command in (
        ["ls", folder],
        ["scan", folder, "--json", "--noise"],
        ["scan", folder, "--axis", "in"],
        ["export", folder, "--to", f"{to}.csv"],
        ["export", folder, "--to", f"{to}.html", "--sum"],
        ["compress", folder, "--kept", "2"],
        ["compress", folder, "--error", "20%"],
    ):
        assert main(command) in ANSWERS, command
