"""What a stock tester of HTTP interfaces finds: schemathesis, over every route of a real server's /openapi.json.

It derives the requests from the description by itself: every boundary of every field, kinds and methods that are not
described, and random ones. tests/integration/test_every_route.py knows what is there, this one knows nothing.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.guarded import make_keys
from tests.server import ServerProcess

CHECKS: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "missing_required_header",
    "use_after_free",
)
"""Left out are those that take a meaning that a schema cannot say (`confirm` repeats an id) for a fault."""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_route_answers_otherwise_than_described(tmp_path: Path) -> None:
    """Thousands of requests to all routes as an administrator: no 5xx, and each answer is as the document says."""
    server = ServerProcess(tmp_path, {"auth": "accounts", "rate_limit": "off"})
    server.start()
    try:
        key = make_keys(server.database, {"ann": "admin"})["ann"]
        run = _schemathesis(server.address, key, tmp_path)
    finally:
        server.kill()
    log = server.log
    assert run.returncode == 0, run.stdout[-12_000:] + run.stderr[-2_000:]
    tested = re.search(r"Tested: (\d+)", run.stdout)
    assert tested is not None, run.stdout
    assert int(tested[1]) >= 60, run.stdout
    assert '"level":"error"' not in log.replace(" ", "").lower(), log[-4_000:]


def _schemathesis(address: str, key: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{address}/openapi.json"]
    command += ["--header", f"Authorization: Bearer {key}", "--checks", ",".join(CHECKS), "--seed", "1"]
    command += ["--phases", "coverage,fuzzing", "--max-examples", "3", "--generation-database", "none"]
    command += ["--continue-on-failure", "--request-timeout", "20", "--no-color", "--warnings", "off"]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
