"""The tables of docs/chance.md, one job at a time or side by side, with nothing but numpy and scipy.

`python -m tests.chance_run --list` names the jobs, `--kind "claims/iid normal" --repetitions 200 --out FILE.json` runs
one of them in this process, and `--all claims --cores 16 --out FOLDER` runs all of which the name begins so, each in a
process of its own. A file holds the job, its repetitions, and its rates or means.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from pathlib import Path

# Before numpy is imported: products of 24 models on many cores cost more in waiting than they bring.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from tests import planted_directions as planting
from tests.block_grams import gram_of
from tests.nothing_shared import KINDS
from tests.side_models import DECAYS, SIDE_NORMS, side_alarms
from uws_core.analysis.evidence import evidence
from uws_core.analysis.shared_directions import shared_directions
from uws_core.nouns.claims import CLAIMS, KIN

Job = Callable[[int], Mapping[str, float]]
TESTED = tuple(claim for claim in CLAIMS if claim != "sound" and claim not in KIN.values())
COUNTS = ("count, rows", "count, columns", "count, equal noise")


def claims(kind: str, repetitions: int) -> dict[str, float]:
    """The rate at which each claim alarms at 5 % on models that share nothing, and each count is at least one."""
    rng, alarms = np.random.default_rng(7), Counter[str]()
    labels = [model % 6 for model in range(24)]
    for seed in range(repetitions):
        gram = gram_of(KINDS[kind](rng))
        alarms.update(one.claim for one in evidence(gram, groups=labels, draws=39, seed=seed).findings if one.p <= 0.05)
        views = dict(shared_directions(gram, seed=seed).by_view)
        equal = shared_directions(gram, kind="strength", seed=seed)
        found = (views.get("rows", 0), views.get("columns", 0), equal.count)
        alarms.update(name for name, count in zip(COUNTS, found, strict=True) if count)
    return {name: alarms[name] / repetitions for name in (*TESTED, *COUNTS)}


def power(null: str, norms: str, repetitions: int) -> dict[str, float]:
    """The rate at which the count is at least one, by the strength of one planted direction."""
    rates = {}
    for strength in planting.STRENGTHS:
        if null == "profile":
            planted = partial(planting.spikes, strengths=(float(strength),) if strength else ())
            found = planting.counts_of_weights(norms, planted, repetitions)
        else:
            found = planting.counts_of_grams(norms, planting.one_direction(strength), repetitions)
        rates[str(strength)] = float((found >= 1).mean())
    return rates


def mean_count(null: str, planted: str, norms: str, repetitions: int) -> dict[str, float]:
    """The mean count where more is planted, beside the truth."""
    weights, coordinates, _ = planting.MORE[planted]
    if null == "profile":
        found = planting.counts_of_weights(norms, weights, repetitions)
    else:
        found = planting.counts_of_grams(norms, coordinates, repetitions, absolute=planted == "six groups")
    error = float(found.std(ddof=1) / np.sqrt(repetitions)) if repetitions > 1 else float("nan")
    return {"mean": float(found.mean()), "error": error, "truth": planting.truth(planted, norms, null=null)}


def fixed_groups(repetitions: int) -> dict[str, float]:
    """The mean count of six groups about fixed points, whose models have noise of log-normal strengths."""
    found = planting.counts_of_weights("equal", planting.grouped_about_fixed_points, repetitions)
    return {"mean": float(found.mean()), "truth": 5}


def jobs() -> dict[str, Job]:
    """Every job by its name."""
    nulls = ("profile", "strength")
    return {
        **{f"claims/{kind}": partial(claims, kind) for kind in KINDS},
        **{f"power/{null}/{norms}": partial(power, null, norms) for null in nulls for norms in planting.NORMS},
        **{
            f"mean/{null}/{planted}/{norms}": partial(mean_count, null, planted, norms)
            for null in nulls
            for planted in planting.MORE
            for norms in planting.NORMS
        },
        "mean/profile/six groups about fixed points": fixed_groups,
        **{
            f"side/{n} models/{decay}/{norms}": partial(side_alarms, n, decay, norms)
            for n in (3, 4, 5, 6, 8, 10)
            for decay in DECAYS
            for norms in SIDE_NORMS
        },
    }


def run_one(kind: str, repetitions: int, out: Path | None) -> dict[str, object]:
    """Returns one job's result, and writes it to `out`."""
    began = time.monotonic()
    result = {
        "kind": kind,
        "repetitions": repetitions,
        "result": jobs()[kind](repetitions),
        "seconds": round(time.monotonic() - began, 1),
        "where": f"{os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}",
    }
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=1) + "\n")
    return result


def run_all(start: str, repetitions: int, folder: Path, cores: int) -> None:
    """Runs all jobs whose names begin with `start` side by side; those with a result in `folder` are left out."""

    def file_of(kind: str) -> Path:
        return folder / (kind.replace("/", "--").replace(" ", "_") + ".json")

    chosen = [kind for kind in jobs() if kind.startswith(start) and not file_of(kind).exists()]
    # Fresh processes: a forked one would inherit the locks of the threads around it.
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
        running = [pool.submit(run_one, kind, repetitions, file_of(kind)) for kind in chosen]
        for done, future in enumerate(as_completed(running), 1):
            result = future.result()
            print(f"{done} of {len(chosen)}: {result['kind']}: {result['seconds']} s", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chance_run", description=__doc__)
    parser.add_argument("--list", action="store_true", help="name all jobs, one a line")
    parser.add_argument("--kind", choices=jobs(), metavar="NAME", help="run this job in this process")
    parser.add_argument("--all", metavar="START", help="run all jobs whose names begin so; '' for every job")
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, help="the file of one job, or the folder of all")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(jobs()))
    elif arguments.kind:
        print(json.dumps(run_one(arguments.kind, arguments.repetitions, arguments.out)))
    elif arguments.all is not None and arguments.out is not None:
        run_all(arguments.all, arguments.repetitions, arguments.out, arguments.cores)
    else:
        parser.error("--list, --kind NAME, or --all START with --out FOLDER was expected")


if __name__ == "__main__":
    main()
