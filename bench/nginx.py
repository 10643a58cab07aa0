"""nginx as a peer: found or installed, and its configuration written.

It is started with its own prefix and configuration; a system service is never started, and one
that runs already is not touched.
"""

import os
import resource
import shutil
import subprocess
from pathlib import Path
from string import Template
from urllib.parse import urlsplit

from bench.toolchain import HERE, BenchError

POLICY = Path("/usr/sbin/policy-rc.d")
ASK = (
    "nginx is the yardstick of this benchmark and was not found; install it "
    "(Debian: apt-get install nginx-light; its service may stay stopped) and run again"
)


def find_nginx() -> Path:
    """Return nginx's path, installing Debian's package when root may do so.

    Raises:
        BenchError: It is not there and could not be installed.
    """
    found = _look()
    if found:
        return found
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise BenchError(ASK)
    print("nginx was not found; installing Debian's package ...", flush=True)
    # Debian's way to install a daemon without starting it: a policy that answers 101.
    guard = not POLICY.exists()
    if guard:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        _apt("update")
        for package in ("nginx-light", "nginx"):
            if _apt("install", "-y", "--no-install-recommends", package) == 0:
                break
    finally:
        if guard:
            POLICY.unlink(missing_ok=True)
    found = _look()
    if found is None:
        raise BenchError(ASK)
    return found


def nginx_version(path: Path) -> str:
    """Return what `nginx -v` says, e.g. `nginx/1.22.1`."""
    said = subprocess.run([str(path), "-v"], capture_output=True, text=True, check=False).stderr
    return said.strip().rpartition(": ")[2]


def write_configuration(folder: Path, *, port: int, upstream_url: str, certificate: Path | None) -> Path:
    """Write nginx.conf into `folder` and return its path."""
    address = urlsplit(upstream_url)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    tls = ""
    if certificate:
        tls = (
            f"proxy_ssl_verify on; proxy_ssl_trusted_certificate {certificate}; "
            "proxy_ssl_name localhost; proxy_ssl_protocols TLSv1.2 TLSv1.3;"
        )
    text = Template((HERE / "peers" / "nginx.conf").read_text()).substitute(
        folder=folder,
        port=port,
        upstream=address.netloc,
        scheme=address.scheme,
        open_files=limit,
        connections=max(1024, limit - 64),
        user="user root;" if os.geteuid() == 0 else "",
        tls=tls,
    )
    path = folder / "nginx.conf"
    path.write_text(text)
    return path


def _look() -> Path | None:
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    return Path(found) if found else None


def _apt(*arguments: str) -> int:
    return subprocess.run(
        ["apt-get", "-q", *arguments],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        check=False,
    ).returncode
