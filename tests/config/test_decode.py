from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.decode import ConfigError, Layer, decode


@dataclass(frozen=True)
class Room:
    size: int = 1
    ratio: float = 0.5

    def __post_init__(self):
        if self.size > 99:
            raise ValueError(f"size: expected at most 99, got {self.size}")


@dataclass(frozen=True)
class House:
    name: str = "house"
    door: bool = True
    colour: Literal["red", "blue"] = "red"
    path: Path = Path("here")
    sizes: tuple[int, ...] = ()
    nickname: str | None = None
    room: Room = field(default_factory=Room)


def layer(values, *, textual=False, origin="somewhere"):
    return Layer({path: (value, origin) for path, value in values.items()}, textual)


def problems(*layers):
    with pytest.raises(ConfigError) as caught:
        decode(House, layers)
    return caught.value.problems


def test_nothing_given_is_the_defaults():
    settings, origins = decode(House, [])
    assert settings == House()
    assert set(origins.values()) == {"default"}
    assert "room.size" in origins


def test_the_last_layer_wins_and_is_the_origin():
    settings, origins = decode(House, [layer({"room.size": 2}, origin="file"), layer({"room.size": 3}, origin="flag")])
    assert settings.room.size == 3
    assert origins["room.size"] == "flag"
    assert origins["room.ratio"] == "default"


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("door", "false", False),
        ("door", "ON", True),
        ("room.size", "42", 42),
        ("room.ratio", "1e-3", 0.001),
        ("name", "42", "42"),
        ("path", "a/b", Path("a/b")),
        ("sizes", "1, 2,4", (1, 2, 4)),
        ("sizes", "", ()),
        ("nickname", "", None),
        ("nickname", "x", "x"),
        ("colour", "blue", "blue"),
    ],
)
def test_text_is_parsed_by_type(path, text, value):
    settings, _ = decode(House, [layer({path: text}, textual=True)])
    for part in path.split("."):
        settings = getattr(settings, part)
    assert settings == value


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("door", 1, "true or false"),
        ("door", "true", "true or false"),
        ("room.size", "7", "a whole number"),
        ("room.size", 7.0, "a whole number"),
        ("room.size", True, "a whole number"),
        ("room.size", -1, "at least 0"),
        ("room.ratio", -0.5, "at least 0"),
        ("room.ratio", "1", "a number"),
        ("room.ratio", float("nan"), "a number"),
        ("name", 7, "text"),
        ("path", "", "a path"),
        ("path", 7, "a path"),
        ("sizes", 7, "a list"),
        ("sizes", ["7"], "a whole number"),
        ("colour", "green", "one of 'red', 'blue'"),
        ("colour", ["red"], "one of 'red', 'blue'"),
    ],
)
def test_a_wrong_type_is_named_with_path_expected_got_and_origin(path, value, expected):
    assert problems(layer({path: value})) == (f"{path}: expected {expected}, got {value!r} (from somewhere)",)


@pytest.mark.parametrize(("path", "text"), [("door", "maybe"), ("room.size", "1.5"), ("room.ratio", "much")])
def test_text_that_does_not_parse_is_a_problem(path, text):
    (problem,) = problems(layer({path: text}, textual=True))
    assert path in problem
    assert repr(text) in problem


def test_an_unknown_key_names_the_nearest():
    assert problems(layer({"room.sise": 1})) == ("unknown key 'room.sise' (from somewhere); did you mean 'room.size'?",)


def test_a_key_in_the_wrong_section_names_the_right_one():
    assert "did you mean 'room.ratio'?" in problems(layer({"ratio": 1}))[0]


def test_an_unlike_key_is_only_unknown():
    assert problems(layer({"zzz": 1})) == ("unknown key 'zzz' (from somewhere)",)


def test_a_value_where_a_section_belongs_is_a_problem():
    assert problems(layer({"room": 1})) == ("room: expected a table of settings (from somewhere)",)


def test_a_rooms_own_check_is_reported_with_its_path():
    assert problems(layer({"room.size": 100})) == ("room.size: expected at most 99, got 100",)


def test_all_problems_are_reported_at_once():
    assert len(problems(layer({"door": 7, "zzz": 1}), layer({"room.size": "x"}, textual=True))) == 3


def test_a_long_value_is_cut():
    (problem,) = problems(layer({"door": "x" * 1000}))
    assert len(problem) < 160


@given(st.dictionaries(st.text(max_size=12), st.one_of(st.none(), st.text(), st.integers(), st.lists(st.integers()))))
def test_any_input_is_decoded_or_refused(values):
    settings = refused = None
    try:
        settings, _ = decode(House, [layer(values)])
    except ConfigError as error:
        refused = error.problems
    assert refused or isinstance(settings, House)
