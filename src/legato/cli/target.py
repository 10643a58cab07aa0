"""`bot.py` or `module:app` → the developer's Legato object."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from legato.core.errors import ConfigurationError

if TYPE_CHECKING:
    from legato.app import Legato

_FORMS = "give a file such as bot.py, or module:app"


def load_target(target: str) -> Legato:
    """Import what `target` names and return its Legato object: `app`, the name after the colon, or the only one.

    Raises:
        ConfigurationError: There is no such file or module, it does not import, or holds no such object.
    """
    place, _, name = target.partition(":")
    if place.endswith(".py"):
        app = _find(_import_file(Path(place)), place, name)
        app.folder = folder_of(target)
        return app
    if place and all(part.isidentifier() for part in place.split(".")):
        module = _import_module(place)
        return _find(module, place, name)
    raise ConfigurationError(f"{target!r} names no app: {_FORMS}")


def folder_of(target: str | None) -> Path | None:
    """Return the folder of the file that `target` names; None where it names a module or nothing."""
    place = (target or "").partition(":")[0]
    return Path(place).parent if place.endswith(".py") else None


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ConfigurationError(f"there is no file {path}: {_FORMS}")
    # Before the path is extended: a file of the bot's called queue.py, say, must not be taken for Python's own.
    import legato.app  # noqa: F401

    # What lies beside the file can be imported by it, as when Python runs it.
    sys.path.insert(0, str(path.parent.absolute()))
    # Its own name may be that of a library's module.
    spec = importlib.util.spec_from_file_location(f"legato_target_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error.message}") from error
    except (Exception, SystemExit) as error:
        raise ConfigurationError(_import_fault(str(path), error)) from error
    return module


def _import_module(place: str) -> ModuleType:
    sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(place)
    except ConfigurationError as error:
        raise ConfigurationError(f"{place}: {error.message}") from error
    except ModuleNotFoundError as error:
        if error.name is not None and (place == error.name or place.startswith(f"{error.name}.")):
            raise ConfigurationError(f"there is no module {error.name} here: {_FORMS}") from error
        raise ConfigurationError(_import_fault(place, error)) from error
    except (Exception, SystemExit) as error:
        raise ConfigurationError(_import_fault(place, error)) from error


def _import_fault(place: str, error: BaseException) -> str:
    """Return what went wrong and where: the innermost line that is none of Python's import machinery."""
    if isinstance(error, SyntaxError):
        where = f" ({Path(error.filename or place).name}, line {error.lineno})"
        return f"{place} does not import: {error.msg}{where}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    frames = [frame for frame in frames if Path(frame.filename) != Path(__file__)]
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    said = " ".join(str(error).split())
    return f"{place} does not import: {type(error).__name__}{': ' + said if said else ''}{where}"


def _find(module: ModuleType, place: str, name: str) -> Legato:
    from legato.app import Legato

    found = {key: value for key, value in vars(module).items() if isinstance(value, Legato)}
    if name:
        if name in found:
            return found[name]
        has = f"; it has {', '.join(found)}" if found else ""
        raise ConfigurationError(f"{place} has no Legato object named {name}{has}")
    if "app" in found:
        return found["app"]
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        raise ConfigurationError(
            f"{place} has several Legato objects ({', '.join(found)}): name one app, or choose with {place}:NAME"
        )
    raise ConfigurationError(
        f"{place} has no Legato object: write `from legato import Legato` and `app = Legato()` into it"
    )
