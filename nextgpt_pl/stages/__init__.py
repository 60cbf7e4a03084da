"""The training stages, one LightningModule each."""

from nextgpt_pl.stages.decoder_alignment import DecoderAlignment

__all__ = ["DecoderAlignment"]
