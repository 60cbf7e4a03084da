"""Classifies audio of the pocket world from its spectrogram and envelope."""

from __future__ import annotations

import numpy as np

from nextgpt_pl.pocket.world.scenes import HIGHEST_GLIDE, PITCHES, SAMPLE_RATE, AudioScene

_FFT, _HOP = 2048, 256
_LOWEST = 90.0  # hertz; below all frequencies of the world
_TREMOLO_RATE = 5.0  # hertz
_BEAT = 30.0  # hertz; two close partials that beat count as one tone
_SILENCE = 1e-4  # root mean square
# timbres differ in the amplitude at these multiples of the fundamental
_MULTIPLES = (2.0, 2.76, 3.0, 5.4)
_PROTOTYPES = {
    "sine": (0.0, 0.0, 0.0, 0.0),
    "square wave": (0.0, 0.0, 0.33, 0.0),
    "bell": (0.0, 0.6, 0.0, 0.3),
    "pluck": (0.5, 0.0, 0.33, 0.0),
}


def _spectrogram(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Magnitudes ``(frames, bins)``, bin frequencies in hertz, frame times in seconds."""
    padded = np.pad(samples.astype(float), _FFT // 2)
    starts = np.arange(0, len(padded) - _FFT + 1, _HOP)
    frames = padded[starts[:, None] + np.arange(_FFT)] * np.hanning(_FFT)
    return np.abs(np.fft.rfft(frames)), np.fft.rfftfreq(_FFT, 1 / SAMPLE_RATE), starts / SAMPLE_RATE


def _fundamentals(magnitudes: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    """Per frame the lowest strong peak in hertz, refined between bins."""
    usable = magnitudes * (frequencies > _LOWEST)
    strong = usable >= 0.55 * usable.max(axis=1, keepdims=True)
    first = strong.argmax(axis=1)
    # move to the maximum of that peak
    rows = np.arange(len(usable))
    for _ in range(4):
        step = np.stack([usable[rows, np.clip(first + d, 0, usable.shape[1] - 1)] for d in (-1, 0, 1)]).argmax(0) - 1
        first = np.clip(first + step, 1, usable.shape[1] - 2)
    left, top, right = (np.log(usable[rows, first + d] + 1e-9) for d in (-1, 0, 1))
    shift = 0.5 * (left - right) / np.minimum(left - 2 * top + right, -1e-9)
    return (first + np.clip(shift, -0.5, 0.5)) * SAMPLE_RATE / _FFT


def _band(magnitudes: np.ndarray, frequencies: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Magnitudes within per-frame bands, zero elsewhere."""
    return magnitudes * ((frequencies >= low[:, None]) & (frequencies <= high[:, None]))


def _envelope(samples: np.ndarray, window: int = 256) -> np.ndarray:
    usable = samples[: len(samples) // window * window].astype(float)
    return np.sqrt(np.square(usable.reshape(-1, window)).mean(axis=1) + 1e-12)


def _mean(envelope: np.ndarray, start: float, stop: float) -> float:
    per_second = SAMPLE_RATE / 256
    return float(np.square(envelope[int(start * per_second) : int(stop * per_second)]).mean())


def _is_beeps(envelope: np.ndarray) -> bool:
    loud = min(_mean(envelope, 0.03, 0.4), _mean(envelope, 1.03, 1.4))
    quiet = max(_mean(envelope, 0.62, 0.93), _mean(envelope, 1.62, 1.93))
    return loud > 8 * quiet


def _is_tremolo(envelope: np.ndarray) -> bool:
    per_second = SAMPLE_RATE / 256
    period = round(per_second / _TREMOLO_RATE)
    # divide the envelope by its mean over one period, to remove the decay
    trend = np.convolve(envelope, np.ones(period) / period, mode="valid")
    relative = envelope[period // 2 : period // 2 + len(trend)] / (trend + 1e-9)
    relative = relative[trend > 0.03 * trend.max()]
    t = np.arange(len(relative)) / per_second
    return len(t) > 2 * period and 2 * abs(np.mean(relative * np.exp(-2j * np.pi * _TREMOLO_RATE * t))) > 0.45


def _slope(log_pitch: np.ndarray, times: np.ndarray, weights: np.ndarray) -> float:
    """Octaves per second, by weighted least squares; outliers are dropped once."""
    for _ in range(2):
        slope, offset = np.polyfit(times, log_pitch, 1, w=np.sqrt(weights))
        off = np.abs(log_pitch - slope * times - offset)
        keep = off <= max(0.08, 2 * float(np.median(off)))
        times, log_pitch, weights = times[keep], log_pitch[keep], weights[keep]
    return float(slope)


def _energy(magnitudes: np.ndarray, frequencies: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """Amplitude within per-frame bands, averaged over frames."""
    return float(np.sqrt(np.square(_band(magnitudes, frequencies, low, high)).sum(axis=1)).mean())


def _timbre(magnitudes: np.ndarray, frequencies: np.ndarray, pitch: np.ndarray) -> str:
    # energy of a band instead of its highest peak, since vocoders spread a partial over neighbouring bins
    fundamental = _energy(magnitudes, frequencies, pitch * 0.97 - 8, pitch * 1.03 + 8)
    ratios = []
    for multiple in _MULTIPLES:
        center = pitch * multiple
        ratios.append(_energy(magnitudes, frequencies, center * 0.97 - 8, center * 1.03 + 8) / (fundamental + 1e-9))
    # the world's audio has no partials above half the sampling rate, so these are ignored
    audible = np.array(_MULTIPLES) * float(np.median(pitch)) < SAMPLE_RATE / 2 / HIGHEST_GLIDE
    return min(_PROTOTYPES, key=lambda name: float(np.square(ratios - np.array(_PROTOTYPES[name]))[audible].sum()))


def judge_audio(samples: np.ndarray) -> AudioScene | None:
    """Classify audio ``(n,)`` float at 16 kHz; ``None`` for silence, or for a pitch that the world does not have."""
    if len(samples) < SAMPLE_RATE or np.sqrt(np.square(samples, dtype=float).mean()) < _SILENCE:
        return None
    magnitudes, frequencies, times = _spectrogram(samples)
    power = np.square(magnitudes)
    loud = power.sum(axis=1)
    active = loud > 0.02 * np.percentile(loud, 95)
    magnitudes, power, times, loud = magnitudes[active], power[active], times[active], loud[active]
    pitch = _fundamentals(magnitudes, frequencies)
    near, around = (
        np.square(_band(magnitudes, frequencies, pitch * (1 - w) - _BEAT, pitch * (1 + w) + _BEAT)).sum(axis=1)
        for w in (0.05, 0.45)
    )
    noisy = float(np.median(near / (around + 1e-12))) < 0.72
    if noisy:
        # a noise band has a centre of mass instead of a peak
        usable = power * (frequencies > _LOWEST)
        pitch = (usable * frequencies).sum(axis=1) / (usable.sum(axis=1) + 1e-12)
        spread = np.sqrt((usable * np.square(frequencies - pitch[:, None])).sum(axis=1) / (usable.sum(axis=1) + 1e-12))
        if float(np.median(spread / pitch)) > 0.6:
            return None
    center = float(np.exp2(np.median(np.log2(pitch))))
    name = min(PITCHES, key=lambda p: abs(np.log2(center / PITCHES[p])))
    if abs(np.log2(center / PITCHES[name])) > 0.75:
        return None
    envelope = _envelope(samples)
    # weighted by the root of the amplitude, so that the end of a decaying sound counts
    slope = _slope(np.log2(pitch), times, loud**0.25)
    if _is_beeps(envelope):
        pattern = "beeps"
    elif _is_tremolo(envelope):
        pattern = "tremolo"
    elif abs(slope) > 0.25:
        pattern = "rising" if slope > 0 else "falling"
    else:
        pattern = "steady"
    timbre = "noise" if noisy else _timbre(magnitudes, frequencies, pitch)
    return AudioScene(timbre, name, pattern)
