"""Which files of tests begin first where several processes share them."""

from __future__ import annotations

LONGEST = (
    "tests/fuzz/test_boundaries.py",
    "tests/meta/test_docs.py",
    "tests/access/test_matrix.py",
    "tests/cluster/test_database.py",
    "tests/abuse/test_abuse.py",
    "tests/meta/test_bench.py",
    "tests/watch/test_storm.py",
    "tests/examples/test_examples.py",
    "tests/cluster/test_races.py",
    "tests/store/postgres/test_faults.py",
    "tests/cli/test_replay.py",
    "tests/store/sqlite/test_erasure.py",
    "tests/faults/test_start.py",
    "tests/faults/test_operations.py",
    "tests/store/conformance/test_model.py",
    "tests/service/test_log.py",
    "tests/api/test_transfer.py",
    "tests/meta/test_readme.py",
    "tests/fuzz/test_fuzz.py",
    "tests/service/test_list.py",
    "tests/api/test_watch_faults.py",
    "tests/faults/test_copies.py",
    "tests/access/test_callers.py",
    "tests/cluster/test_operations.py",
    "tests/faults/test_power_cut.py",
    "tests/faults/test_kill.py",
    "tests/cluster/test_leaving.py",
    "tests/faults/test_watch.py",
    "tests/api/_async/test_handles.py",
    "tests/api/_async/test_sessions.py",
    "tests/cluster/test_order.py",
    "tests/faults/test_sync_error.py",
)
"""The files that take longest: one that begins last keeps one processor busy, the others idle."""
