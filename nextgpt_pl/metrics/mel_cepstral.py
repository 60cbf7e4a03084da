"""Mel-cepstral distance of sounds, by the package mel-cepstral-distance (extra ``metrics``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nextgpt_pl.errors import UserError


def mel_cepstral_distances(files: Sequence[Path], references: Sequence[Path]) -> list[float]:
    """Mel-cepstral distance of each pair of audio files, in decibels.

    Raises:
        UserError: the package or a file is missing.

    """
    try:
        from mel_cepstral_distance import compare_audio_files
    except ImportError as error:
        raise UserError("MCD: pip install 'nextgpt-pl[metrics]' (mel-cepstral-distance)") from error
    for file in (*files, *references):
        if not file.is_file():
            raise UserError(f"MCD: {file}: no such file")
    return [float(compare_audio_files(a, b)[0]) for a, b in zip(files, references, strict=True)]
