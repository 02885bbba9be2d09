"""`compress`, `rebuild` and `join`: a collection in one basis, its models back as files, one more model."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from uws_core.answers.compress import answer, price
from uws_core.cli import arguments
from uws_core.cli.output import print_json, print_note, print_table
from uws_core.cli.progress import Bar
from uws_core.cli.results import DONE
from uws_core.errors import BudgetError, CollectionError
from uws_core.frames.compress import layers, models, rivals
from uws_core.nouns.storage import Method
from uws_core.use.compress import ITEM_BYTES, compress
from uws_core.use.join import join
from uws_core.use.rebuild import TARGETS, rebuild
from uws_core.use.tinylora import export_tinylora, is_tinylora, join_tinylora

_FOR = "what must load the adapters; tinylora writes one folder in which PEFT trains this basis, from --member on"


def add_compress(parser: ArgumentParser) -> None:
    """Adds the options of `compress`."""
    arguments.add_where(parser)
    arguments.add_layers(parser)
    parser.add_argument("--to", metavar="FOLDER", help="folder to write; without it the figures are printed only")
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--size", type=arguments.amount, metavar="BYTES", help="size of the whole folder, such as 40MB")
    size.add_argument("--error", type=arguments.share, help="relative error of the worst model, such as 5%%")
    size.add_argument("--kept", type=int, metavar="K", help="directions a side in every layer")
    parser.add_argument("--method", choices=["auto", *map(str, Method)], default="auto")
    parser.add_argument("--about", choices=["mean", "base"], default="mean", help="centre of whole weights")
    parser.add_argument("--dtype", choices=list(ITEM_BYTES), default="float32", help="type of the stored numbers")
    parser.add_argument("--dry-run", action="store_true", help="print the figures and write nothing")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    parser.set_defaults(act=run_compress)


def add_rebuild(parser: ArgumentParser) -> None:
    """Adds the options of `rebuild`."""
    parser.add_argument("folder", metavar="FOLDER", help="a folder that `compress` wrote")
    parser.add_argument("--member", action="append", metavar="NAME", help="a model; several times for several; all")
    parser.add_argument("--into", required=True, metavar="FOLDER", help="folder for one folder a model")
    parser.add_argument("--for", dest="target", choices=[*TARGETS, "tinylora"], default="peft", help=_FOR)
    parser.add_argument(
        "--dtype",
        choices=["auto", *ITEM_BYTES],
        default="auto",
        help="type of the written numbers (default: as it came)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    parser.set_defaults(act=run_rebuild)


def add_join(parser: ArgumentParser) -> None:
    """Adds the options of `join`."""
    parser.add_argument("folder", metavar="FOLDER", help="a folder that `compress` wrote")
    parser.add_argument("model", metavar="MODEL", help="the file or folder of one more model")
    parser.add_argument("--name", help="the member's name (default: that of the file or folder)")
    parser.add_argument(
        "--extend", action="store_true", help="add directions in the layers where it loses more than the worst member"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    parser.set_defaults(act=run_join)


def run_compress(options: Namespace) -> int:
    """Prints what a shared basis costs and loses beside its rivals, and writes the folder if one is named."""
    if options.kept is not None and options.kept < 1:
        raise BudgetError(f"--kept is at least 1; found {options.kept}")
    collection = arguments.open_collection(options)
    bar = Bar(quiet=options.quiet)
    try:
        draft = compress(
            collection,
            budget=options.size,
            error=options.error,
            kept=options.kept,
            method=options.method,
            layers=arguments.choose_layers(collection, options.layers) if options.layers else None,
            about=options.about,
            dtype=options.dtype,
            report=bar.report,
        )
        written = None
        if options.to and not options.dry_run:
            written = draft.write(options.to, report=bar.report)
    finally:
        bar.close()
    if options.json:
        print_json(
            {
                "folder": str(written) if written else None,
                "bytes": draft.bytes,
                "original_bytes": draft.original_bytes,
                "bytes_per_member": draft.bytes_per_member,
                "worst_error": draft.worst,
                "pays": draft.pays,
                "rivals": rivals(draft).to_dicts(),
                "models": models(draft).to_dicts(),
                "layers": layers(draft).to_dicts(),
            }
        )
        return DONE
    print(answer(draft))
    print(price(draft))
    for table in (rivals(draft), layers(draft)):
        print()
        print_table(table, table.columns)
    if written:
        print_note(f"{written}: written")
    return DONE


def run_rebuild(options: Namespace) -> int:
    """Writes members of a compressed folder as files that other programs load."""
    if options.target == "tinylora":
        if len(options.member or ()) > 1:
            raise CollectionError("A TinyLoRA folder begins with one member or with none; give --member once")
        start = options.member[0] if options.member else None
        folders: tuple[Path, ...] = (export_tinylora(options.folder, options.into, start=start),)
    else:
        folders = rebuild(
            options.folder, options.into, members=options.member, target=options.target, dtype=options.dtype
        )
    if options.json:
        print_json({"folders": [str(folder) for folder in folders]})
    else:
        for folder in folders:
            print(folder)
    return DONE


def run_join(options: Namespace) -> int:
    """Adds one more model to a compressed folder and says whether its basis holds it."""
    model = Path(options.model)
    if is_tinylora(model):
        joined = join_tinylora(options.folder, model, name=options.name)
    else:
        joined = join(options.folder, model, name=options.name, extend=options.extend)
    if options.json:
        print_json(
            {
                "name": joined.name,
                "error": joined.error,
                "chance": joined.chance,
                "worst_member": joined.worst_member,
                "fits": joined.fits,
                "projected_error": joined.projected,
                "basis": joined.basis,
                "extended": dict(joined.extended),
            }
        )
    else:
        print(joined)
    return DONE
