"""Models on the Hub: what is known of one before it is read, and what to ask for, as a line of text people can edit."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import date
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Final

from uws_core.nouns.models import LeftOut, ModelRef, Value

SORTS: Final = ("downloads", "likes", "created", "updated")
# A repository is called owner/name; what the client allows further is its own business.
_NAME = r"[A-Za-z0-9][\w.\-]{0,95}/[A-Za-z0-9][\w.\-]{0,95}"
_REF = re.compile(rf"(?P<repo>{_NAME})(?:@(?P<revision>[\w.\-/]{{1,200}}))?(?:#(?P<part>[^#@\s]{{1,300}}))?", re.ASCII)
_ADDRESS = re.compile(r"^(?:https?://(?:www\.)?(?:huggingface\.co|hf\.co)/|hf://(?:models/)?)")
_GLOB = re.compile(r"[\w.\-*?\[\]!]+(?:/[\w.\-*?\[\]!]+)?", re.ASCII)

# The collections of the paper (arXiv 2512.05117) as queries, to be edited.
PRESETS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Mistral-7B adapters, 500 tasks": "Lots-of-LoRAs/Mistral-7B-Instruct-v0.2-4b-r16-task* limit:500",
        "ViT-B/16, fine-tuned": "finetunes:google/vit-base-patch16-224 limit:500",
        "LLaMA-3-8B, fine-tuned": "finetunes:meta-llama/Meta-Llama-3-8B limit:50",
        "GPT-2, fine-tuned": "finetunes:openai-community/gpt2 limit:177",
        "Flan-T5-large adapters": "lorahub/flan_t5_large-* limit:200",
        "SDXL style adapters": "KappaNeuro/* limit:100",
    }
)


@dataclass(frozen=True, slots=True)
class HubModel:
    """A repository at a commit, as the Hub tells it before any weight is read.

    `open_to_all` is False for gated and private ones. `base` is the first base model of its card, `relation` how it
    came from it (adapter, finetune, merge, quantized). `asked_as` is the name it was asked by when it has another now.
    """

    repo: str
    commit: str
    part: str = ""
    files: tuple[str, ...] = ()
    open_to_all: bool = True
    asked_as: str = ""
    author: str = ""
    task: str = ""
    base: str = ""
    relation: str = ""
    license: str = ""
    library: str = ""
    datasets: str = ""
    created: str = ""
    downloads: int = 0
    likes: int = 0
    tags: tuple[str, ...] = ()

    @property
    def ref(self) -> ModelRef:
        """The model at this commit."""
        return ModelRef(self.repo, self.commit, self.part)

    @property
    def has_safetensors(self) -> bool:
        """Whether any file is one that is read here."""
        return any(name.endswith(".safetensors") for name in self.files)

    @property
    def attributes(self) -> Mapping[str, Value]:
        """What goes into a collection's table; an empty text is unknown."""
        texts = ("author", "task", "base", "license", "datasets", "created")
        known: dict[str, Value] = {name: getattr(self, name) or None for name in texts}
        return MappingProxyType(known | {"downloads": self.downloads, "likes": self.likes})


@dataclass(frozen=True)
class HubListing:
    """The answer to a query: the models, whether the limit cut the list, and the names that could not be looked up."""

    query: HubQuery
    models: tuple[HubModel, ...]
    more: bool = False
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, slots=True)
class HubQuery:
    """Which models: those named, and up to `limit` of the Hub's list that pass every filter given; empty passes all.

    The text form is words between spaces: a name `owner/name@revision#part`, a glob `owner/*task*`, or `filter:value`.
    """

    names: tuple[str, ...] = ()
    globs: tuple[str, ...] = ()
    adapters: str = ""
    finetunes: str = ""
    author: str = ""
    tag: tuple[str, ...] = ()
    task: str = ""
    library: str = ""
    license: str = ""
    since: str = ""
    min_downloads: int = 0
    gated: str = ""
    sort: str = "downloads"
    limit: int = 100

    def __post_init__(self) -> None:
        """Every value is checked, so that a query that exists can be asked.

        Raises:
            ValueError: a value no query can have; the message names it and what was expected.
        """
        for name in self.names:
            hub_ref(name)
        for glob in self.globs:
            _expect(_GLOB.fullmatch(glob), "a glob", glob, "owner/name with * and ?")
        for base in (self.adapters, self.finetunes):
            _expect(not base or re.fullmatch(_NAME, base, re.ASCII), "a base model", base, "owner/name")
        for text in (self.author, self.task, self.library, self.license, *self.tag):
            _expect(not re.search(r"\s", text), "a filter", text, "one word")
        _expect(not self.since or _is_date(self.since), "since", self.since, "a day such as 2024-01-31")
        _expect(self.gated in ("", "no", "only"), "gated", self.gated, "no or only")
        _expect(self.sort in SORTS, "sort", self.sort, f"one of {', '.join(SORTS)}")
        _expect(1 <= self.limit <= 10_000, "limit", str(self.limit), "1 to 10000")
        _expect(self.min_downloads >= 0, "min_downloads", str(self.min_downloads), "0 or more")

    @classmethod
    def parse(cls, text: str) -> HubQuery:
        """The query written as `text`, also a pasted list or a text file: names on lines, with commas, `#` comments.

        Raises:
            ValueError: a word that is no name, glob or filter; the message names it.
        """
        found: dict[str, object] = {}
        lists: dict[str, list[str]] = {"names": [], "globs": [], "tag": []}
        for word in _words(text):
            key, colon, value = word.partition(":")
            if colon and key in _FILTERS and not _ADDRESS.match(word):
                if key in lists:
                    lists[key].append(value)
                else:
                    found[key] = _number(key, value) if key in _NUMBERS else value
            elif not _ADDRESS.match(word) and ("*" in word or "?" in word):
                lists["globs"].append(word)
            else:
                lists["names"].append(str_ref(hub_ref(word)))
        return cls(**found, **{key: tuple(dict.fromkeys(values)) for key, values in lists.items()})  # type: ignore[arg-type]

    def __str__(self) -> str:
        words = [*self.names, *self.globs]
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _FILTERS and value != field.default:
                values = value if isinstance(value, tuple) else (value,)
                words += [f"{field.name}:{one}" for one in values]
        return " ".join(words)

    @property
    def lists(self) -> bool:
        """Whether the Hub's list is asked for, beyond the names."""
        return bool(self.globs or self.adapters or self.finetunes or self.author or self.tag)

    def passes(self, model: HubModel) -> bool:
        """Whether a model of the Hub's list is asked for, as far as that is judged here rather than by the Hub."""
        return (
            (not self.globs or any(fnmatchcase(model.repo.lower(), glob.lower()) for glob in self.globs))
            and (not self.license or model.license == self.license)
            and (not self.library or model.library == self.library)
            and (not self.task or model.task == self.task)
            and model.created[:10] >= self.since
            and model.downloads >= self.min_downloads
            and (not self.gated or model.open_to_all == (self.gated == "no"))
        )


_FILTERS: Final = frozenset(field.name for field in fields(HubQuery)) - {"names", "globs"}
_NUMBERS: Final = frozenset({"limit", "min_downloads"})


def hub_ref(text: str) -> ModelRef:
    """The repository, revision and part that `owner/name@revision#part` or a page's address names.

    Raises:
        ValueError: it names no repository.
    """
    bare = _ADDRESS.sub("", text.strip())
    if bare != text.strip():
        bare = re.sub(r"/(?:tree|blob|resolve)/([^/?#]+).*$", r"@\1", bare).rstrip("/")
    found = _REF.fullmatch(bare)
    # The client refuses these too, but only once a request is on its way.
    if not found or ".." in bare or "--" in found["repo"] or found["repo"].endswith((".git", "-", ".")):
        raise ValueError(f"{text[:120]!r} names no repository; expected owner/name or owner/name@revision")
    return ModelRef(found["repo"], found["revision"] or "", found["part"] or "")


def str_ref(ref: ModelRef) -> str:
    """The text form of a reference that may have no revision yet."""
    return ref.repo + (f"@{ref.commit}" if ref.commit else "") + (f"#{ref.part}" if ref.part else "")


def _words(text: str) -> Iterator[str]:
    """The words of a text, without comments: a `#` at the start of a word; inside one it names a part."""
    for line in text.splitlines():
        for word in line.replace(",", " ").split():
            if word.startswith("#"):
                break
            yield word.strip("\"'`")


def _number(key: str, value: str) -> int:
    _expect(re.fullmatch(r"\d{1,9}", value, re.ASCII), key, value, "a whole number")
    return int(value)


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _expect(held: object, what: str, result: str, expected: str) -> None:
    if not held:
        raise ValueError(f"{what}: expected {expected}, found {result[:80]!r}")
