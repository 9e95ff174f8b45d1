"""Recovery of a mask: what its integers lose, training by the FP32 network's embeddings brings back."""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from speakerquant import schema_versions
from speakerquant.audio.features import CachedFeatures
from speakerquant.cache import Cache
from speakerquant.files import digest
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.prepared import PreparedModel
from speakerquant.recovery.settings import RecoverySettings
from speakerquant.recovery.speech import Pieces
from speakerquant.recovery.student import Student

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recovery:
    """Recovers masks, each once.

    Attributes:
        settings: How they are trained.
        speech: Gives the unlabelled recordings to train on.
        cache: Keeps what was learned, the state of a training that was killed too.
    """

    settings: RecoverySettings
    speech: Callable[[], CachedFeatures]
    cache: Cache

    def recovered(self, prepared: PreparedModel, mask: Mask) -> PreparedModel:
        """The network to put the mask on in place of the given one; that itself, if the mask has no integers.

        Args:
            prepared: The network.
            mask: The mask.

        Raises:
            UserError: there is too little speech, or training fails.
        """
        if not any(precision.weights for precision in mask.values()):
            return prepared
        from speakerquant.recovery.distillation import (  # Lightning Fabric takes seconds to import
            Distillation,
            read_outcome,
        )

        speech, network, settings = self.speech(), prepared.model.network, self.settings
        precisions = {name: precision.name for name, precision in mask.layers.items()}
        key = digest(schema_versions.RECOVERY, prepared.digest, precisions, speech.digest, asdict(settings))
        pieces = Pieces(speech, network.min_frames, settings.batch_size, settings.seed)
        student = Student(prepared, mask)

        def make(path: Path) -> None:
            with speech.in_memory():
                Distillation(network, student, pieces, settings).fit(path)

        outcome = self.cache.read("recovered_weights", key, make, read_outcome, continues=True)
        student.load(outcome.learned)
        log.info(
            "recovery: 1 - cosine on recordings held out %.5f, %.5f before", outcome.after, outcome.before
        )
        words = f"{prepared.rounding_in_words}, then {settings.in_words}"
        return replace(student.prepared(key), rounding_in_words=words)
