"""Options from outside: named on the user's own command line, or by packages through the entry point lmexp.plugins."""

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path

from lmexp.errors import ConfigError, LmexpError, Problem


def load_plugins(names: Sequence[str]) -> list[str]:
    """Import plug-ins, so that their options are there to choose; return the names, files as absolute paths.

    Raises:
        ConfigError: one cannot be imported.
    """
    for entry in entry_points(group="lmexp.plugins"):
        _import(entry.value.partition(":")[0])
    return [_import(name) for name in names]


def _import(name: str) -> str:
    if not name.endswith(".py"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ConfigError([Problem("--plugin", f"'{name}' cannot be imported: {error}")]) from None
        return name
    path = Path(name).expanduser().resolve()
    if (there := sys.modules.get(path.stem)) is not None:
        if Path(getattr(there, "__file__", None) or "?") != path:
            raise ConfigError(
                [Problem("--plugin", f"{path}: Python has a module '{path.stem}' already; rename the file")]
            )
        return str(path)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigError([Problem("--plugin", f"no Python file is there: {path}")])
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # so that `builds = "my_model:MyModel"` finds it
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[path.stem]
        if not isinstance(error, Exception) or isinstance(error, LmexpError):
            raise
        raise ConfigError(
            [Problem("--plugin", f"{path}{_line(error, path)}: {type(error).__name__}: {error}")]
        ) from error
    return str(path)


def _line(error: Exception, path: Path) -> str:
    """Return where in the plug-in's file an error arose: ", line 3"."""
    if isinstance(error, SyntaxError):
        return ""  # its text says so
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f", line {frames[-1].lineno}" if frames else ""
