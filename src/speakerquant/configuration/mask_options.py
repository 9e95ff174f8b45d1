"""Any name is an option of the group ``mask``; what it means is a matter of the network, unknown to Hydra."""

import re
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf

from speakerquant.architectures.ecapa_tdnn import ECAPA_TDNN
from speakerquant.architectures.ecapa_tdnn.published import PUBLISHED
from speakerquant.configuration.composing import EVERY_MASK, MASK_GROUP
from speakerquant.errors import UserError
from speakerquant.quantization.named_masks import ALL, NONE
from speakerquant.quantization.precision import BASELINE, INT8, registered

NAME = "@"
"""Key under which a mask's configuration holds a name: none that a unit can have, and no pattern."""

_OF_THE_UNITS = re.compile(r"units|model(\.(checkpoint|network|architecture.*))?")


class MaskOptions(ConfigSource):
    """Holds an option of every name; looked into behind folders, whose files come first."""

    @staticmethod
    def scheme() -> str:
        return EVERY_MASK

    def load_config(self, config_path: str) -> ConfigResult:
        name = self._normalize_file_name(config_path).removeprefix(f"{MASK_GROUP}/").removesuffix(".yaml")
        option: dict[str, Any] = {"defaults": [{"/base/mask": "any_unit"}, "_self_"], NAME: name}
        return ConfigResult(self.provider, self.full_path(), OmegaConf.create(option), {"package": None})

    def is_group(self, config_path: str) -> bool:
        return config_path == MASK_GROUP

    def is_config(self, config_path: str) -> bool:
        group, _, name = config_path.rpartition("/")
        return group == MASK_GROUP and bool(name)

    def available(self) -> bool:
        return True

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """The names that every network has, and those of the one that comes with the package."""
        if results_filter is ObjectType.GROUP:
            return []
        # The paper measured each of its blocks alone; to ask the network itself would take PyTorch.
        blocks = [unit for units in PUBLISHED.by_int8_units if len(units) == 1 for unit in units]
        precisions = [each.name for each in registered() if each not in (BASELINE, INT8)]
        suffixes = ("", *(f"_{precision}" for precision in precisions))
        subjects = (ALL, *blocks, *ECAPA_TDNN.named_masks)
        return [NONE, *(f"{subject}{suffix}" for subject in subjects for suffix in suffixes)]


class MaskSearchPath(SearchPathPlugin):
    """Has Hydra look for masks here, whichever the primary configuration is."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append("speakerquant", f"{EVERY_MASK}://")


def register_mask_options() -> None:
    """Make every name an option of the group ``mask``, and ``${masks:...}`` a sweep over masks.

    The entries of ``${masks:none,*,named}`` are those of
    :func:`speakerquant.quantization.named_masks.swept_names`.
    """
    Plugins.instance().register(MaskOptions)
    Plugins.instance().register(MaskSearchPath)
    OmegaConf.register_new_resolver("masks", _masks, replace=True)


def _masks(*sweep: str, _root_: DictConfig) -> str:
    """The sweep's names, for the network of the configuration that holds it.

    Raises:
        UserError: several networks are swept, or see :func:`speakerquant.configuration.opening.swept_masks`.
    """
    overrides = OverridesParser.create().parse_overrides([*_root_.hydra.overrides.task])
    if any(each.key_or_group == MASK_GROUP for each in overrides):
        return NONE  # in place of which those that were typed are swept
    swept = [each.key_or_group for each in overrides if each.is_sweep_override()]
    for key in (*swept, *(_root_.hydra.sweeper.get("params") or ())):
        if _OF_THE_UNITS.fullmatch(key):
            raise UserError(
                f"{key}: the masks of this sweep, ${{masks:{','.join(sweep)}}}, are of one network's units; "
                "give a command for each, or name masks of all beside it, as in mask=none,all"
            )
    from speakerquant.configuration.opening import swept_masks  # it imports the schema, which imports this

    return ",".join(swept_masks(_root_, sweep))
