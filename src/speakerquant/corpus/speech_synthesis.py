"""Speech from espeak-ng with random voices.

espeak-ng keeps global state from one utterance to the next, for which it has no reset. So that a voice
is reproducible whatever was synthesised before, each :class:`Synthesizer` loads a copy of the library.
"""

import ctypes
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Self

import numpy as np
from numpy.random import Generator

from speakerquant.audio.waveform import Waveform
from speakerquant.errors import UserError, first_line

_AUDIO_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_DONT_EXIT = 1 << 15
_CHARS_UTF8 = 1
_POSITION_CHARACTER = 1
_PARAMETER_RATE = 1

_LANGUAGES = (
    ("en-us", 6),
    ("en-gb", 4),
    ("en-gb-scotland", 2),
    ("en-gb-x-rp", 2),
    ("en-029", 2),
    ("de", 1),
    ("es", 1),
    ("it", 1),
    ("nl", 1),
    ("pl", 1),
    ("pt", 1),
    ("sv", 1),
)
"""Languages with their weights. Read aloud with English words, the foreign ones are accents."""

_WORDS = (  # noqa: SIM905
    "about above across after again against air all along already also always among animal answer apple "
    "arm around ask autumn away baby back ball bank basket beautiful because become bed before begin "
    "behind below between big bird black blue boat body book both bottle bread bridge bright bring "
    "brother brown build busy call camera candle careful carry castle cat centre change cheap chicken "
    "child choose city clean clear climb clock close cloud coat coffee cold colour common corner count "
    "country cover cross cup dance dark daughter deep different dinner distance doctor door double down "
    "dream dress drink drive early earth east easy eight electric eleven empty engine enough evening "
    "every example eye face fall family famous far farm father feather few field fifty find finger fire "
    "first fish five floor flower follow food foot forest forget forty forward four fresh friday friend "
    "from fruit full garden gentle girl give glass gold good grass great green ground grow guess half "
    "hammer hand happy hard heart heavy help high hill history hold holiday horse hospital hour house "
    "hundred idea island january journey july jump keep kitchen knife know ladder lake language large "
    "last late laugh learn leave left letter light listen little long look loud low machine make many "
    "market measure meat meeting middle milk minute monday money month moon morning mother mountain mouth "
    "music narrow nature near never new next night nine noise north nothing november number ocean office "
    "often old open orange order other over paint paper pass pencil people perhaps person picture place "
    "plant play please point police potato power pretty pull purple push question quick quiet rain read "
    "ready red remember rest rich right river road rock room round run salt sand saturday say school "
    "science sea season second see sell send september seven several shape sheep ship shirt short "
    "shoulder show side silver simple sing sister six sleep slow small smile snow soft some song sound "
    "south speak spoon spring square stand star start station stay stone stop store storm story straight "
    "street strong sugar summer sun sweet swim table tail take tall tea teacher tell ten thank thick "
    "thing think thirty thousand three through thursday time today together tomorrow tonight tooth touch "
    "toward town train travel tree trouble true tuesday turn twelve twenty two under until use useful "
    "valley village visit voice wait walk wall warm wash watch water wave weather wednesday week west "
    "wheel when where which white why wide wild win wind window winter with without woman wonder wood "
    "word work world worry write wrong year yellow yes yesterday young zero "
).split()


@dataclass(frozen=True)
class Voice:
    """An espeak-ng voice; pitches are in Hz, and formants in percent of those of the language."""

    language: str
    pitch: float
    pitch_range: float
    formant_frequencies: tuple[float, ...]
    formant_strengths: tuple[float, ...]
    formant_widths: tuple[float, ...]
    tilt: tuple[float, ...]
    flutter: int
    roughness: int
    voicing: int
    words_per_minute: int

    def definition(self) -> str:
        """The voice in espeak-ng's voice-file syntax."""
        formants = zip(self.formant_frequencies, self.formant_strengths, self.formant_widths, strict=True)
        bands = (600, 1200, 2000, 3000)
        tone = " ".join(f"{band} {gain:.0f}" for band, gain in zip(bands, self.tilt, strict=True))
        return "\n".join(
            [
                f"language {self.language}",
                "name synthetic",
                f"pitch {self.pitch:.0f} {self.pitch + self.pitch_range:.0f}",
                *(f"formant {i} {f:.0f} {s:.0f} {w:.0f}" for i, (f, s, w) in enumerate(formants)),
                f"tone {tone} -1 0",
                f"flutter {self.flutter}",
                f"roughness {self.roughness}",
                f"voicing {self.voicing}",
                "",
            ]
        )


def random_voice(rng: Generator) -> Voice:
    """Return a voice between a deep and a high one, whose vocal-tract length goes loosely with its pitch."""
    weights = np.array([weight for _, weight in _LANGUAGES], dtype=np.float64)
    language = _LANGUAGES[rng.choice(len(_LANGUAGES), p=weights / weights.sum())][0]
    height = rng.uniform(-1.0, 1.0)
    pitch = 120.0 * 2.0 ** (0.75 * height + rng.normal(0.0, 0.12))
    tract = 100.0 * 1.17 ** (height * 0.6 + rng.uniform(-0.6, 0.6))
    return Voice(
        language=language,
        pitch=pitch,
        pitch_range=pitch * rng.uniform(0.1, 0.6),
        formant_frequencies=tuple(tract * rng.uniform(0.92, 1.08, 9)),
        formant_strengths=tuple(rng.uniform(70.0, 130.0, 9)),
        formant_widths=tuple(rng.uniform(75.0, 150.0, 9)),
        tilt=tuple(np.array([170.0, 135.0, 110.0, 90.0]) * rng.uniform(0.7, 1.3, 4)),
        flutter=int(rng.integers(0, 12)),
        roughness=int(rng.integers(0, 4)),
        voicing=int(rng.integers(70, 131)),
        words_per_minute=int(rng.integers(130, 200)),
    )


def random_sentence(rng: Generator) -> str:
    """Return six to twelve random words, so that recordings do not share their text."""
    return " ".join(rng.choice(_WORDS, rng.integers(6, 13)))


class Synthesizer:
    """An instance of espeak-ng with a state of its own, used as a context manager.

    Raises:
        UserError: the optional package that brings espeak-ng is not installed.
    """

    def __init__(self) -> None:
        loader = import_espeak()
        with tempfile.TemporaryDirectory() as folder:
            try:
                self._library = ctypes.CDLL(shutil.copy(loader.get_library_path(), folder))
            except OSError as error:
                raise UserError(
                    f"espeak-ng cannot be loaded ({first_line(error)}); set TMPDIR to a folder that programs "
                    "may run from"
                ) from None
        data = os.fsencode(loader.get_data_path())
        self.sample_rate: int = self._library.espeak_Initialize(
            _AUDIO_OUTPUT_SYNCHRONOUS, 0, data, _INITIALIZE_DONT_EXIT
        )
        if self.sample_rate <= 0:
            raise UserError(
                "espeak-ng does not start; reinstall it with: pip install --force-reinstall espeakng-loader"
            )
        self._chunks: list[np.ndarray[tuple[int], np.dtype[np.int16]]] = []
        callback_type = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
        )
        self._callback = callback_type(self._collect)  # kept alive for as long as the library may call it
        self._library.espeak_SetSynthCallback(self._callback)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._library.espeak_Terminate()

    def speak(self, text: str, voice: Voice) -> Waveform:
        """Return the text as speech ``[samples]`` in [-1, 1] at :attr:`sample_rate` Hz."""
        with tempfile.TemporaryDirectory() as folder:
            definition = Path(folder) / "voice"
            definition.write_text(voice.definition(), encoding="utf-8")
            self._library.espeak_SetVoiceByFile(os.fsencode(definition))
        self._library.espeak_SetParameter(_PARAMETER_RATE, voice.words_per_minute, 0)
        self._chunks.clear()
        encoded = text.encode()
        self._library.espeak_Synth(
            encoded, len(encoded) + 1, 0, _POSITION_CHARACTER, 0, _CHARS_UTF8, None, None
        )
        self._library.espeak_Synchronize()
        samples = np.concatenate(self._chunks).astype(np.float32)
        return samples / np.float32(32768.0)

    def _collect(self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, _events: int | None) -> int:
        if samples and count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, shape=(count,)).copy())
        return 0


def import_espeak() -> ModuleType:
    """Import the optional package ``espeakng_loader``.

    Raises:
        UserError: it is not installed.
    """
    try:
        import espeakng_loader
    except ImportError:
        raise UserError(
            "the synthetic corpus needs espeak-ng; pip install -e '.[synthetic]' in speakerquant's folder"
        ) from None
    module: ModuleType = espeakng_loader
    return module
