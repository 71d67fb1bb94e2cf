"""Deadlines: every wire form in, nanoseconds or a message that names the field out."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.deadline import MAX_TIMEOUT_MS, grpc_timeout_ns, tighten, timeout_ms_ns, timeout_parameter_ns
from gateway.core.errors import Code, GatewayError

UNIT_NS = {"H": 3600 * 10**9, "M": 60 * 10**9, "S": 10**9, "m": 10**6, "u": 1000, "n": 1}


@pytest.mark.parametrize(
    ("text", "ns"),
    [("0", 0), ("1", 10**6), ("0.25", 250_000), ("1500", 1_500_000_000), (str(MAX_TIMEOUT_MS), MAX_TIMEOUT_MS * 10**6)],
)
def test_header_of_milliseconds_is_read(text, ns):
    assert timeout_ms_ns(text, "x-request-timeout-ms") == ns


@pytest.mark.parametrize("text", ["", "-1", "nan", "inf", "-inf", "1s", "1,5", str(MAX_TIMEOUT_MS + 1), "9" * 400])
def test_header_that_is_no_duration_is_refused_by_name(text):
    with pytest.raises(GatewayError) as caught:
        timeout_ms_ns(text, "x-envoy-expected-rq-timeout-ms")
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert "'x-envoy-expected-rq-timeout-ms'" in caught.value.message
    assert len(caught.value.message) < 250


@given(st.integers(0, 10**8 - 1), st.sampled_from("HMSmun"))
def test_grpc_timeout_is_its_number_times_its_unit(number, unit):
    assert grpc_timeout_ns(f"{number}{unit}") == number * UNIT_NS[unit]


@pytest.mark.parametrize(
    "text", ["", "S", "5", "5s", "100000000S", "-1S", "+1S", "1.5S", "1 S", "\u0661S", "5SS", "²S"]
)
def test_grpc_timeout_of_another_form_is_refused(text):
    with pytest.raises(GatewayError, match="'grpc-timeout' must be 1 to 8 digits"):
        grpc_timeout_ns(text)


@given(st.text(max_size=12))
def test_any_header_text_is_read_or_refused(text):
    for read in (grpc_timeout_ns, lambda value: timeout_ms_ns(value, "h")):
        with contextlib.suppress(GatewayError):  # and nothing else
            assert read(text) >= 0


@pytest.mark.parametrize(("value", "ns"), [(0, 0), (1, 1000), (2_000_000, 2_000_000_000)])
def test_timeout_parameter_counts_microseconds(value, ns):
    assert timeout_parameter_ns(value) == ns


@pytest.mark.parametrize(
    "value",
    [-1, True, False, 1.0, "5", None, [], {"a": 1}, MAX_TIMEOUT_MS * 1000 + 1, pytest.param(10**5000, id="huge")],
)
def test_timeout_parameter_that_is_no_duration_is_refused(value):
    with pytest.raises(GatewayError, match="parameter 'timeout' must be a whole number of microseconds") as caught:
        timeout_parameter_ns(value)
    assert len(caught.value.message) < 250


deadlines = st.integers(0, 1 << 62)


@given(st.lists(deadlines, min_size=1))
def test_tightening_gives_the_earliest_of_those_given(candidates):
    result = 0
    for candidate in candidates:
        result = tighten(result, candidate)
    assert result == min((value for value in candidates if value), default=0)
