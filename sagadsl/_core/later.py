"""What is imported later, and named in annotations now.

Every program pays for what is imported at once, and few programs look at what a list of runs is made of. A name that
type checkers alone can see leaves an annotation that nobody can resolve when the program runs, which frameworks do, and
documentation. So where an annotation names what is imported later, it does so through the module's stand-in.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


class Later:
    """Stands for a module, which is imported when one of its names is asked for."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self._module), name)
