"""How much was left out, with models, matrices and vectors told apart: a bias that is not compared is no alarm."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from uws_core.nouns.models import LeftOut

# How reasons begin where a model is of another architecture than those that are compared.
OTHERS = ("another architecture", "of the kind ")
# The beginnings of the reasons that are given for single tensors.
_VECTOR = re.compile(r"it is (a vector|a scalar|empty)")
_MATRIX = re.compile(r"\d+ x \d+ in |low-rank in |its entries are |read as inputs x outputs|not in the base model")
# What is compared all the same, in a way that has to be known.
_NOTE = re.compile(
    r"only its first \d+ rows|scale assumed|stored as inputs x outputs|its layers have other names|it was renamed"
)


@dataclass(frozen=True, slots=True)
class LeftOutCounts:
    """Numbers of distinct entries: models of other architectures, other models or files, matrices, vectors, notes.

    Vectors are biases and the like; notes are about what is compared all the same.
    """

    others: int
    models: int
    matrices: int
    vectors: int
    notes: int

    def __str__(self) -> str:
        """Returns the counts in words, without those that are 0; empty where all are."""
        return ", ".join(
            f"{count} {word if count == 1 else several}"
            for count, word, several in (
                (self.others, "model of another architecture", "models of other architectures"),
                (self.models, "model or file", "models or files"),
                (self.matrices, "matrix", "matrices"),
                (self.vectors, "bias or other vector", "biases and other vectors"),
                (self.notes, "note", "notes"),
            )
            if count
        )


def counts(items: Iterable[LeftOut]) -> LeftOutCounts:
    """The entries by kind, told from their reasons; a tensor with several reasons counts once."""
    others, vectors, matrices = set[str](), set[str](), set[str]()
    models, notes = set[str](), set[str]()
    for item in items:
        reason = item.reason
        if reason.startswith(OTHERS):
            others.add(item.what)
        elif _VECTOR.match(reason):
            vectors.add(item.what)
        elif _MATRIX.match(reason):
            matrices.add(item.what)
        else:
            (notes if _NOTE.match(reason) else models).add(item.what)
    return LeftOutCounts(len(others), len(models), len(matrices), len(vectors), len(notes))
