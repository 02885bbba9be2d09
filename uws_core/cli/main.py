"""The command line: `uws app|ls|scan|export|independence|compress|rebuild|join|merge|adapt|store`.

`python -m uws_core` takes the same words. It reads and writes the store that the app shows.

Exit codes: 0 done; 1 not done, the message says why; 2 the command was not understood; 3 done in part, the failures
are listed; 130 stopped by Ctrl-C, 141 the reader of the output went away. Finished results are kept, and the same
command continues from there.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence

from uws_core.cli.adapt import add_adapt
from uws_core.cli.app import add_app, run_app
from uws_core.cli.compress import add_compress, add_join, add_rebuild
from uws_core.cli.export import add_export
from uws_core.cli.independence import add_independence
from uws_core.cli.ls import add_ls
from uws_core.cli.merge import add_merge
from uws_core.cli.output import print_note
from uws_core.cli.scan import add_scan
from uws_core.cli.store import add_store
from uws_core.errors import UwsError


def main(words: Sequence[str] | None = None) -> int:
    """Returns the exit code of a command line; None takes this process's own words."""
    try:
        options = parser().parse_args(words)
        return int(options.act(options))
    except UwsError as error:
        print_note(str(error))
        return 1
    except KeyboardInterrupt:
        print_note("Stopped; finished results are kept, and the same command continues from there")
        return 130
    except BrokenPipeError:
        # The reader of the output is gone. Closing the stream keeps Python from writing to it again at exit.
        sys.stderr.close()
        return 141
    except OSError as error:
        print_note(f"The output cannot be written ({error}); finished results are kept")
        return 1


def parser() -> ArgumentParser:
    """Returns the parser of all commands."""
    top = ArgumentParser("uws", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    top.set_defaults(act=run_app, address="127.0.0.1", port=None, allowed_host=[], behind_proxy=False)
    commands = top.add_subparsers(metavar="COMMAND")
    add_app(commands.add_parser("app", help="start the dashboard in the browser (also: uws alone)"))
    add_ls(commands.add_parser("ls", help="list models, layers, and what is left out"))
    add_scan(commands.add_parser("scan", help="read the weights once, store the results, print spectra"))
    add_export(commands.add_parser("export", help="write a table, a figure or a bundle to a file"))
    add_independence(commands.add_parser("independence", help="exact test: were these networks trained independently?"))
    add_compress(commands.add_parser("compress", help="one basis for many models: price, errors, rivals; write it"))
    add_rebuild(commands.add_parser("rebuild", help="models of a compressed folder back as files"))
    add_join(commands.add_parser("join", help="one more model into a compressed folder"))
    add_merge(commands.add_parser("merge", help="models into one: its distance to mean and members first, then write"))
    add_adapt(commands.add_parser("adapt", help="train coefficients in a shared basis, beside a random one and LoRA"))
    add_store(commands.add_parser("store", help="the results folder: stats, check, prune, copy, merge"))
    return top
