"""The TypeScript client: its types, its build, its tests, and what stands in its README, run with the wheel's Node."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import node
from tests.server import ServerProcess

CLIENT = node.ROOT / "clients" / "typescript"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    """What the lock file names is there."""
    node.install()


@pytest.fixture(scope="module")
def dist(installed: None) -> Path:
    """The built package."""
    built = node.run(node.npm("run", "build"), CLIENT, limit_s=120)
    assert built.returncode == 0, built.stdout
    return CLIENT / "dist"


def test_its_types_are_right() -> None:
    """`tsc`, strict, over sources, tests and examples."""
    checked = node.run(node.npm("run", "check"), CLIENT, limit_s=120)
    assert checked.returncode == 0, checked.stdout


def test_a_table_with_a_hole_does_not_compile(tmp_path: Path) -> None:
    """Each cell of the table of reconnecting (states × events), left out once: `tsc` names it every time."""
    source = (CLIENT / "src" / "reconnect.ts").read_text("utf-8")
    cases = json.loads((node.ROOT / "protocol" / "reconnect.json").read_text("utf-8"))
    for name in ("whole", *(f"{state}_{event}" for state in cases["states"] for event in cases["events"])):
        text = source if name == "whole" else _without_cell(source, *name.split("_"))
        (tmp_path / f"{name}.ts").write_text(text, "utf-8")
    config = {"extends": str(node.ROOT / "tsconfig.base.json"), "include": ["*.ts"]}
    (tmp_path / "tsconfig.json").write_text(json.dumps(config), "utf-8")
    tsc = [str(node.node_bin() / "node"), str(node.ROOT / "node_modules" / "typescript" / "bin" / "tsc")]
    checked = node.run([*tsc, "-p", str(tmp_path), "--pretty", "false"], CLIENT, limit_s=120)
    missing = dict(re.findall(r"(\w+)\.ts\(\d+,\d+\): error TS2741: Property '(\w+)' is missing", checked.stdout))
    wanted = {f"{state}_{event}": event for state in cases["states"] for event in cases["events"]}
    assert (len(wanted), missing) == (165, wanted), checked.stdout[-5_000:]


def _without_cell(source: str, state: str, event: str) -> str:
    row = re.search(rf"\n  {state}: \{{\n(?:    .*\n)+  \}},\n", source)
    assert row is not None, f"no row of {state}"
    less, count = re.subn(rf"\b{event}: (?:to\([^)]*\)|[A-Z_]+)(?:, )?", "", row[0])
    assert count == 1, f"no cell {state} × {event}"
    return source.replace(row[0], less)


@pytest.mark.timeout(480)
def test_its_tests_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """`npm test`: the cases of protocol/, and real servers that are cut, killed and started again."""
    monkeypatch.setenv("PYTHON_OF_LEGATO", sys.executable)
    tested = node.run(node.npm("test"), CLIENT, limit_s=450)
    assert tested.returncode == 0, tested.stdout[-20_000:]


def test_the_package_is_whole(dist: Path) -> None:
    """Each module has its types beside it, none needs another package, and all of it is small."""
    scripts = sorted(path.name for path in dist.glob("*.js"))
    assert scripts == sorted(f"{path.stem}.js" for path in (CLIENT / "src").glob("*.ts"))
    for script in scripts:
        assert (dist / script).with_suffix(".d.ts").exists()
        imported = re.findall(r"""^(?:import|export) .*from ["'](.+)["'];$""", (dist / script).read_text("utf-8"), re.M)
        assert all(name.startswith("./") and name.endswith(".js") for name in imported), (script, imported)
    assert len(gzip.compress(b"".join((dist / script).read_bytes() for script in scripts))) < 25_000
    packed = node.run(node.npm("pack", "--dry-run", "--json"), CLIENT, limit_s=120)
    assert packed.returncode == 0, packed.stdout
    assert '"README.md"' in packed.stdout
    assert '"test/' not in packed.stdout


def test_the_examples_run(dist: Path, tmp_path: Path) -> None:
    """The programs in examples/ are those of the README, and say what they should against a real server."""
    readme = (CLIENT / "README.md").read_text("utf-8")
    server = ServerProcess(tmp_path).start()
    try:
        for name in ("naive.ts", "stream.ts", "resume.ts"):
            program = CLIENT / "examples" / name
            body = program.read_text("utf-8").split("\n\n", 1)[1].strip()
            assert body in readme, f"{name} is not in README.md"
            said = subprocess.run(
                [str(node.node_bin() / "node"), "--conditions=legato-source", str(program), server.address],
                env=node.environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert said.returncode == 0, said.stderr
            assert "complete" in said.stdout, said.stdout
    finally:
        server.kill()
