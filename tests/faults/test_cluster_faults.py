"""The quick share of the faults of a cluster: one of each kind under one small crowd."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import cluster
from tests.faults.scenario import Context


@pytest.mark.slow
def test_replies_outlive_their_nodes_the_database_and_redis(tmp_path: Path) -> None:
    """Three nodes killed, stopped past the lease and restarted, and all else too: nothing is lost or shown twice."""
    context = Context(tmp_path, quick=True, fail_fast=True)
    cluster.break_cluster(context, ["mixed-0"])
    counts = context.tally.counts
    assert counts["node kills"] == counts["pauses past the lease"] == counts["database restarts"] == 1
    assert counts["Redis kills"] == counts["rolling restarts"] == 1
    assert counts["streams"] >= cluster.FEW_STREAMS
    assert counts["adoptions"] > 0
