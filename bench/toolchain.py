"""The two C programs, compiled on demand into bench/.build/.

A program's file name carries a hash of its source and flags, so a change compiles anew and
nothing stale is ever run.
"""

import hashlib
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
BUILD_DIR = HERE / ".build"
FLAGS = ("-O2", "-Wall", "-Wextra")


class BenchError(Exception):
    """The bench cannot go on; the message says what to do about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """Paths of the compiled programs; `tls` says whether the mock can speak TLS."""

    mock_upstream: Path
    load_client: Path
    tls: bool
    compiler: str


def compile_programs() -> Programs:
    """Compile what is missing and return the programs.

    Raises:
        BenchError: There is no C compiler, or it refused a source.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise BenchError(
            "no C compiler found: the mock upstream and the load client are C programs; "
            "install gcc and libc6-dev (Debian: apt-get install gcc libc6-dev libssl-dev)"
        )
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False)
    load_client = _compile(compiler, "load_client", ("-lm",))
    try:
        mock = _compile(compiler, "mock_upstream", ("-DWITH_TLS", "-lssl", "-lcrypto"))
        tls = True
    except BenchError:
        mock = _compile(compiler, "mock_upstream", ())
        tls = False
    return Programs(
        mock_upstream=mock,
        load_client=load_client,
        tls=tls,
        compiler=version.stdout.partition("\n")[0],
    )


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Make a self-signed certificate for 127.0.0.1 and localhost; returns (certificate, key)."""
    openssl = shutil.which("openssl")
    if openssl is None:
        raise BenchError("the TLS figures need the openssl command (Debian: apt-get install openssl)")
    certificate, key = folder / "upstream.crt", folder / "upstream.key"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"openssl could not make a certificate: {done.stderr.strip()}")
    return certificate, key


def _compile(compiler: str, name: str, flags: tuple[str, ...]) -> Path:
    source = HERE / f"{name}.c"
    arguments = [*FLAGS, *(flag for flag in flags if flag.startswith("-D"))]
    libraries = [flag for flag in flags if flag.startswith("-l")]
    mark = hashlib.sha256(source.read_bytes() + repr((compiler, flags, FLAGS)).encode())
    program = BUILD_DIR / f"{name}-{mark.hexdigest()[:12]}"
    if program.exists():
        return program
    BUILD_DIR.mkdir(exist_ok=True)
    partial = program.with_suffix(".partial")
    done = subprocess.run(
        [compiler, *arguments, "-o", str(partial), str(source), *libraries],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BenchError(f"{name}.c does not compile:\n{done.stderr}")
    partial.rename(program)
    return program
