"""The front end that an ONNX file says it was trained with, by the keys that sherpa-onnx reads."""

from collections.abc import Mapping

from speakerquant.audio.front_end import FrontEnd, FrontEndKind, Window
from speakerquant.errors import UserError

_FRAMEWORKS = ("wespeaker", "3d-speaker")
_SAY_IT = "choose model/front_end=wespeaker, three_d_speaker, speechbrain or log_mel"


def front_end_of(metadata: Mapping[str, str], n_mels: int) -> FrontEnd:
    """Kaldi's filter bank as sherpa-onnx computes it: Povey window, 20 Hz to 400 Hz below the highest.

    ``normalize_samples`` 0 means waveforms as 16-bit integers; a missing ``feature_normalize_type`` means
    that the mean is left in. Keys and meanings: sherpa-onnx, ``csrc/speaker-embedding-extractor-*``.

    Raises:
        UserError: the metadata says nothing of features, or of features that are unknown here.
    """
    if "sample_rate" not in metadata or "normalize_samples" not in metadata:
        raise UserError(f"it has no metadata of sherpa-onnx; {_SAY_IT}")
    framework = metadata.get("framework", _FRAMEWORKS[0])
    if framework not in _FRAMEWORKS:
        raise UserError(f"its metadata says framework {framework}, whose features are unknown; {_SAY_IT}")
    normalised = metadata.get("feature_normalize_type", "")
    if normalised not in ("", "global-mean"):
        raise UserError(f"its metadata says feature_normalize_type {normalised}, which is unknown; {_SAY_IT}")
    try:
        sample_rate, scaled = int(metadata["sample_rate"]), bool(int(metadata["normalize_samples"]))
    except ValueError:
        raise UserError(f"sample_rate or normalize_samples in its metadata is no number; {_SAY_IT}") from None
    win_length = sample_rate * 25 // 1000
    return FrontEnd(
        kind=FrontEndKind.kaldi,
        sample_rate=sample_rate,
        n_fft=1 << (win_length - 1).bit_length(),
        win_length=win_length,
        hop_length=sample_rate // 100,
        n_mels=n_mels,
        f_max=sample_rate / 2 - 400,
        window=Window.povey,
        waveform_scale=1.0 if scaled else 32768.0,
        subtract_mean=bool(normalised),
    )
