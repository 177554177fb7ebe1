"""The code that a run needs: a module or a file that the *user* names, on the command line or in ``pyproject.toml``.

What a journal says of its program is shown as a suggestion and never imported. A file is loaded under its own name
(``trip.py`` as ``trip``), so that what it recorded when it was run as a script is found again, or as the module that it
is in its package: ``load_file`` tells when. While it is loaded no saga can begin, unless it brings a store of its own:
a script that runs its saga when imported is told so, and does nothing.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.util
import inspect
import os
import shlex
import sys
import tomllib
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import click

import sagadsl
from sagadsl import RunInfo, Saga, SagaError, UsageError
from sagadsl.cli.stores import store_words
from sagadsl.report import command, printable

PROJECT = "pyproject.toml"
SHAPE = "a target is module:saga or file.py:saga"

target_option = click.option(
    "--target",
    metavar="TARGET",
    help=f"The saga's code, module:saga or file.py:saga; else [tool.sagadsl] targets of ./{PROJECT}.",
)


class NoStore:
    """The store while code is loaded: whatever wants to begin a run is refused before it has entered anything."""

    def __init__(self, target: str) -> None:
        self.name = self.target = target

    def __getattr__(self, name: str) -> Any:
        return self._refuse

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        msg = (
            f"{self.target} calls a saga, or asks for runs, while it is imported, so nothing was done. "
            'Put that under `if __name__ == "__main__":`, then type the command again.'
        )
        raise UsageError(msg)


def load_code(run: RunInfo, target: str | None, verb: str) -> Any:
    """Load what the user names for *run*; return the saga that is meant, `None` if only its name tells which.

    A saga is its name: where it stands may have changed since the run began.

    Raises:
        UsageError: Nothing is named, or it cannot be loaded.
    """
    targets = [target] if target is not None else project_targets()
    if not targets:
        raise UsageError(_unnamed(run, verb))
    sagas = [load(each, run) for each in targets]
    meant = [saga for saga in sagas if saga is not None and saga._self_spec.name == run.saga]  # noqa: SLF001  # no public one
    return meant[0] if len(meant) == 1 else None


def load(target: str, run: RunInfo | None = None, kinds: tuple[type, ...] = (Saga,)) -> Any:
    """Import a target's module and return its saga; if the *run* that needs it is a block, there is none to return.

    A block is no name in a module. What else is good is of one of the *kinds*.

    Raises:
        UsageError: It cannot be imported, or has no such saga.
    """
    where, colon, name = target.rpartition(":")
    if not colon or not where or not name:
        msg = f"{target!r}: {SHAPE}"
        raise UsageError(msg)
    sagadsl.configure(store=NoStore(where))
    try:
        module = load_file(Path(where), run) if where.endswith(".py") else load_module(where)
    except (SagaError, KeyboardInterrupt):
        raise
    except BaseException as error:  # whatever the user's module does, SystemExit included
        msg = f"{where} cannot be imported: {_last_line(error)}. Mend it, then type the command again."
        raise UsageError(msg) from error
    finally:
        sagadsl.configure(store=None)
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    found = undecorated(found, kinds)
    if not isinstance(found, kinds) and (found is not None or run is None or name != run.saga):
        there = ", ".join(f"{where}:{each}" for each in sorted(sagas_in(module)))
        there = f"it has {there}" if there else "it has none"
        msg = f"{where} has no saga {name}; {there}"
        raise UsageError(msg)
    return found


def sagas_in(module: ModuleType) -> Iterator[str]:
    """Yield the sagas of a module as a target names them: functions, and the methods of its classes."""
    for name, value in vars(module).items():
        if isinstance(undecorated(value), Saga):
            yield name
        elif isinstance(value, type) and value.__module__ == module.__name__:
            methods = ((each, undecorated(getattr(value, each, None))) for each in vars(value))
            yield from (f"{name}.{each}" for each, method in methods if isinstance(method, Saga))


def undecorated(found: Any, kinds: tuple[type, ...] = (Saga,)) -> Any:
    """Return what is meant by a name: what is of one of the *kinds* below decorators that used `functools.wraps`."""
    with contextlib.suppress(Exception):  # whatever a module has that says of itself what it wraps
        return inspect.unwrap(found, stop=lambda each: isinstance(each, kinds))
    return found


def load_module(name: str) -> ModuleType:
    """Import a module, one in the working directory too."""
    if os.getcwd() not in sys.path:  # noqa: PTH109  # sys.path holds strings
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    return importlib.import_module(name)


def load_file(path: Path, run: RunInfo | None = None) -> ModuleType:
    """Import a file as ``python FILE`` would, but for its ``__name__``; or as ``python -m`` would, inside its package.

    An ``__init__.py`` beside a file does not tell how it is run: many a script lies in such a folder, imports its
    neighbours by their own names, and has recorded its classes under its own. What tells is how it began the *run* that
    needs it, if it did; else a relative import, which works in a package alone.

    Raises:
        UsageError: There is no such file, or its name leads to another one, which is not executed.
    """
    path = path.absolute()
    if not path.is_file():
        msg = f"there is no file {path}; {SHAPE}"
        raise UsageError(msg)
    name, file = path.stem, path.resolve()
    folder, inside = place_of(file)
    began_as = _module_of(run) if run is not None and Path(run.program).resolve() == file else ""
    if folder != file.parent and name != began_as and (inside == began_as or imports_relatively(file)):
        return load_inside(file, folder, inside)
    present = sys.modules.get(name)
    if present is not None:
        if getattr(present, "__file__", None) == str(path):
            return present
        msg = f"{path} has the name of a module that is in use, {name}: give the file another name"
        raise UsageError(msg)
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        msg = f"{path} is no Python file; {SHAPE}"
        raise UsageError(msg)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def place_of(path: Path) -> tuple[Path, str]:
    """Return the folder from which a file is imported, and its name as a module there: with those of its packages."""
    folder, name = path.parent, path.stem
    while "." not in path.stem and (folder / "__init__.py").is_file() and folder.name.isidentifier():
        folder, name = folder.parent, f"{folder.name}.{name}"
    return folder, name.removesuffix(".__init__")


def imports_relatively(path: Path) -> bool:
    """Tell whether a file has a relative import somewhere. If it is no Python, its import is to say so."""
    try:
        with warnings.catch_warnings(action="ignore"):  # its import warns too
            code = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return False
    return any(isinstance(node, ast.ImportFrom) and node.level > 0 for node in ast.walk(code))


def load_inside(path: Path, folder: Path, name: str) -> ModuleType:
    """Import a file inside a package: by its *name* in a *folder*, after the packages around it.

    Raises:
        UsageError: Its name, or that of the outermost package, leads to another file.
    """
    sys.path.insert(0, str(folder))
    package = name.partition(".")[0]
    for each, file in ((package, folder / package / "__init__.py"), (name, path)):
        spec = importlib.util.find_spec(each)  # imports the packages around, so the outermost is looked at first
        found = spec.origin if spec else None
        if found is None or Path(found).resolve() != file.resolve():
            msg = f"{file} has the name of another module, {each} ({found}): give one of them another name"
            raise UsageError(msg)
    return importlib.import_module(name)


def project_targets() -> list[str]:
    """Return the targets that the project in the working directory names.

    Raises:
        UsageError: Its file cannot be read, or they are no list of texts.
    """
    path = Path(PROJECT)
    if not path.is_file():
        return []
    try:
        tool = tomllib.loads(path.read_text("utf-8")).get("tool", {})
    except (OSError, ValueError) as error:
        msg = f"{path.absolute()} cannot be read: {error}"
        raise UsageError(msg) from error
    targets = tool.get("sagadsl", {}).get("targets", [])
    if not isinstance(targets, list) or not all(isinstance(target, str) for target in targets):
        msg = f'{path.absolute()}: [tool.sagadsl] targets must be a list such as ["trip.py:trip"]'
        raise UsageError(msg)
    return targets


def target_words(run: RunInfo) -> str:
    """Return what a command to type needs in order to have the run's code: a guess, for a person to judge."""
    program = Path(run.program)
    is_packed = any(os.path.isfile(folder) for folder in program.parents)  # noqa: PTH113  # Path.is_file raises
    if program.suffix != ".py" or is_packed or _has_targets():
        return ""
    here, module = Path.cwd(), _module_of(run)
    where = str(program.relative_to(here) if program.is_relative_to(here) else program)
    if "." in module and where == f"{module.replace('.', os.sep)}.py":  # as ``python -m`` was given it
        where = module
    return f" --target {shlex.quote(printable(f'{where}:{run.saga}', 400))}"


def _module_of(run: RunInfo) -> str:
    """Return the name of the module that began a run, as its program had it."""
    return str(getattr(run, "_module", ""))  # no public one


def _has_targets() -> bool:
    try:
        return bool(project_targets())
    except UsageError:
        return False


def _unnamed(run: RunInfo, verb: str) -> str:
    started = f"It was started by {printable(run.program, 400)}; nothing that a journal names is imported by itself. "
    guess = target_words(run) or " --target TARGET"
    typed = command(verb, printable(run.id, 200), options=f"{store_words()}{_other_options()}{guess}")
    return (
        f"run {printable(run.id, 200)} needs the code of {printable(run.saga)}. {started if run.program else ''}"
        f"If that is what you trust, type: {typed}   "
        f"(or name it once in {PROJECT}: [tool.sagadsl] targets = [...])"
    )


def _other_options() -> str:
    """Return the options that the command was given: without its ``--to``, the next one would compensate more."""
    context = click.get_current_context()
    words = []
    for option in context.command.params:
        value = context.params.get(option.name or "")
        if isinstance(option, click.Option) and value:
            for each in value if option.multiple else [value]:
                words += [option.opts[0], *([] if option.is_flag else [shlex.quote(printable(str(each), 200))])]
    return "".join(f" {word}" for word in words)


def _last_line(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    told = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"{told}{place}"
