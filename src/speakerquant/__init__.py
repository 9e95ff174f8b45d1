"""How small can a speaker-verification network get before it stops recognising speakers?

What programs need are the names in ``__all__``, imported when they are first asked for. All else in the
package is internal: it serves the commands, and may change without notice.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from speakerquant.architectures.checkpoint_sources import shipped_checkpoint
    from speakerquant.architectures.checkpoints import load_checkpoint
    from speakerquant.cache import Cache
    from speakerquant.corpus.evaluation_data import open_evaluation_data
    from speakerquant.corpus.recordings import open_recordings
    from speakerquant.engine.backends import engine_builder
    from speakerquant.errors import UserError
    from speakerquant.measuring.evaluator import MaskEvaluator
    from speakerquant.quantization.mask import Mask
    from speakerquant.report.multirun_report import draw_runs
    from speakerquant.search.pareto import pareto_front
    from speakerquant.verification.verifier import Verifier

__all__ = [
    "Cache",
    "Mask",
    "MaskEvaluator",
    "UserError",
    "Verifier",
    "draw_runs",
    "engine_builder",
    "load_checkpoint",
    "open_evaluation_data",
    "open_recordings",
    "pareto_front",
    "shipped_checkpoint",
]

_MODULES = {
    "Cache": "cache",
    "Mask": "quantization.mask",
    "MaskEvaluator": "measuring.evaluator",
    "UserError": "errors",
    "Verifier": "verification.verifier",
    "draw_runs": "report.multirun_report",
    "engine_builder": "engine.backends",
    "load_checkpoint": "architectures.checkpoints",
    "open_evaluation_data": "corpus.evaluation_data",
    "open_recordings": "corpus.recordings",
    "pareto_front": "search.pareto",
    "shipped_checkpoint": "architectures.checkpoint_sources",
}


def __getattr__(name: str) -> Any:
    """A public name, from its module (PEP 562): commands do not wait for what they do not need."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
