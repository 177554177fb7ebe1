"""The command line: ``sagadsl`` and ``python -m sagadsl``. A face: it uses public names only, and decides nothing.

One file for each group of verbs: ``looking`` (list, show, graph), ``watching`` (watch), ``running`` (run), ``acting``
(resume, compensate, cancel), ``keeping`` (prune, doctor, export, import, backup), ``demo``. ``program`` holds them
together and turns errors into exit codes (``exits``), ``stores`` finds the journal and runs in it, ``targets`` loads
the code that the user names, ``spans`` reads times.
"""

from sagadsl.cli.program import main

__all__ = ["main"]
