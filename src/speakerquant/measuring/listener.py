"""Who wants to hear of an evaluation, such as what records it."""

from collections.abc import Mapping
from dataclasses import dataclass

from speakerquant.corpus.evaluation_data import EvaluationData
from speakerquant.measuring.result import Result


@dataclass(frozen=True)
class MeasuredOn:
    """What a mask is measured on.

    Attributes:
        data: The trial list and its recordings.
        trial_list: Name of the list.
        digests: Of checkpoint, trials, their recordings, speakers and conditions, cohort, calibration, speech
            for rounding and development list, by these names, empty where there is none or the mask has no
            use for it; those of recordings do not depend on the front end.
        environment: Versions and devices that engines are built with, by name, in words.
        unreached: Which weights of the network no mask reaches, in words; empty if there are none.
    """

    data: EvaluationData
    trial_list: str
    digests: Mapping[str, str]
    environment: Mapping[str, str]
    unreached: str


class EvaluationListener:
    """Hears of the evaluation of a mask, in the order of the methods; what is not overridden does nothing."""

    def inputs_known(self, inputs: MeasuredOn) -> None:
        """Recordings are read and ranges known; the mask's engine is built next."""

    def finished(self, result: Result) -> None:
        """The mask is measured and compared, and all that it leaves is in its folder."""
