"""The families of public checkpoints, and the front end that each was trained on."""

from collections.abc import Mapping
from enum import StrEnum

from speakerquant.audio.front_end import FrontEnd, FrontEndKind, Window

AUTO = "auto"
"""In place of a family's name: the names of the checkpoint's layers tell which family it is."""


class Family(StrEnum):
    """The software that a checkpoint was trained with."""

    speechbrain = "speechbrain"
    three_d_speaker = "three_d_speaker"
    wespeaker = "wespeaker"
    voxceleb_trainer = "voxceleb_trainer"
    pyannote = "pyannote"


_WESPEAKER = FrontEnd(FrontEndKind.kaldi, f_max=8000.0, waveform_scale=32768.0)
FRONT_ENDS: Mapping[Family, FrontEnd] = {
    Family.speechbrain: FrontEnd(FrontEndKind.speechbrain, n_fft=400, f_min=0.0, f_max=8000.0),
    Family.three_d_speaker: FrontEnd(FrontEndKind.kaldi, f_max=8000.0, window=Window.povey),
    Family.wespeaker: _WESPEAKER,
    Family.voxceleb_trainer: FrontEnd(center=True),
    Family.pyannote: _WESPEAKER,
}
"""The front end of each family; every one subtracts the mean over the recording."""
