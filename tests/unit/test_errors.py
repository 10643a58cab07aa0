"""The tree of errors: one place, and one code for each."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import legato
from legato.core import errors, run_errors
from legato.core.errors import LegatoError

TREE = (errors.__name__, run_errors.__name__)


def classes(root: type[LegatoError]) -> Iterator[type[LegatoError]]:
    yield root
    for each in root.__subclasses__():
        yield from classes(each)


def test_every_error_stands_in_the_one_tree() -> None:
    """Wherever it is raised: a class elsewhere may refine one of the tree's, and then has no code of its own."""
    for module in pkgutil.walk_packages(legato.__path__, "legato."):
        if not module.name.endswith("__main__") and "migrations" not in module.name:
            importlib.import_module(module.name)
    elsewhere = [
        each for each in classes(LegatoError) if each.__module__.startswith("legato.") and each.__module__ not in TREE
    ]
    assert [each.__qualname__ for each in elsewhere if "code" in vars(each)] == []
    assert [each.__qualname__ for each in elsewhere if LegatoError in each.__bases__] == []


def test_no_two_errors_have_one_code() -> None:
    """A code names one error; the root's is that of a fault of the server's own, which ends runs too."""
    own = [each for each in classes(LegatoError) if each.__module__ in TREE]
    codes = [each.code for each in own if each is not LegatoError]
    assert sorted(codes) == sorted(set(codes))
    assert all("code" in vars(each) for each in own)


def test_the_drawing_shows_the_whole_tree() -> None:
    """Each class with its code, as it stands below its parent."""
    drawn = (errors.__doc__ or "").splitlines()
    for each in classes(LegatoError):
        if each.__module__ not in TREE or each is LegatoError:
            continue
        lines = [line for line in drawn if f"── {each.__name__} " in f"{line} "]
        assert len(lines) == 1, each.__name__
        assert lines[0].index("──") == 4 * _depth(each) + 1, each.__name__


def _depth(error: type[LegatoError]) -> int:
    """Return how far below the root an error stands."""
    return sum(1 for each in error.__mro__ if issubclass(each, LegatoError)) - 1
