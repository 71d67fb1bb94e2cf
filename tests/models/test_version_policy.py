"""Triton's version policies."""

import pytest

from gateway.models.pbtxt import parse_pbtxt
from gateway.models.version_policy import missing_versions, select_versions


@pytest.mark.parametrize(
    ("policy", "selected", "missing"),
    [
        ("", ("10",), ()),
        ("version_policy { latest { } }", ("10",), ()),
        ("version_policy { latest { num_versions: 2 } }", ("2", "10"), ()),
        ("version_policy { latest { num_versions: 9 } }", ("1", "2", "10"), ()),
        ("version_policy { all { } }", ("1", "2", "10"), ()),
        ("version_policy { specific { versions: [10, 1, 10] } }", ("1", "10"), ()),
        ("version_policy { specific { versions: [7, 2, 3] } }", ("2",), ("3", "7")),
        ("version_policy { specific { } }", (), ()),
    ],
)
def test_policy_chooses_versions_by_number(policy, selected, missing):
    parsed = parse_pbtxt("m", policy.encode()).version_policy
    assert select_versions(parsed, ["10", "1", "2"]) == selected
    assert missing_versions(parsed, ["10", "1", "2"]) == missing
