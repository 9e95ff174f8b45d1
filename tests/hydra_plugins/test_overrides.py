"""Hydra's sweep grammar as a search space."""

from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, QuotedString
from omegaconf import OmegaConf
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from hydra_plugins.optuna_sweeper._overrides import default_point, parse_overrides, point_overrides
from speakerquant.errors import UserError


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("key=choice(1,2)", CategoricalDistribution([1, 2])),
        ("key=1,2", CategoricalDistribution([1, 2])),
        ("key=choice(true, false)", CategoricalDistribution([True, False])),
        ("key=choice(fp32,int8)", CategoricalDistribution(["fp32", "int8"])),
        ("key=null,a", CategoricalDistribution([None, "a"])),
        ("key=choice('a,b',c)", CategoricalDistribution([r"a\,b", "c"])),
        ("key=choice([1,2],[3])", CategoricalDistribution(["[1,2]", "[3]"])),
        ("key=shuffle(range(1,3))", CategoricalDistribution([2, 1])),
        ("key=range(1,3)", IntDistribution(1, 2)),
        ("key=range(3)", IntDistribution(0, 2)),
        ("key=range(1,10,4)", IntDistribution(1, 9, step=4)),
        ("key=range(9,1,-4)", IntDistribution(5, 9, step=4)),
        ("key=range(0.5, 5.5, step=1)", FloatDistribution(0.5, 4.5, step=1)),
        ("key=range(0,1,0.25)", FloatDistribution(0.0, 0.75, step=0.25)),
        ("key=range(0,1000000000000000)", IntDistribution(0, 999_999_999_999_999)),
        ("key=range(0.5,1000000000000)", FloatDistribution(0.5, 999_999_999_999.5, step=1)),
        ("key=range(1.5,0,-0.5)", FloatDistribution(0.5, 1.5, step=0.5)),
        ("key=interval(1, 5)", FloatDistribution(1, 5)),
        ("key=int(interval(1, 5))", IntDistribution(1, 4)),
        ("key=tag(log, interval(1, 5))", FloatDistribution(1, 5, log=True)),
        ("key=tag(log, int(interval(1, 5)))", IntDistribution(1, 4, log=True)),
        ("key=tag(log, range(1, 1000))", IntDistribution(1, 999, log=True)),
    ],
)
def test_sweeps_become_axes(override: str, expected: BaseDistribution) -> None:
    axis = parse_overrides({}, [override]).space.axes["key"]
    if isinstance(expected, CategoricalDistribution) and "shuffle" in override:
        assert isinstance(axis, CategoricalDistribution)
        assert set(axis.choices) == set(expected.choices)
    else:
        assert axis == expected


@pytest.mark.parametrize(
    ("params", "arguments", "axes", "fixed"),
    [
        ({"a": "choice(1,2)"}, [], ["a"], []),
        ({"a": "choice(1,2)"}, ["b=5"], ["a"], ["b=5"]),
        ({"a": "choice(1,2)"}, ["a=5"], [], ["a=5"]),
        ({"a": "choice(1,2)", "b": "choice(1,2)"}, ["~a"], ["b"], ["~a"]),
        ({"a": 5}, ["a=choice(1,2)"], ["a"], []),
        ({"a": "choice(1,2)"}, ["+b=choice(1,2)", "~z", "~y=10"], ["a", "+b"], ["~z", "~y=10"]),
        ({"mask.first": "choice(fp32,int8)"}, ["mask=paper"], ["mask.first"], ["mask=paper"]),
        ({"a": None, "b": True}, [], [], ["a=null", "b=true"]),
    ],
)
def test_arguments_replace_parameters_of_the_same_key(
    params: dict[str, Any], arguments: list[str], axes: list[str], fixed: list[str]
) -> None:
    parsed = parse_overrides(params, arguments)
    assert list(parsed.space.axes) == axes
    assert parsed.fixed == fixed


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("key=range(3,3)", "nothing to choose from"),
        ("key=range(0.5,inf)", "nothing to choose from .*finite"),
        ("key=range(0.5,1,0.0)", "nothing to choose from"),
        ("key=range(0.5,0.1)", "nothing to choose from"),
        ("key=interval(5,1)", "nothing to choose from"),
        ("key=choice(1,1.0)", "two of the choices are equal"),
        ("key=tag(log, range(1,100,2))", "must have step 1"),
        ("key=tag(log, range(0.5,9))", "whole numbers"),
    ],
)
def test_a_sweep_that_cannot_be_searched_is_refused(override: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse_overrides({}, [override])


@pytest.mark.parametrize("choices", ["null,true,2,0.5,text", "'a,b',\"c d\"", "choice('x y','a,b')"])
def test_a_point_is_written_as_hydra_reads_it(choices: str) -> None:
    parser = OverridesParser.create()
    axis = parse_overrides({}, [f"+key={choices}"]).space.axes["+key"]
    assert isinstance(axis, CategoricalDistribution)
    lines = [line for value in axis.choices for line in point_overrides({"+key": value})]
    read = [override.value() for override in parser.parse_overrides(lines)]
    swept = parser.parse_override(f"+key={choices}").value()
    assert isinstance(swept, ChoiceSweep)
    assert read == [item.text if isinstance(item, QuotedString) else item for item in swept.list]


def test_defaults_are_the_configurations_own_values() -> None:
    config = OmegaConf.create(
        {"a": 2, "b": {"c": "other"}, "d": 0.5, "hydra": {"runtime": {"choices": {"calibration": "max"}}}}
    )
    space = parse_overrides(
        {},
        [
            "a=choice(1,2)",
            "b.c=choice(x,y)",
            "d=interval(0,1)",
            "calibration=choice(mse,max)",
            "+e=range(3,6)",
        ],
    ).space
    assert default_point(space, config) == {"a": 2, "b.c": "x", "d": 0.5, "calibration": "max", "+e": 3}
    assert default_point(
        parse_overrides({}, ["d=range(0,3)"]).space, OmegaConf.merge(config, {"d": 1.0})
    ) == {"d": 1}
    assert default_point(space, None) == {"a": 1, "b.c": "x", "d": 0.0, "calibration": "mse", "+e": 3}
