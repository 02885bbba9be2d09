"""The command line: `python -m uws_core ls|scan|export|store`. The store it fills is the one the app shows.

Exit codes: 0 done; 1 not done, the message says why; 2 the command was not understood; 3 done in part, what failed is
listed; 130 stopped by Ctrl-C, 141 because nobody reads the output any more; what was finished is kept and the same
command goes on from there.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence

from uws_core.commands.export import add_export
from uws_core.commands.ls import add_ls
from uws_core.commands.scan import add_scan
from uws_core.commands.store import add_store
from uws_core.commands.table import say
from uws_core.errors import UwsError


def main(words: Sequence[str] | None = None) -> int:
    """The exit code of a command line; None is this process's own."""
    try:
        told = parser().parse_args(words)
        return int(told.act(told))
    except UwsError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("Stopped; what was finished is kept, and the same command goes on from there")
        return 130
    except BrokenPipeError:
        # Whoever read the output has seen enough. What is left of it must not be tried again at the end.
        sys.stderr.close()
        return 141
    except OSError as error:
        say(f"The output cannot be written ({error}); what was finished is kept")
        return 1


def parser() -> ArgumentParser:
    """The parser of all commands."""
    made = ArgumentParser("python -m uws_core", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    add_ls(commands.add_parser("ls", help="what a collection is: models, layers, and what is left out"))
    add_scan(commands.add_parser("scan", help="read the weights once, store what is needed, print spectra"))
    add_export(commands.add_parser("export", help="a table, a figure or a bundle as a file"))
    add_store(commands.add_parser("store", help="the results folder: stats, check, prune, copy, merge"))
    return made


if __name__ == "__main__":
    sys.exit(main())
