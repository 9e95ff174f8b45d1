"""The front end that sherpa-onnx computes for an ONNX file, by the keys that it reads."""

from collections.abc import Mapping

from speakerquant.audio.front_end import FrontEnd, FrontEndKind, Window
from speakerquant.errors import UserError

_FRAMEWORKS = ("wespeaker", "3d-speaker")
_MEAN = "global-mean"
CHOICE = "choose model/front_end=sherpa_onnx, wespeaker, three_d_speaker, speechbrain or log_mel"
"""What to do where the metadata does not say the features."""


def front_end_of(metadata: Mapping[str, str], n_mels: int) -> FrontEnd:
    """Kaldi's filter bank as sherpa-onnx computes it, whatever the network was trained on.

    That is with the Povey window, from 20 Hz to 400 Hz below the highest, frames reaching beyond the ends.
    ``normalize_samples`` 0 means waveforms as 16-bit integers; a missing ``feature_normalize_type`` means
    that the mean is left in. Keys and meanings: sherpa-onnx, ``csrc/speaker-embedding-extractor-*``.

    Raises:
        UserError: the metadata says nothing of features, or of features that are unknown here.
    """
    if "sample_rate" not in metadata or "normalize_samples" not in metadata:
        raise UserError(f"it has no metadata of sherpa-onnx; {CHOICE}")
    framework = metadata.get("framework", _FRAMEWORKS[0])
    if framework not in _FRAMEWORKS:
        raise UserError(f"its metadata says framework {framework}, whose features are unknown; {CHOICE}")
    normalised = metadata.get("feature_normalize_type", "")
    if normalised not in ("", _MEAN):
        raise UserError(f"its metadata says feature_normalize_type {normalised}, which is unknown; {CHOICE}")
    try:
        sample_rate, scaled = int(metadata["sample_rate"]), bool(int(metadata["normalize_samples"]))
    except ValueError:
        raise UserError(f"sample_rate or normalize_samples in its metadata is no number; {CHOICE}") from None
    win_length = sample_rate * 25 // 1000
    return FrontEnd(
        kind=FrontEndKind.kaldi,
        sample_rate=sample_rate,
        n_fft=1 << (win_length - 1).bit_length(),
        win_length=win_length,
        hop_length=sample_rate // 100,
        n_mels=n_mels,
        f_max=sample_rate / 2 - 400,
        center=True,
        window=Window.povey,
        waveform_scale=1.0 if scaled else 32768.0,
        subtract_mean=bool(normalised),
    )


def metadata_for(front_end: FrontEnd) -> dict[str, str]:
    """The metadata by which sherpa-onnx comes as near to a front end as it can."""
    scaled = front_end.waveform_scale == 1
    return {
        "framework": _FRAMEWORKS[scaled],
        "sample_rate": str(front_end.sample_rate),
        "normalize_samples": str(int(scaled)),
        "feature_normalize_type": _MEAN if front_end.subtract_mean else "",
    }
