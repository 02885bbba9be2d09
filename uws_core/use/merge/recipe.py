"""Recipes in mergekit's own format: a merge written for mergekit, and mergekit's files read, for the methods both know.

Written for mergekit 0.1.5. A recipe is written only where mergekit would give the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from uws_core.errors import CollectionError
from uws_core.nouns.merging import METHODS, Convention, MergeMethod, MergeRecipe
from uws_core.sources.opening import open_source
from uws_core.use.merge.plan import DTYPES, MergePlan

# The options that stand beside each model, with mergekit's own values where a recipe names none.
_OPTIONS = {"density": 1.0, "gamma": 0.01, "epsilon": 0.15}
_BY_NAME = {
    facts.mergekit: method for method, facts in METHODS.items() if facts.mergekit and method is not MergeMethod.MEAN
}
_TYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
# Options that change nothing in a merge, or whose usual value is what is done here.
_IGNORED = {"int8_mask", "max_iter", "tol", "eps", "filter_wise", "normalize_weights"}
# What mergekit divides by the sum of weights, and what it scales up, by default.
_NORMALIZED = {"linear": True, "ties": True, "della": True}
_ON_WHOLE = (MergeMethod.SLERP, MergeMethod.KARCHER)


@dataclass(frozen=True)
class ReadRecipe:
    """A recipe file: what is merged, how, and the type to write."""

    recipe: MergeRecipe
    models: tuple[str, ...]
    base: str | None
    dtype: str


def mergekit_yaml(plan: MergePlan) -> str:
    """Returns the recipe in mergekit's format; empty where mergekit has no such method or reads it differently."""
    recipe, collection = plan.recipe, plan.collection
    found = None if plan.adapters else _as_mergekit(recipe, len(plan.members), based=collection.base is not None)
    if found is None:
        return ""
    name, each, shared = found
    models = []
    for index, row in enumerate(plan.members):
        own = {option: values[index] if isinstance(values, tuple) else values for option, values in each.items()}
        models.append({"model": collection.refs[row].repo} | ({"parameters": own} if own else {}))
    content: dict[str, Any] = {"merge_method": name, "models": models}
    if name == "slerp":
        content["base_model"] = models[0]["model"]
    elif name not in ("linear", "karcher") and collection.base is not None:
        content["base_model"] = collection.base.repo
    if shared:
        content["parameters"] = shared
    # mergekit computes in `dtype`, by default the files' own: here everything is summed in float32.
    content |= {"dtype": "float32", "out_dtype": _written_type(plan)}
    head = "# Written for mergekit 0.1.5; merge.json beside it has digests, seed and distances.\n"
    return head + str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _written_type(plan: MergePlan) -> str:
    if plan.dtype != "auto":
        return plan.dtype
    source = open_source(plan.collection.base or plan.collection.refs[plan.members[0]])
    return _TYPES.get(source.stored_type(plan.layers[0].name), "float32")


def read_mergekit(path: str | Path) -> ReadRecipe:
    """Returns what a mergekit recipe file asks for.

    Raises:
        CollectionError: no such file, no recipe, a method that is not known here, or an option (slices, filters,
            gradients, densities that differ) that changes what is done.
    """
    file = Path(path).expanduser()
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CollectionError(f"{file} is no recipe that can be read ({error})") from error
    if not isinstance(content, dict) or "merge_method" not in content:
        raise CollectionError(f"{file} is no mergekit recipe; expected merge_method and models in YAML")
    for part in ("slices", "modules", "tokenizer"):
        if content.get(part):
            raise CollectionError(f"{file.name}: {part} are not read here; give models, or merge with mergekit")
    name = str(content["merge_method"])
    entries = content.get("models")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) and "model" in entry for entry in entries):
        raise CollectionError(f"{file.name}: models is a list of entries with a model each")
    return _read(file, name, content, entries)


def _read(file: Path, name: str, content: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> ReadRecipe:
    method = _BY_NAME.get(name)
    if method is None:
        raise CollectionError(
            f"{file.name}: the method {name!r} is not known here; there are {', '.join(sorted(_BY_NAME))}"
        )
    base = content.get("base_model")
    shared = _parameters(file, content.get("parameters"))
    own = [_parameters(file, entry.get("parameters")) for entry in entries]
    models = [_model_at(file, str(entry["model"])) for entry in entries]
    base = None if base is None else _model_at(file, str(base))
    if method is MergeMethod.SLERP:
        if base not in models or len(models) != 2:
            raise CollectionError(f"{file.name}: slerp joins base_model and one more model; found {len(models)}")
        # The arc begins at the base, which is a member here.
        order = [models.index(base), 1 - models.index(base)]
        models, own, base = [models[i] for i in order], [own[i] for i in order], None
    elif base in models and name not in ("linear", "karcher"):
        index = models.index(base)
        del models[index], own[index]
    fields = _fields(file, name, method, shared, own)
    known = {"weight", "lambda", "normalize", "rescale", "t", "select_topk", *_OPTIONS, *_IGNORED}
    unknown = sorted({option for options in (shared, *own) for option in options} - known)
    if unknown:
        raise CollectionError(f"{file.name}: {', '.join(unknown)} of {name} are not known here")
    dtype = str(content.get("out_dtype") or content.get("dtype") or "auto")
    if dtype not in DTYPES:
        raise CollectionError(f"{file.name}: dtype is one of {', '.join(DTYPES)}; found {dtype!r}")
    return ReadRecipe(MergeRecipe(**fields), tuple(models), base, dtype)


def _fields(
    file: Path, name: str, method: MergeMethod, shared: Mapping[str, Any], own: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The fields of the recipe; weights without which mergekit refuses are 1."""
    fields: dict[str, Any] = {"convention": Convention.MERGEKIT, "scale": float(shared.get("lambda", 1.0))}
    normalize = shared.get("normalize", _NORMALIZED.get(name, False))
    if method is MergeMethod.TASK_ARITHMETIC and normalize:
        method = MergeMethod.LINEAR
    elif method is MergeMethod.LINEAR and not normalize:
        raise CollectionError(f"{file.name}: linear without normalize sums whole weights, which is not done here")
    elif normalize != _NORMALIZED.get(name, False):
        raise CollectionError(f"{file.name}: normalize is {_NORMALIZED.get(name, False)} for {name} here")
    fields["method"] = method
    weights = [options.get("weight", shared.get("weight", 1.0)) for options in own]
    if METHODS[method].weighted and any(weight != 1.0 for weight in weights):
        fields["weights"] = tuple(float(weight) for weight in weights)
    for option in _OPTIONS:
        values = {float(options.get(option, shared.get(option, _OPTIONS[option]))) for options in own}
        if option in METHODS[method].uses:
            if len(values) != 1:
                raise CollectionError(f"{file.name}: {option} differs between models, one for all is done here")
            fields[option] = values.pop()
    if method is MergeMethod.SCE:
        fields["density"] = float(shared.get("select_topk", 1.0))
    if method is MergeMethod.SLERP:
        fields["t"] = float(shared.get("t", 0.5))
    return fields


def _parameters(file: Path, given: object) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise CollectionError(f"{file.name}: parameters are a mapping; found {given!r}")
    lists = [name for name, value in given.items() if isinstance(value, list | dict)]
    if lists:
        raise CollectionError(
            f"{file.name}: {', '.join(map(str, lists))} differ by layer or filter, which is not done here; merge with "
            "mergekit"
        )
    return {str(name): value for name, value in given.items()}


def _model_at(recipe: Path, model: str) -> str:
    """A model's place: a folder of this machine (relative ones beside the recipe), else a name on the Hub."""
    for path in (Path(model).expanduser(), recipe.parent / model):
        if path.exists():
            return str(path.absolute())
    if model.startswith((".", "/", "~")) or model.count("/") != 1 or "+" in model:
        raise CollectionError(f"{recipe.name}: the model {model} is not there; give a folder or owner/name of the Hub")
    return model


def _as_mergekit(recipe: MergeRecipe, n: int, *, based: bool) -> tuple[str, dict[str, Any], dict[str, Any]] | None:
    """mergekit's name, the options of each model and the shared ones; None where it would give other numbers."""
    method, facts = recipe.method, recipe.facts
    weights = tuple(recipe.weight_of(n).tolist())
    if not facts.mergekit:
        return None
    if method in (MergeMethod.MEAN, MergeMethod.LINEAR):
        if recipe.scale == 1:
            return "linear", {"weight": weights if method is MergeMethod.LINEAR else 1.0}, {}
        total = sum(weights)
        share = tuple(weight / total for weight in weights) if method is MergeMethod.LINEAR else 1.0 / n
        return "task_arithmetic", {"weight": share}, {"lambda": recipe.scale}
    if method is MergeMethod.TASK_ARITHMETIC:
        return "task_arithmetic", {"weight": weights}, {"lambda": recipe.scale}
    if method in _ON_WHOLE:
        whole = recipe.convention is Convention.MERGEKIT or not based
        if recipe.scale != 1 or not whole or len(set(weights)) > 1:
            return None
        return facts.mergekit, {}, {"t": recipe.t} if method is MergeMethod.SLERP else {}
    if method is MergeMethod.MULTI_SLERP:
        return ("multislerp", {"weight": weights}, {}) if recipe.scale == 1 else None
    if method is MergeMethod.MODEL_STOCK:
        return ("model_stock", {}, {}) if recipe.scale == 1 else None
    if recipe.convention is not Convention.MERGEKIT:
        return None
    if method is MergeMethod.SCE:
        return ("sce", {}, {"select_topk": recipe.density}) if recipe.scale == 1 else None
    each = {"weight": weights} | {name: getattr(recipe, name) for name in facts.uses if name in _OPTIONS}
    return facts.mergekit, each, {"lambda": recipe.scale}
