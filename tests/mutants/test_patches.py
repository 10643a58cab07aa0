"""The planted bugs still fit the code, and the tests that are to find them are there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.mutants.__main__ import copy_tree, run_tests
from tests.mutants.patches import Mutant, read_mutants

ROOT = Path(__file__).parents[2]
MUTANTS = read_mutants(Path(__file__).parent)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_still_fits_the_code(mutant: Mutant, tmp_path: Path) -> None:
    """Each hunk's lines stand once in their file, and change it; each test that it names is there."""
    paths = {hunk.path for hunk in mutant.hunks}
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    mutant.apply(tmp_path)
    assert all((tmp_path / path).read_text("utf-8") != (ROOT / path).read_text("utf-8") for path in paths)
    for test in mutant.tests:
        file, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT / file).read_text("utf-8")


@pytest.mark.slow
def test_their_tests_are_found_in_a_copy(tmp_path: Path) -> None:
    """All that they import is copied too."""
    root = copy_tree(tmp_path / "copy")
    tests = sorted({test for mutant in MUTANTS for test in mutant.tests})
    code, said = run_tests(root, ("--collect-only", *tests))
    assert code == 0, said


def test_there_are_mutants() -> None:
    """The four that every release names are among them."""
    names = {mutant.name for mutant in MUTANTS}
    assert {"show-before-commit", "cursor-one-early", "cursor-one-late", "second-terminal"} <= names
    assert any(name.startswith("prefix-") for name in names)
