"""Engine backends by name."""

from importlib import import_module

from speakerquant.engine.base import EngineBuilder
from speakerquant.errors import UserError

ENGINES = {"openvino": "speakerquant.engine.openvino:OpenVinoBuilder"}
"""Name to builder; a backend's package is imported when it is asked for."""


def engine_builder(name: str) -> EngineBuilder:
    """The builder of that name.

    Raises:
        UserError: there is none, with the list of valid names.
    """
    if name not in ENGINES:
        raise UserError(f"engine.name: unknown engine {name!r}; valid are {', '.join(ENGINES)}")
    module, _, builder = ENGINES[name].partition(":")
    found: EngineBuilder = getattr(import_module(module), builder)()
    return found
