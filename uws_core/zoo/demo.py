"""The built-in collections by name: what each one is and where it lies. Light to import: no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from uws_core.errors import CollectionError
from uws_core.zoo import folders

DATA = Path(__file__).parent / "data"
PREFIX = "demo:"


@dataclass(frozen=True, slots=True)
class Demo:
    """A built-in collection: `folder` holds a model a file (or adapter folder) and `models.csv`.

    `base` is the network all of them started from, where there is one. `scored` says whether the table has a test
    score that `zoo.evaluate` can compute again. One that is `made` on demand has relative paths, and nothing lies
    there before `ready`.
    """

    name: str
    title: str
    about: str
    folder: Path
    base: Path | None = None
    scored: bool = False
    made: bool = False


def demo(name: str) -> Demo:
    """The built-in collection called `name`, with or without `demo:` in front.

    Raises:
        CollectionError: there is none of that name; the message lists those there are.
    """
    found = DEMOS.get(name.removeprefix(PREFIX))
    if found is None:
        known = ", ".join(PREFIX + other for other in DEMOS)
        raise CollectionError(f"No built-in collection is called {name!r}. There are: {known}.")
    return found


def ready(entry: Demo, cache: Path) -> Demo:
    """The collection with its files on disk: as it is when it is shipped, else built inside the folder `cache`.

    Raises:
        CollectionError: `cache` cannot be written.
    """
    if not entry.made:
        return entry
    try:
        folders.build(entry.name, cache)
    except OSError as error:
        raise CollectionError(
            f"{PREFIX}{entry.name} is built on demand in {cache}, which cannot be written: {error.strerror or error}. "
            "Free space or give write permission."
        ) from error
    return replace(entry, folder=cache / entry.folder, base=None if entry.base is None else cache / entry.base)


def _shipped(name: str, title: str, about: str, *, based: bool = False, scored: bool = True) -> Demo:
    return Demo(name, title, about, DATA / name, DATA / "base.safetensors" if based else None, scored)


def _made(name: str, title: str, about: str, *, based: bool = False) -> Demo:
    place = folders.place(name)
    base = place / folders.BASE_FILE if based else None
    return Demo(name, title, about, place / folders.MODELS_FOLDER, base, made=True)


_TRAINED = (
    _shipped(
        "finetuned",
        "40 fine-tuned from one base",
        "Tiny vision transformers fully fine-tuned from one base on ten tasks with digits, four seeds a task.",
        based=True,
    ),
    _shipped(
        "scratch",
        "40 trained from scratch",
        "The same ten tasks and four seeds, each network trained from its own random start.",
    ),
    _shipped(
        "untrained",
        "40 never trained",
        "Where the 40 networks trained from scratch started: random weights, and nothing else.",
    ),
    _shipped(
        "lora",
        "40 rank-4 LoRA adapters",
        "Adapters of the same base on the ten tasks; twenty began from one shared A, twenty each from its own.",
        based=True,
    ),
)
_SYNTHETIC = (
    _shipped(
        "planted",
        "40 with six planted directions",
        "Synthetic weights: a common mean, six known shared directions, and noise; the truth lies beside them.",
        scored=False,
    ),
    _made("noise", "40 of pure noise", "Independent random weights: whatever looks shared here is chance."),
    _made(
        "spike",
        "40 with three faint directions",
        "Noise and three shared directions at four times the visible strength.",
    ),
    _made(
        "faint-spike",
        "40 with directions nobody can see",
        "Three shared directions at half the strength that theory needs to tell them from noise.",
    ),
    _made(
        "shared-init",
        "40, half from one random start",
        "Random starts and random updates; half of the models have the start in common, and nothing else.",
    ),
    _made(
        "unequal",
        "40 of unequal strength",
        "Independent directions with very unequal norms: a few strong models alone make the spectrum decay.",
    ),
    _made(
        "two-lineages", "40 from two bases", "Two unrelated bases; each model is one of them and a small random update."
    ),
    _made(
        "permuted",
        "40 with shuffled neurons",
        "Siblings of one base that compute nearly the same, each with its hidden neurons in an order of its own.",
        based=True,
    ),
    _made(
        "reinitialised",
        "40, four never loaded",
        "Siblings of one base, of which four silently hold fresh random weights.",
        based=True,
    ),
    _made(
        "equal-cosines", "40 with one cosine", "A common part and fresh random weights: all pairs have the cosine .359."
    ),
    _made("mean-only", "40 about one mean", "Independent weights about a strong common mean, and no common direction."),
    _made(
        "one-author",
        "40, most by one author",
        "Three directions that only the models of one author share; she has 24 of the 40.",
    ),
    _made("slow-decay", "40 that hardly compress", "Real common directions, so many of them that little is saved."),
    _made(
        "regauged",
        "40 adapters in gauges of their own",
        "Adapters from one random A, each written as other factors of the same update.",
    ),
)
DEMOS: dict[str, Demo] = {entry.name: entry for entry in (*_TRAINED, *_SYNTHETIC)}
