"""`python -m tests.audit_npm`: known holes in the npm packages of package-lock.json, as far as the registry tells."""

from __future__ import annotations

import json
import sys

from tests.node import ROOT, npm, run

LIMIT_S = 120


def main() -> int:
    """Ask the registry; return 1 where it knows of a hole, 0 where it knows of none or cannot be asked."""
    outcome = run(npm("audit", "--package-lock-only", "--json"), ROOT, limit_s=LIMIT_S)
    said = outcome.stdout
    try:
        found = json.loads(said[said.index("{") :])
    except ValueError:
        found = {}
    counts = found.get("metadata", {}).get("vulnerabilities")
    if counts is None:
        print("npm audit got no answer from the registry: the npm packages were not looked at")
        return 0
    print(f"npm audit: {counts.get('total', 0)} known holes")
    for name, each in found.get("vulnerabilities", {}).items():
        print(f"  {name}: {each.get('severity')}, {each.get('range')}")
    return 1 if counts.get("total") else 0


if __name__ == "__main__":
    sys.exit(main())
