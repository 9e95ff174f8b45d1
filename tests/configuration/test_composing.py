"""How often Hydra composes what a command runs, and that it is the same as Hydra alone composes."""

import sys
from pathlib import Path

import hydra
import pytest
from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra.core.default_element import ResultDefault
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf

from speakerquant.configuration import composing
from speakerquant.configuration.composing import compose_once

FILES = {
    "config": "defaults: [{group: one}, _self_]\na: 0\nhydra: {run: {dir: out}, sweep: {dir: out}}",
    "group/one": "b: 1",
    "group/two": "b: 2",
    "group/3": "b: 3",
    "several": "defaults: [config, _self_]\nhydra: {mode: MULTIRUN, sweeper: {params: {a: '1,2'}}}",
    "unchosen": "defaults: [config, {other: '???'}, _self_]",
    "other/one": "c: 1",
    "other/two": "c: 2",
    "interpolated": "defaults: [config, {other: '${group}'}, _self_]",
}


@pytest.fixture
def composed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the configurations that were composed, in a folder with those above."""
    names = []
    compose = ConfigLoaderImpl._load_configuration_impl

    def counted(self: ConfigLoaderImpl, config_name: str, *args: object, **kwargs: object) -> DictConfig:
        names.append(config_name)
        return compose(self, config_name, *args, **kwargs)

    for name, text in FILES.items():
        path = tmp_path / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ConfigLoaderImpl, "_load_configuration_impl", counted)
    # Hydra alone, for now
    monkeypatch.setattr(hydra._internal.hydra, "ConfigLoaderImpl", ConfigLoaderImpl)
    monkeypatch.setattr(defaults_list, "_create_interpolation_map", composing._choices)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    return names


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The configurations that an application gets, as text."""
    texts = []

    def application(config: DictConfig) -> None:
        texts.append(OmegaConf.to_yaml(config) + OmegaConf.to_yaml(HydraConfig.get()))

    monkeypatch.setattr(sys, "argv", ["application", *arguments])
    hydra.main(config_path=str(Path.cwd()), config_name="config", version_base="1.3")(application)()
    return texts


@pytest.mark.parametrize(
    ("arguments", "jobs"),
    [
        ([], 0),
        (["group=two", "a=3", "+new=1"], 0),
        (["-m", "group=one,two"], 2),
        (["hydra.mode=MULTIRUN", "a=1,2"], 2),
        (["--config-name=several"], 2),
        (["-m", "--config-name=interpolated", "group=one,two"], 2),
        (["-m", "hydra.mode=RUN", "a=1,2"], 2),
    ],
)
def test_a_command_and_each_job_are_composed_once(
    arguments: list[str], jobs: int, composed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(arguments, monkeypatch)
    assert len(composed) == 2 + 2 * jobs
    composed.clear()
    compose_once()
    assert run(arguments, monkeypatch) == expected
    assert len(composed) == 1 + jobs


@pytest.mark.parametrize(
    ("arguments", "lists"),
    [
        (["-m", "a=1,2,3", "+new=1"], 1),
        (["-m", "group=one,two", "a=1,2"], 2),
        (["-m", "--config-name=interpolated", "group=one,two", "group.b=1,2"], 2),
    ],
)
def test_files_are_merged_once_for_all_jobs_that_choose_the_same(
    arguments: list[str], lists: int, composed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    merged = []
    load = ConfigLoaderImpl._load_single_config

    def counted(self: ConfigLoaderImpl, default: ResultDefault, repo: IConfigRepository) -> ConfigResult:
        merged.append(default.config_path)
        return load(self, default, repo)

    expected = run(arguments, monkeypatch)
    monkeypatch.setattr(ConfigLoaderImpl, "_load_single_config", counted)
    compose_once()
    assert run(arguments, monkeypatch) == expected
    assert merged.count("group/one") + merged.count("group/two") == lists


@pytest.mark.parametrize(
    ("choice", "begin"), [("group=null", "a: 0\n"), ("group=3", "group:\n  b: 3\n"), ("~group", "a: 0\n")]
)
def test_null_is_none_of_a_group_and_a_number_is_the_name_of_an_option(
    choice: str, begin: str, composed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    compose_once()
    [config] = run([choice], monkeypatch)
    assert config.startswith(begin)
    assert run(["--info", "defaults", choice], monkeypatch) == []


@pytest.mark.parametrize("arguments", [["a=1,2"], ["c=1"], ["--config-name=unchosen"], ["group=three"]])
def test_what_hydra_refuses_is_refused_in_its_words(
    arguments: list[str], composed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(HydraException) as expected:
        run(arguments, monkeypatch)
    compose_once()
    with pytest.raises(HydraException) as found:
        run(arguments, monkeypatch)
    assert str(found.value) == str(expected.value)
