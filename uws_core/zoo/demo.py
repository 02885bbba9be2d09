"""The built-in collections by name, with description and folder. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from uws_core.errors import CollectionError
from uws_core.zoo import folders

DATA = Path(__file__).parent / "data"
PREFIX = "demo:"


@dataclass(frozen=True, slots=True)
class Demo:
    """A built-in collection: `folder` holds one file or adapter folder a model, and `models.csv`.

    `base` is the network that all models started from, where there is one. `scored` is true where the table has a test
    score that `zoo.evaluate` can recompute. A `generated` collection has relative paths until `prepare` builds it.
    `results` is a file with the Grams of all layers, where it is shipped: the first page then reads no weights.
    """

    name: str
    title: str
    about: str
    folder: Path
    base: Path | None = None
    scored: bool = False
    generated: bool = False
    results: Path | None = None


def demo(name: str) -> Demo:
    """The built-in collection called `name`, with or without `demo:` in front.

    Raises:
        CollectionError: there is none of that name; the message lists all names.
    """
    entry = DEMOS.get(name.removeprefix(PREFIX))
    if entry is None:
        known = ", ".join(PREFIX + other for other in DEMOS)
        raise CollectionError(f"No built-in collection is called {name!r}. There are: {known}.")
    return entry


def prepare(entry: Demo, cache: Path) -> Demo:
    """The collection with its files on disk: a shipped one unchanged, a generated one built inside `cache`.

    Raises:
        CollectionError: `cache` cannot be written.
    """
    if not entry.generated:
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


def _generated(name: str, title: str, about: str, *, based: bool = False) -> Demo:
    folder = Path(folders.folder_name(name))
    base = folder / folders.BASE_FILE if based else None
    return Demo(name, title, about, folder / folders.MODELS_FOLDER, base, generated=True)


_TRAINED = (
    # The collection that a new visitor sees. `make shipped-results` writes the file anew when numbers change; those of
    # the others would take 3 MB each, as much as their weights.
    replace(
        _shipped(
            "finetuned",
            "40 fine-tuned from one base",
            "Tiny vision transformers fully fine-tuned from one base on ten tasks with digits, four seeds a task.",
            based=True,
        ),
        results=DATA / "finetuned.uws.zip",
    ),
    _shipped(
        "scratch",
        "40 trained from scratch",
        "The same ten tasks and four seeds, each network trained from its own random start.",
    ),
    _shipped(
        "untrained",
        "40 never trained",
        "The random weights that the 40 networks trained from scratch started from.",
    ),
    _shipped(
        "lora",
        "40 rank-4 LoRA adapters",
        "Adapters of the same base on the ten tasks; twenty start from one shared A, twenty from their own.",
        based=True,
    ),
)
_SYNTHETIC = (
    _shipped(
        "planted",
        "40 with six planted directions",
        "Synthetic weights: a common mean, six known shared directions, and noise. The truth is stored beside them.",
        scored=False,
    ),
    _generated("noise", "40 of pure noise", "Independent random weights: anything that looks shared is chance."),
    _generated(
        "spike",
        "40 with three faint directions",
        "Noise and three shared directions at four times the detection threshold.",
    ),
    _generated(
        "faint-spike",
        "40 with undetectable directions",
        "Three shared directions at half the detection threshold.",
    ),
    _generated(
        "shared-init",
        "40, half from one random start",
        "Random starts and random updates; half of the models share only their start.",
    ),
    _generated(
        "unequal",
        "40 of unequal strength",
        "Independent directions with very unequal norms: a few strong models alone make the spectrum decay.",
    ),
    _generated(
        "two-lineages", "40 from two bases", "Two unrelated bases; each model is one of them and a small random update."
    ),
    _generated(
        "permuted",
        "40 with shuffled neurons",
        "Siblings of one base that compute nearly the same, each with its hidden neurons in another order.",
        based=True,
    ),
    _generated(
        "reinitialised",
        "40, four never loaded",
        "Siblings of one base; four of them silently hold fresh random weights.",
        based=True,
    ),
    _generated(
        "equal-cosines", "40 with one cosine", "A common part and fresh random weights: all pairs have the cosine .359."
    ),
    _generated(
        "mean-only", "40 about one mean", "Independent weights about a strong common mean, and no common direction."
    ),
    _generated(
        "one-author",
        "40, most by one author",
        "Three directions that only the models of one author share; that author made 24 of the 40.",
    ),
    _generated(
        "slow-decay", "40 that hardly compress", "Real common directions, but so many that sharing saves little space."
    ),
    _generated(
        "regauged",
        "40 adapters in different gauges",
        "Adapters from one random A, each stored as different factors of its update.",
    ),
)
_MIXED = _generated(
    folders.MIXED,
    "34 of several architectures",
    "A folder tree: 12 vision transformers, 8 adapters, 8 small networks, and six checkpoints of a training run.",
)
DEMOS: dict[str, Demo] = {entry.name: entry for entry in (*_TRAINED, *_SYNTHETIC, _MIXED)}
