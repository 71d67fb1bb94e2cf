import pytest

from gateway.core.errors import Code
from gateway.core.timeline import BatchRecord, RequestRecord, Timeline

MS = 1_000_000


@pytest.fixture
def request_record():
    """Make a record whose request took 20 ms: 1 decode, 5 queue, 10 compute, 2 encode."""

    def make(model="m", version="1", role="stable", protocol="http", code=Code.OK, **more):
        times = more.pop("times", None) or Timeline(
            received=100 * MS,
            decoded=101 * MS,
            queued=103 * MS,
            execute_start=108 * MS,
            execute_end=118 * MS,
            answered=120 * MS,
        )
        return RequestRecord(model, version, role, protocol, code, times, **more)

    return make


@pytest.fixture
def batch_record():
    def make(rows=4, reason="idle", model="m", version="1"):
        return BatchRecord(model, version, rows, rows, reason, 1, 2, 3, True)

    return make
