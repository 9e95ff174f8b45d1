"""The engine of a run as a model in MLflow's registry, ready to be served."""

import base64
import io

import numpy as np
import soundfile

from speakerquant.commands.engine_files import download_engine, folder_for_copies, recorded_run
from speakerquant.configuration.tracking_schema import RegisterConfig
from speakerquant.errors import UserError
from speakerquant.tracking.registry import Interface, register_model
from speakerquant.verification import served_verifier
from speakerquant.verification.verifier import Verifier, checked_threshold, known_threshold

_EXAMPLE_SECONDS = 0.5


def register(config: RegisterConfig) -> None:
    """Register the engine of the run ``config.run`` and print the address of the model.

    Raises:
        UserError: two thresholds are asked for, or one that is no cosine; or there is no such run, it has
            lost its files, or the engine cannot be loaded here.
    """
    if None not in (config.threshold, config.false_accepts):
        raise UserError(
            f"threshold={config.threshold:g} false_accepts={config.false_accepts:g}: give one of them; the "
            "second tells a threshold, too"
        )
    run = recorded_run(config.run, config.tracking.uri)
    with folder_for_copies(f"runs:/{run.run_id}") as folder:
        files = folder / "engine"
        files.mkdir()
        engine = download_engine(run, files)
        if config.threshold is None:
            threshold = known_threshold(engine, config.false_accepts)
        else:
            threshold = checked_threshold(config.threshold)
        with Verifier.load(engine) as verifier:
            sample_rate = verifier.front_end.sample_rate
        interface = Interface(
            served_verifier.__name__,
            [served_verifier.ENROLLED, served_verifier.TESTED],
            {
                served_verifier.SCORE: "double",
                served_verifier.SAME_SPEAKER: "boolean",
                served_verifier.RATIO: "double",
                served_verifier.DOUBT: "string",
            },
            [served_verifier.RATIO, served_verifier.DOUBT],
            {served_verifier.THRESHOLD: threshold},
            dict.fromkeys((served_verifier.ENROLLED, served_verifier.TESTED), _example(sample_rate)),
        )
        version = register_model(run.tracking, run.run_id, files, interface, config.name, config.alias)
    print(f"models:/{config.name}{f'@{config.alias}' if config.alias else f'/{version}'}")
    print(f"version {version}, threshold {threshold:.6f}")


def _example(sample_rate: int) -> str:
    """A recording as requests give it: half a second of a tone, in base64."""
    file = io.BytesIO()
    tone = 0.5 * np.sin(2 * np.pi * 200 * np.arange(round(_EXAMPLE_SECONDS * sample_rate)) / sample_rate)
    soundfile.write(file, tone, sample_rate, format="FLAC")
    return base64.b64encode(file.getvalue()).decode()
