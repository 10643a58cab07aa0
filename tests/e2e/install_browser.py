"""`python -m tests.e2e.install_browser`: sees to it that the tests of the page have a Chromium.

The system's is taken where there is one; else root installs Debian's package, the shell without windows where that is
known, and anybody else Playwright's own build.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from tests.e2e.browser import find_chromium


def main() -> int:
    """Install what is missing; return 0 when there is a Chromium."""
    if find_chromium() is not None:
        return 0
    print("installing Chromium for the tests of the page ...", flush=True)
    if os.geteuid() == 0 and shutil.which("apt-get"):
        _install_package()
    if find_chromium() is None:
        subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=False)
    if find_chromium() is None:
        print("no Chromium could be installed: install one by hand, or name one in LEGATO_CHROMIUM", file=sys.stderr)
        return 1
    return 0


def _install_package() -> None:
    """Install the first of the distribution's packages that can be."""
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    install = ["install", "-y", "-q", "--no-install-recommends"]
    for words in (["update", "-q"], [*install, "chromium-headless-shell"], [*install, "chromium"]):
        done = subprocess.run(
            ["apt-get", *words], env=quiet, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        if done.returncode:
            print(done.stdout[-2000:])
        elif words[0] == "install":
            break


if __name__ == "__main__":
    sys.exit(main())
