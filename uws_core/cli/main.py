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
from importlib import import_module

from uws_core.cli.app import run_app
from uws_core.cli.output import print_note
from uws_core.errors import UwsError

# Each command with the module of this room that has its `add_<command>`, and a line about it.
_COMMANDS = {
    "app": ("app", "start the dashboard in the browser (also: uws alone)"),
    "ls": ("ls", "list models, layers, and what is left out"),
    "scan": ("scan", "read the weights once, store the results, print spectra"),
    "export": ("export", "write a table, a figure or a bundle to a file"),
    "independence": ("independence", "exact test: were these networks trained independently?"),
    "compress": ("compress", "one basis for many models: price, errors, rivals; write it"),
    "rebuild": ("compress", "models of a compressed folder back as files"),
    "join": ("compress", "one more model into a compressed folder"),
    "merge": ("merge", "models into one: its distance to mean and members first, then write"),
    "adapt": ("adapt", "train coefficients in a shared basis, beside a random one and LoRA"),
    "store": ("store", "the results folder: stats, check, prune, copy, merge"),
}


def main(words: Sequence[str] | None = None) -> int:
    """Returns the exit code of a command line; None takes this process's own words."""
    words = sys.argv[1:] if words is None else words
    try:
        options = parser(words[0] if words else "").parse_args(words)
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


def parser(only: str | None = None) -> ArgumentParser:
    """Returns the parser of all commands; where `only` is given, the options of that one command.

    Other commands are listed and their modules not loaded: all of them take 3 s of a core.
    """
    top = ArgumentParser("uws", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    top.set_defaults(act=run_app, address="127.0.0.1", port=None, allowed_host=[], behind_proxy=False)
    commands = top.add_subparsers(metavar="COMMAND")
    for command, (module, line) in _COMMANDS.items():
        added = commands.add_parser(command, help=line)
        if only in (None, command):
            getattr(import_module(f"uws_core.cli.{module}"), f"add_{command}")(added)
    return top
