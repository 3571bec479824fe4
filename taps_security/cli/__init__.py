"""The `taps` command: demo, protocols, keygen, serve, connect, race, status.

    main.py      the commands and their options        options.py   options and profile -> what is declared
    serve.py     connect.py  race.py  demo.py          profile.py   TOML profiles
    keygen.py    protocols.py  status.py               pictures.py  tables, and the bars of a race
    relay.py     standard input and output             errors.py    any exception -> one line and a status
    apps.py      what a server does                    sessions.py  sessions in a file

Exit status: 0 done; 1 no connection, or lost; 2 usage; 130 interrupted. The words of the output, and the keys of the
JSON, are relied on by other programs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec

_EXTRA = ("typer", "rich")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with `arguments` (None: those of the process) and return its exit status."""
    if any(find_spec(name) is None for name in _EXTRA):
        print(
            "taps: the command needs more packages; install them with: pip install 'taps-security[cli]'",
            file=sys.stderr,
        )
        return 2
    try:
        from .main import run  # noqa: PLC0415 -- without the extra there is nothing to import it with

        return run(arguments)
    except KeyboardInterrupt:  # before a command had begun
        return 130
