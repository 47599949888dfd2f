"""Options from outside: named on the user's own command line, or by packages through the entry point lmexp.plugins."""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path

from lmexp.errors import ConfigError, Problem


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
    if path.stem in sys.modules:
        return str(path)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigError([Problem("--plugin", f"no Python file is there: {path}")])
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # so that `builds = "my_model:MyModel"` finds it
    spec.loader.exec_module(module)
    return str(path)
