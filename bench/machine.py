"""What the figures were taken on: machine, kernel, versions."""

import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench.nginx import nginx_version
from bench.process import Cores

PACKAGES = ("legato", "uvicorn", "uvloop", "httptools", "msgspec", "fastapi", "openai")


def describe_machine(*, nginx: Path | None, compiler: str, cores: Cores, data: Path) -> dict[str, str]:
    """Return label to text; `data` is a folder of the file system that servers write to."""
    packages = []
    for name in PACKAGES:
        try:
            packages.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    if nginx:
        packages.append(nginx_version(nginx).replace("/", " "))
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": f"{_processor()}; server on core {_list(cores.server)}, load on {_list(cores.load)}",
        "memory": f"{_memory_gb():.0f} GB",
        "system": f"{platform.system()} {platform.release()}, data on {file_system(data)}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": ", ".join(packages),
        "compiler": compiler,
    }


def file_system(path: Path) -> str:
    """Return the type of the file system that holds `path`, e.g. `ext4`."""
    best = ("", "unknown")
    resolved = path.resolve()
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, kind, *_ = line.split()
        if resolved.is_relative_to(mount) and len(mount) >= len(best[0]):
            best = (mount, kind)
    return best[1]


def _list(cores: frozenset[int]) -> str:
    return ", ".join(str(core) for core in sorted(cores))


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names) or '?'} × {names[0]}" if names else platform.machine()


def _memory_gb() -> float:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) / 1024**2
    return 0.0
