"""The pocket speech encoder: a tiny Whisper encoder, trained from nothing with CTC on spoken requests.

The voice is that of a wheel, see :mod:`nextgpt_pl.pocket.spoken`. Held-out requests name pairs of colour and shape that
training never says.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextgpt_pl.encoders.ctc import BLANK, CtcEncoder, save_head
from nextgpt_pl.media.reading import array_of
from nextgpt_pl.metrics.word_errors import WordErrorRate, words_of
from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.pretrain.loop import PretrainTask, train
from nextgpt_pl.pocket.spoken import Reader, SpokenRequest
from nextgpt_pl.pocket.world.scenes import Split
from nextgpt_pl.samples import Media

_TRAIN, _HELD_OUT = 240, 48  # requests
_SECONDS, _RATE, _MELS = 4, 16_000, 40
_POSITIONS = 50 * _SECONDS
_SHIFT, _NOISE = 24, 0.1  # augmentation: frames, and standard deviation of spectrograms


class Transcribing(PretrainTask):
    """CTC of a Whisper encoder on the words of requests; spectrograms are shifted and have noise added.

    Args:
        steps: training steps.
        seed: of data, initialisation and noise.
        reader: reads the requests aloud.

    """

    batch_size = 16

    def __init__(self, *, steps: int, seed: int = 0, reader: Reader | None = None) -> None:
        from transformers import WhisperConfig, WhisperFeatureExtractor
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        super().__init__(steps=steps, lr=2e-3, seed=seed, warmup=50)
        self.processor = WhisperFeatureExtractor(feature_size=_MELS, chunk_length=_SECONDS)
        self._reader = reader or Reader()
        self.requests, self.spectrograms = self._read("train", _TRAIN)
        self.words = sorted({word for request in self.requests for word in words_of(request.text)})
        config = WhisperConfig(
            d_model=96,
            encoder_layers=2,
            encoder_attention_heads=4,
            encoder_ffn_dim=192,
            num_mel_bins=_MELS,
            max_source_positions=_POSITIONS,
            dropout=0.0,
        )
        self.model = WhisperEncoder(config)
        self.head = nn.Linear(config.d_model, 1 + len(self.words))

    def _read(self, split: Split, count: int) -> tuple[list[SpokenRequest], Tensor]:
        """Requests, and their spectrograms ``(N, mels, frames)``."""
        requests, sounds = [], []
        for request, file in self._reader.requests(split, count, self.seed):
            samples, _ = array_of(Media(Modality.SPEECH, file))
            requests.append(request)
            sounds.append(self.processor(samples, sampling_rate=_RATE, return_tensors="pt").input_features[0])
        return requests, torch.stack(sounds)

    def loss(self, rng: Random, generator: torch.Generator) -> Tensor:
        """Mean CTC loss per word."""
        chosen = [rng.randrange(len(self.requests)) for _ in range(self.batch_size)]
        sounds = torch.stack([self.spectrograms[i].roll(rng.randrange(_SHIFT), dims=-1) for i in chosen])
        noise = _NOISE * torch.randn(sounds.shape, generator=generator)
        states = self.model((sounds + noise).to(self.device)).last_hidden_state
        log_probs = self.head(states).log_softmax(-1).transpose(0, 1)
        labels = [[1 + self.words.index(w) for w in words_of(self.requests[i].text)] for i in chosen]
        lengths = torch.tensor([len(row) for row in labels])
        targets = torch.tensor([label for row in labels for label in row])
        frames = torch.full_like(lengths, _POSITIONS)
        return F.ctc_loss(log_probs, targets.to(self.device), frames, lengths, blank=BLANK)

    def save(self, folder: Path) -> None:
        """Write encoder, processor, head and words to a folder."""
        self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)
        save_head(self.head, self.words, folder)


def pretrain_speech(out: Path, work: Path, *, seed: int = 0, steps: int | None = None) -> None:
    """Train the encoder and write it to ``out / "speech"``."""
    task = Transcribing(steps=steps or 700, seed=seed)
    train(task, work, ema_decay=0.98)
    task.save(out / "speech")


def speech_quality(folder: Path, reader: Reader | None = None) -> dict[str, float]:
    """Word error rate on held-out requests, and their share without an error."""
    encoder = CtcEncoder(str(folder))
    encoder.load()
    rate, right = WordErrorRate(), []
    for request, file in (reader or Reader()).requests("heldout", _HELD_OUT):
        (heard,) = encoder.transcripts(encoder.prepare(Media(Modality.SPEECH, file))[None])
        rate.update([request.text], [heard])
        right.append(words_of(request.text) == heard.split())
    return {"items": float(len(right)), "word_error_rate": float(rate.compute()), "all_right": sum(right) / len(right)}
