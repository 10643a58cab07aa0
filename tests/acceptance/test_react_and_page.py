"""The React package and the page: their types and their own tests, run with the wheel's Node."""

from __future__ import annotations

import sys

import pytest

from tests import node

PACKAGES = pytest.mark.parametrize("package", ["clients/react", "web"])
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    """What the lock file names is there."""
    node.install()


@PACKAGES
def test_its_types_are_right(package: str) -> None:
    """`tsc`, strict: a word that one language lacks, or an event without its row, does not compile."""
    checked = node.run(node.npm("run", "check"), node.ROOT / package, limit_s=120)
    assert checked.returncode == 0, checked.stdout


@PACKAGES
@pytest.mark.timeout(480)
def test_its_tests_pass(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`npm test`: pure parts, and what React 18 and 19 draw in strict mode against a real server."""
    monkeypatch.setenv("PYTHON_OF_LEGATO", sys.executable)
    tested = node.run(node.npm("test"), node.ROOT / package, limit_s=450)
    assert tested.returncode == 0, tested.stdout[-20_000:]
