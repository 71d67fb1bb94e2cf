"""Where the bytes of a connection with large bodies are put, and what an idle one holds."""

import numpy as np
import pytest

from gateway.protocols.large_reader import LargeBody, LargeReader


class Connection:
    """Notes what it is told; expects a message of `lead` + 100 bytes whenever it is asked."""

    def __init__(self, lead=10):
        self.lead, self.body, self.told, self.knows, self.made = lead, None, [], True, 0

    def data_received(self, data):
        self.told.append(("data", data))

    def body_in_progress(self):
        return self.body

    def body_grew(self, large, count):
        large.advance(count)
        self.told.append(("grew", count))

    def expected_body(self):
        self.made += 1
        return LargeBody(100, 0, self.lead)

    def message_began(self, large, count):
        self.told.append(("began", count))
        return self.knows

    def eof_received(self):
        self.told.append(("eof",))

    def connection_lost(self, exc):
        self.told.append(("lost", exc))

    def pause_writing(self):
        self.told.append(("pause",))

    def resume_writing(self):
        self.told.append(("resume",))


@pytest.fixture
def connection():
    return Connection()


@pytest.fixture
def reader(connection):
    return LargeReader(connection)


def put(reader, data):
    """As a transport does: at most what the buffer holds."""
    buffer = reader.get_buffer(-1)
    count = min(len(data), len(buffer))
    buffer[:count] = data[:count]
    del buffer
    reader.buffer_updated(count)
    return count


@pytest.mark.parametrize(("align_at", "lead"), [(0, 0), (135, 0), (135, 187), (64, 1), (7, 4096)])
def test_tensors_are_aligned_whatever_stands_before_them(align_at, lead):
    body = LargeBody(1000, align_at, lead)
    assert np.frombuffer(body.view, np.uint8)[align_at:].ctypes.data % 64 == 0
    assert len(body.view) == 1000
    assert len(body.rest) == 1000 + lead


def test_a_body_in_progress_is_filled_and_never_overrun(connection, reader):
    connection.body = LargeBody(100, 0)
    assert put(reader, b"a" * 60) == 60
    assert put(reader, b"b" * 60) == 40
    assert bytes(connection.body.view) == b"a" * 60 + b"b" * 40
    assert connection.body.full
    assert connection.told == [("grew", 60), ("grew", 40)]


def test_another_message_than_the_expected_one_goes_the_ordinary_way(connection, reader):
    connection.knows = False
    put(reader, b"GET / HTTP/1.1")
    assert connection.told == [("began", 14), ("data", b"GET / HTTP/1.1")]


def test_an_idle_connection_holds_no_memory_for_its_next_message(connection, reader):
    """uvloop asks for a buffer once more when one was filled, reads nothing, and says nothing."""
    put(reader, b"x" * 110)
    reader.get_buffer(-1)
    assert connection.made == 1
    assert reader._body is None
    put(reader, b"y" * 20)
    assert connection.told[-1] == ("began", 20)
    assert connection.made == 2


def test_bytes_right_behind_a_filled_body_are_read_the_ordinary_way(connection, reader):
    put(reader, b"x" * 110)
    put(reader, b"next")
    assert connection.told == [("began", 110), ("data", b"next")]


def test_all_else_is_passed_on(connection, reader):
    reader.pause_writing()
    reader.resume_writing()
    reader.eof_received()
    reader.connection_lost(None)
    assert connection.told == [("pause",), ("resume",), ("eof",), ("lost", None)]


def test_what_nobody_foresaw_is_told_to_the_connection(connection, reader):
    failures = []
    connection.failed = failures.append
    error = KeyError("x")

    def broken(*_):
        raise error

    connection.message_began = broken
    put(reader, b"x" * 20)
    assert failures == [error]


def test_a_lost_connection_leaves_nothing_held(connection, reader):
    """uvloop asks for a buffer right before it reads that the client has gone."""
    reader.get_buffer(-1)
    reader.connection_lost(None)
    assert reader._body is None
