"""Every answer line of every built-in collection, as a table: `python -m tests.answer_table > docs/answers.md`."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import uws_core as uws
from uws_core.analysis.angle_tables import chance_level
from uws_core.analysis.angles import level_of
from uws_core.analysis.base_angles import base_angles, base_levels
from uws_core.analysis.evidence import evidence
from uws_core.analysis.group_angles import group_angles, half_angles, relabelled
from uws_core.analysis.heldout_chance import held_out_chance
from uws_core.analysis.merge_conflicts import Measured, compatibility
from uws_core.analysis.merge_methods import combine
from uws_core.analysis.merge_preview import merge_grams, standing
from uws_core.analysis.over_layers import over_layers
from uws_core.analysis.pairs import pair_layers
from uws_core.answers import angles, collection, compress, pairs, reconstruction, spectrum
from uws_core.answers import base_angles as base_answers
from uws_core.answers import evidence as evidence_answers
from uws_core.answers import lineage as lineage_answers
from uws_core.answers import merge as merge_answers
from uws_core.nouns.gram import Gram
from uws_core.nouns.merging import MergeMethod, MergeRecipe
from uws_core.nouns.models import Collection
from uws_core.nouns.spectrum import LayerSpectrum
from uws_core.run import chosen_layers, whole_network
from uws_core.store.results import Store
from uws_core.zoo.demo import DEMOS, PREFIX

K = 8
DRAWS = 19
SHUFFLES = 99
# Draws of chance take seconds a layer.
MOST_LAYERS = 3
HEAD = """# Answer lines

Every page starts with one sentence: the verdict first, then at most three numbers and one comparison. These are the
lines of all built-in collections, so that they can be read together. `python -m tests.answer_table > docs/answers.md`
makes this file, and `tests/test_answer_table.py` compares it with the program.
"""


@dataclass(frozen=True)
class Row:
    """One answer line: the page with its view, and the sentence."""

    view: str
    line: str


def rows(name: str, store: Store) -> Iterator[Row]:
    """The lines of one built-in collection in the order of the pages."""
    models = uws.collect(PREFIX + name)
    keys = chosen_layers(models, None)
    scanned = {gram.layer.name: gram for gram in uws.scan(models, store=store)}
    grams = [scanned[key.name] for key in keys]
    first, whole, place = grams[0], whole_network(grams), f"`{keys[0].short}`"
    together = f"{len(keys)} layers taken as one"
    everyone, layers = range(len(models)), [key.name for key in models.layers]
    yield Row("collection", collection.answer(models, members=everyone, layers=layers))
    items = [LayerSpectrum(gram.layer, uws.spectrum(gram), uws.null_band(gram)) for gram in grams[:MOST_LAYERS]]
    pooled = LayerSpectrum(whole.layer, uws.spectrum(whole), uws.null_band(whole), len(keys))
    yield Row("spectrum, one layer", spectrum.answer(items[:1]))
    yield Row("spectrum, several layers", spectrum.answer(items))
    yield Row("spectrum, layers as one", spectrum.answer([pooled]))
    yield from _angles(models, first, place)
    by = _groups(models)
    groups = models.table[by] if by else everyone
    held_out = uws.held_out(first, groups=groups, kept=(K,))
    chance = held_out_chance(first, groups=groups, kept=(K,))
    yield Row("reconstruction", reconstruction.answer(held_out, k=K, location=place, by=by, chance=chance))
    first_two = {"left": models.labels[0], "right": models.labels[1]}
    yield Row("pair", pairs.answer(pair_layers(grams, 0, 1), **first_two))
    yield Row("lineage, one layer", lineage_answers.answer(uws.lineage(first), location=place))
    yield Row("lineage, layers as one", lineage_answers.answer(uws.lineage(whole, layers=grams), location=together))
    yield from _evidence(grams, whole, models, place)
    smaller = uws.compress(models, kept=K, layers=[key.name for key in keys[:MOST_LAYERS]])
    yield Row("compress", compress.answer(smaller))
    yield _merge(grams, models)


def _merge(grams: list[Gram], models: Collection) -> Row:
    """The Karcher mean of the first model of each group, or of all: what is said of it before weights are read."""
    by = _groups(models)
    first = {value: row for row, value in reversed(list(enumerate(models.table[by])))} if by else {}
    members = sorted(first.values()) or range(len(models))
    found = compatibility(grams, members=members, measured=Measured(low_rank=_adapters(models)))
    of = merge_grams(grams, members=members)
    one = standing(of, combine(of, MergeRecipe(method=MergeMethod.KARCHER)))
    return Row("merge", merge_answers.answer(one, compatibility=found))


def _adapters(models: Collection) -> bool:
    return any(layer.factor for layer in models.layers)


def _angles(models: Collection, gram: Gram, place: str) -> Iterator[Row]:
    by = _groups(models)
    about = "base" if models.base is not None else "mean"
    factors = uws.factors(models, gram.layer, kept=K, about=about, with_base=models.base is not None)
    chosen = factors if models.base is None else uws.factors(models, gram.layer, kept=K)
    table = uws.model_angles(chosen, side="in", kept=K)
    yield Row("angles, models", angles.answer(table, level=chance_level(table), location=place, side="in"))
    if by:
        groups = group_angles(gram, models.table[by], kept=K)
        options = {"band": relabelled(gram, models.table[by], kept=K, draws=SHUFFLES), "by": by}
        line = angles.answer(groups, location=place, side="models", level=chance_level(groups), **options)
        yield Row("angles, groups", line)
    halves = half_angles(gram, kept=K, groups=models.table[by] if by else None)
    level = level_of(halves[0].k, halves[0].k, halves[0].dimension)
    yield Row("angles, halves", angles.answer_halves(halves, location=place, side="models", level=level, by=by))
    if models.base is not None:
        every = base_angles(factors, side="in", kept=K)
        yield Row(
            "angles, base", base_answers.answer(every, base_levels(every), location=place, side="in", about=about)
        )


def _evidence(grams: list[Gram], whole: Gram, models: Collection, place: str) -> Iterator[Row]:
    by = _groups(models)
    options = {"groups": models.table[by] if by else None, "grouped_by": by, "draws": DRAWS}
    layers = [evidence(gram, **options) for gram in grams[:MOST_LAYERS]]
    yield Row("evidence, one layer", evidence_answers.answer(layers[0], location=place))
    together = f"{len(grams)} layers taken as one"
    yield Row(
        "evidence, layers as one", evidence_answers.answer(evidence(whole, layers=grams, **options), location=together)
    )
    line = evidence_answers.answer_layers(over_layers(layers), models=len(models), layers=len(layers), grouped_by=by)
    yield Row("evidence, several layers", line)


def _groups(models: Collection) -> str:
    """The column that makes groups: `task` where it has several values, else none."""
    return "task" if len(set(models.table.get("task", ()))) > 1 else ""


def markdown(names: tuple[str, ...] = tuple(DEMOS)) -> str:
    """The whole document."""
    parts = [HEAD]
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder)) as store:
        for name in names:
            parts.append(f"## demo:{name}\n\n{DEMOS[name].about}\n\n| page | answer line |\n|---|---|")
            parts[-1] += "".join(f"\n| {row.view} | {row.line} |" for row in rows(name, store)) + "\n"
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(markdown())
