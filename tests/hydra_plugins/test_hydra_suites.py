"""Hydra's own test suites for sweepers and launchers, as far as they apply to a search.

Left out, with the reason:

- Tests that sweep over nothing (``test_sweep_1_job``, ``test_sweep_1_job_strict``,
  ``test_sweep_with_custom_resolver``): a search without a space is refused (``test_search.py`` of
  ``tests/cli``). ``test_sweep_1_job_strict_and_bad_key`` passes for the right reason only in
  :func:`test_a_key_that_the_configuration_does_not_have_is_refused`.
- The two directories named after ``override_dirname``: these tests sweep over nothing, so that here a further
  override is needed, which becomes part of the name.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.test_utils.launcher_common_tests import (
    BatchedSweeperTestSuite,
    IntegrationTestSuite,
    LauncherTestSuite,
)
from hydra.test_utils.test_utils import TSweepRunner

from hydra_plugins.optuna_sweeper.sweeper import OptunaSweeper

pytestmark = pytest.mark.slow

SWEEPER = [
    "hydra/sweeper=optuna_search",
    "hydra.sweeper.objectives={value: minimize}",
    "hydra.job.chdir=True",
    "hydra.sweeper.max_failure_rate=1.0",  # Hydra's task functions return nothing
    "hydra.sweeper.sampler={_target_: hydra_plugins_tests_in_order.InOrderSampler}",
]


@pytest.fixture(autouse=True)
def in_order_sampler(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Make the sampler importable, in the processes that the suites start too."""
    folder = tmp_path_factory.mktemp("importable")
    source = Path(__file__).with_name("in_order.py").read_text()
    (folder / "hydra_plugins_tests_in_order.py").write_text(source)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))


def test_the_sweeper_is_discovered() -> None:
    # By name: whatever has looked for plugins before in this process has imported them anew.
    discovered = {each.__name__ for each in Plugins.instance().discover(Sweeper)}
    assert OptunaSweeper.__name__ in discovered


def test_discovery_imports_nothing_heavy() -> None:
    program = (
        "import sys; from hydra.core.plugins import Plugins; Plugins.instance();"
        "assert 'hydra_plugins.optuna_sweeper.sweeper' in sys.modules;"
        "print(*sorted({'optuna', 'torch', 'mlflow', 'matplotlib', 'numpy'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.strip() == ""


@pytest.mark.parametrize(("launcher_name", "overrides"), [("basic", [*SWEEPER, "hydra.sweeper.n_jobs=2"])])
class TestLauncherSuite(LauncherTestSuite):
    test_sweep_1_job = None
    test_sweep_1_job_strict = None
    test_sweep_1_job_strict_and_bad_key = None
    test_sweep_with_custom_resolver = None


@pytest.mark.parametrize(("launcher_name", "overrides"), [("basic", [*SWEEPER, "hydra.sweeper.n_jobs=2"])])
class TestBatchedSweeperSuite(BatchedSweeperTestSuite): ...


@pytest.mark.parametrize(
    ("task_launcher_cfg", "extra_flags"),
    [({}, ["-m", "hydra/launcher=basic", *SWEEPER, "+searched=choice(1)"])],
)
class TestIntegrationSuite(IntegrationTestSuite):
    @pytest.fixture(autouse=True)
    def only_what_applies(self, request: pytest.FixtureRequest) -> None:
        if "override_dirname" in request.node.name:
            pytest.skip("the suite sweeps over nothing; the override that a search needs changes the name")


def test_a_key_that_the_configuration_does_not_have_is_refused(
    hydra_restore_singletons: Any, hydra_sweep_runner: TSweepRunner, tmp_path: Path
) -> None:
    with (
        pytest.raises(Exception, match=re.escape("Could not override 'boo'")),
        hydra_sweep_runner(
            calling_file=None,
            calling_module="hydra.test_utils.a_module",
            task_function=None,
            config_path="configs",
            config_name="compose",
            overrides=[*SWEEPER, "hydra/launcher=basic", "boo=1,2"],
            temp_dir=tmp_path,
        ),
    ):
        pass
