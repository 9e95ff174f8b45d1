"""Random disturbances of speech: rooms, channels, noise and speed.

Waveforms are arrays ``[samples]``; every draw comes from the generator that the caller passes.
"""

import numpy as np
import scipy  # imports scipy.signal when it is used: that takes as long as PyTorch
from numpy.random import Generator

from speakerquant.audio.waveform import Waveform


def random_room(rng: Generator, sample_rate: int) -> Waveform:
    """Return a room impulse response: direct sound, then noise that falls by 60 dB within 0.1 to 0.7 s."""
    rt60 = rng.uniform(0.1, 0.7)
    length = int(rt60 * sample_rate)
    decay = 10.0 ** (-3.0 * np.arange(length) / length)
    tail = rng.standard_normal(length) * decay
    tail[: int(rng.uniform(0.001, 0.02) * sample_rate)] = 0.0  # the first reflection comes late
    direct_to_reverberant_db = rng.uniform(-2.0, 12.0)
    tail *= 10.0 ** (-direct_to_reverberant_db / 20.0) / np.sqrt(np.sum(tail**2) + 1e-12)
    tail[0] = 1.0
    return tail.astype(np.float32)


def reverberate(waveform: Waveform, room: Waveform) -> Waveform:
    """Return the waveform as it sounds in the room, with the same length and its direct sound in place."""
    wet: Waveform = scipy.signal.fftconvolve(waveform, room)[: len(waveform)].astype(np.float32)
    return wet


def random_channel(rng: Generator, sample_rate: int) -> Waveform:
    """Return a linear-phase filter: a smooth random equaliser, sometimes limited to the telephone band."""
    nyquist = sample_rate / 2
    anchors = np.array([0.0, 120.0, 300.0, 800.0, 2000.0, 3500.0, 5500.0, nyquist])
    gains_db = rng.normal(0.0, 4.0, len(anchors))
    frequencies = np.linspace(0.0, nyquist, 129)
    response_db = np.interp(frequencies, anchors, gains_db)
    if rng.random() < 0.25:
        low, high = rng.uniform(150.0, 350.0), rng.uniform(3200.0, 4500.0)
        response_db[(frequencies < low) | (frequencies > high)] -= 30.0
    response = 10.0 ** (response_db / 20.0)
    taps: Waveform = scipy.signal.firwin2(257, frequencies, response, fs=sample_rate).astype(np.float32)
    return taps


def pass_channel(waveform: Waveform, taps: Waveform) -> Waveform:
    """Return the waveform after the filter, with the same length."""
    filtered: Waveform = scipy.signal.fftconvolve(waveform, taps, mode="same").astype(np.float32)
    return filtered


def random_noise(rng: Generator, length: int) -> Waveform:
    """Return noise with a random spectral slope (0 to 6 dB per octave down) and slowly varying loudness."""
    spectrum = np.fft.rfft(rng.standard_normal(length))
    slope = rng.uniform(0.0, 2.0)
    spectrum *= np.maximum(np.arange(len(spectrum)), 1.0) ** (-slope / 2.0)
    noise = np.fft.irfft(spectrum, length)
    anchors = rng.uniform(0.3, 1.0, 6)
    noise *= np.interp(np.linspace(0.0, 5.0, length), np.arange(6), anchors)
    return noise.astype(np.float32)


def mix_at_snr(waveform: Waveform, noise: Waveform, snr_db: float) -> Waveform:
    """Return the waveform with noise of the same length added at the given signal-to-noise ratio."""
    signal_power = float(np.mean(np.square(waveform))) + 1e-12
    noise_power = float(np.mean(np.square(noise))) + 1e-12
    gain = np.float32(np.sqrt(signal_power / noise_power * 10.0 ** (-snr_db / 10.0)))
    return waveform + gain * noise


def change_speed(waveform: Waveform, percent: int) -> Waveform:
    """Return the waveform played at ``percent`` of its speed; pitch and formants move with the speed."""
    if percent == 100:
        return waveform
    changed: Waveform = scipy.signal.resample_poly(waveform, 100, percent).astype(np.float32)
    return changed


def normalize_peak(waveform: Waveform) -> Waveform:
    """Return the waveform scaled so that its largest magnitude is 0.9; silence stays silence."""
    largest = float(np.abs(waveform).max(initial=0.0))
    return waveform * np.float32(0.9 / largest) if largest > 0.0 else waveform
