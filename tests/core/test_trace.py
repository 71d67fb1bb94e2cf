import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.trace import TraceContext, parse_traceparent

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("text", "sampled"),
    [
        (f"00-{TRACE}-{PARENT}-01", True),
        (f"00-{TRACE}-{PARENT}-00", False),
        (f"00-{TRACE}-{PARENT}-fe", False),  # only the lowest bit says so
        (f"00-{TRACE}-{PARENT}-ff", True),
        (f"cc-{TRACE}-{PARENT}-01", True),  # a later version is read as far as it is known
        (f"cc-{TRACE}-{PARENT}-01-what-comes", True),
    ],
)
def test_well_formed_header_is_read(text, sampled):
    assert parse_traceparent(text) == TraceContext(TRACE, PARENT, sampled)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01-more",
        f"00-{TRACE}-{PARENT}-01-",
        f"cc-{TRACE}-{PARENT}-01.what",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE[:-1]}-{PARENT}-01",
        f" 00-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01\n",
    ],
)
def test_malformed_header_is_ignored(text):
    assert parse_traceparent(text) is None


@given(st.text(alphabet=string.hexdigits + "-\n", max_size=64))
def test_any_text_is_read_or_ignored(text):
    context = parse_traceparent(text)
    assert context is None or f"-{context.trace_id}-{context.parent_id}-" in text
