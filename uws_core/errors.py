"""Everything that can go wrong and has a way out, as one tree.

UwsError
├── SourceError            a model cannot be opened or read
│   ├── UnreadableFile     damaged, truncated, or not the format its name says
│   ├── OutsideRoot        a path or shard name that leaves the folder it must stay in
│   ├── UnsupportedFormat  a format that is not read here, with what to convert it to
│   ├── NoWeights          a model that is known by its results only
│   └── HubError           the Hub refused, is unreachable, or has no such repository
├── CollectionError        the models have nothing that can be compared
├── LayerError             no such layer in this collection
├── NotEnoughModels        the question needs more models than were given
├── BudgetError            one slab does not fit the memory that was allowed
├── TrainingError          a training cannot start, or its loss is no number
├── StoreError             the results folder cannot be used
├── ExportError            a figure or table cannot be written
├── ClusterError           the scheduler is unknown, unreachable or of another version
└── Cancelled              somebody pressed stop; finished work is kept

A message names the thing, what was expected, what was found, and what to do.
"""


class UwsError(Exception):
    """The root: every error this package raises on purpose."""


class SourceError(UwsError):
    """A model cannot be opened or read."""


class UnreadableFile(SourceError):
    """A file is damaged, truncated, or not the format its name says."""


class OutsideRoot(SourceError):
    """A path or a shard name leaves the folder it must stay in."""


class UnsupportedFormat(SourceError):
    """A format that is not read here; the message says what to convert it to."""


class NoWeights(SourceError):
    """A model came in a results file, without its weights."""


class HubError(SourceError):
    """The Hub refused, is unreachable, or has no such repository."""


class CollectionError(UwsError):
    """The models have nothing that can be compared."""


class LayerError(UwsError):
    """No such layer in this collection."""


class NotEnoughModels(UwsError):
    """The question needs more models than were given."""


class BudgetError(UwsError):
    """One slab does not fit the memory that was allowed."""


class TrainingError(UwsError):
    """A training cannot start, or its loss is no number."""


class StoreError(UwsError):
    """The results folder cannot be used."""


class ExportError(UwsError):
    """A figure or table cannot be written."""


class ClusterError(UwsError):
    """The scheduler is unknown, unreachable or of another version."""


class Cancelled(UwsError):
    """Somebody pressed stop; finished work is kept."""
