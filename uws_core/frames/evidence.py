"""Frames of evidence: one row a claim, a claim and a layer, a sample size, or a number of directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from uws_core.nouns.claims import CLAIMS
from uws_core.nouns.evidence import Determined, Evidence, Finding, Pooled, SampleCurve
from uws_core.nouns.models import LayerKey

# Every column, its unit and its formula: the help text of tables and the header of exports.
HELP: Mapping[str, str] = {
    "claim": "Short name of the claim.",
    "title": "What would be true if the claim held.",
    "verdict": "holds: beyond chance, and not by little; weak: beyond chance by little; chance; or cannot tell.",
    "value": "The number behind the claim.",
    "chance": "Median of what chance gives.",
    "low": "2.5 % of the draws lie below.",
    "high": "2.5 % of the draws lie above.",
    "z": "(tested number - mean of the draws) / their standard deviation; positive speaks for the claim.",
    "p": "(1 + draws that speak for the claim as much) / (1 + draws), one-sided.",
    "effect": "(value - chance) / (best possible - chance).",
    "reason": "The deciding numbers in words.",
    "statistic": "Name of the number.",
    "null": "The null it is compared with.",
    "definition": "The number's formula.",
    "source": "Literature.",
    "draws": "Number of draws.",
    "seed": "Seed of the draws: the same seed gives the same table.",
    "layer": "Full name of the layer.",
    "short": "Name on the figures.",
    "depth": "Block the layer stands in.",
    "module": "Name of the layer inside its block.",
    "layers": "Number of layers.",
    "holds": "Layers in which the claim holds.",
    "weak": "Layers in which it holds by little.",
    "by_chance": "Layers in which the number is no more than chance.",
    "unknown": "Layers in which one cannot tell.",
    "tested": "Layers with a test.",
    "discoveries": "Tests that stand at a false discovery rate of 5 % over all layers (Benjamini and Hochberg 1995).",
    "models": "Number of models.",
    "middle": "Median over the repeats.",
    "noise": "The same for noise of the same strengths.",
    "k": "Number of directions.",
    "gap": "Eigengap after direction k, as a share of the variance.",
    "bound": "Largest root mean squared sine of the angles to the subspace of infinitely many models (Davis-Kahan).",
    "draw": "The number in one draw of chance.",
}
_NUMBERS = ("value", "chance", "low", "high", "z", "p", "effect")
_FINDING = {
    "claim": pl.String,
    "title": pl.String,
    "verdict": pl.String,
    **dict.fromkeys(_NUMBERS, pl.Float64),
    "reason": pl.String,
}
_WORDS = ("statistic", "null", "definition", "source")


def claims(evidence: Evidence) -> pl.DataFrame:
    """One row a claim: number, chance, verdict and reason, with definition and source."""
    rows = [
        {
            **_row(finding),
            "statistic": finding.about.statistic,
            "null": finding.about.chance,
            "definition": finding.about.definition,
            "source": finding.about.source,
            "draws": finding.draws,
            "seed": finding.seed,
        }
        for finding in evidence.findings
    ]
    counts = {"draws": pl.Int64, "seed": pl.Int64}
    return pl.DataFrame(rows, schema={**_FINDING, **dict.fromkeys(_WORDS, pl.String), **counts})


def by_layer(layers: Sequence[tuple[LayerKey, Evidence]]) -> pl.DataFrame:
    """One row for each layer and claim, with the layer's position in the network."""
    rows = [
        {"layer": key.name, "short": key.short, "depth": key.depth, "module": key.module, **_row(finding)}
        for key, evidence in layers
        for finding in evidence.findings
    ]
    position = {"layer": pl.String, "short": pl.String, "depth": pl.Int64, "module": pl.String}
    return pl.DataFrame(rows, schema={**position, **_FINDING})


def pooled(items: Sequence[Pooled]) -> pl.DataFrame:
    """One row a claim over all layers: counts of verdicts, and of tests that pass after correction."""
    rows = [
        {
            "claim": item.claim,
            "title": CLAIMS[item.claim].title,
            "verdict": str(item.verdict),
            "layers": item.layers,
            "holds": item.holds,
            "weak": item.weak,
            "by_chance": item.chance,
            "unknown": item.unknown,
            "tested": item.tested,
            "discoveries": item.discoveries,
            "value": _or_none(item.value),
            "chance": _or_none(item.middle),
            "z": _or_none(item.z),
            "reason": item.reason,
        }
        for item in items
    ]
    words = {"claim": pl.String, "title": pl.String, "verdict": pl.String}
    counts = dict.fromkeys(("layers", "holds", "weak", "by_chance", "unknown", "tested", "discoveries"), pl.Int64)
    numbers = dict.fromkeys(("value", "chance", "z"), pl.Float64)
    return pl.DataFrame(rows, schema={**words, **counts, **numbers, "reason": pl.String})


def curve(curve: SampleCurve) -> pl.DataFrame:
    """One row for each statistic and sample size: median and interval of the repeats, and noise."""
    rows = [
        {
            "statistic": name,
            "models": int(size),
            "low": _or_none(float(low)),
            "middle": _or_none(float(middle)),
            "high": _or_none(float(high)),
            "noise": _or_none(float(noise)),
        }
        for name, values in curve.statistics.items()
        for size, (low, middle, high), noise in zip(curve.sizes, values, curve.noise[name], strict=True)
    ]
    numbers = dict.fromkeys(("low", "middle", "high", "noise"), pl.Float64)
    return pl.DataFrame(rows, schema={"statistic": pl.String, "models": pl.Int64, **numbers})


def determined(determined: Determined) -> pl.DataFrame:
    """One row for each number of directions: the eigengap after it, and the bound on the angles to the truth."""
    bounds = pl.Series([float(bound) if np.isfinite(bound) else None for bound in determined.bounds], dtype=pl.Float64)
    return pl.DataFrame({"k": determined.kept, "gap": determined.gaps, "bound": bounds})


def draws(finding: Finding) -> pl.DataFrame:
    """One row a draw of chance behind a finding; none without a test."""
    return pl.DataFrame({"draw": finding.samples}, schema={"draw": pl.Float64})


def _row(finding: Finding) -> dict[str, object]:
    numbers = (finding.value, finding.middle, finding.low, finding.high, finding.z, finding.p, finding.effect)
    return {
        "claim": finding.claim,
        "title": finding.about.title,
        "verdict": str(finding.verdict),
        **{name: _or_none(number) for name, number in zip(_NUMBERS, numbers, strict=True)},
        "reason": finding.reason,
    }


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value
