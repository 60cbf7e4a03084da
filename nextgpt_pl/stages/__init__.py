"""The training stages, one LightningModule each."""

from nextgpt_pl.stages.decoder_alignment import DecoderAlignment
from nextgpt_pl.stages.encoder_alignment import EncoderAlignment
from nextgpt_pl.stages.instruction_tuning import InstructionTuning

__all__ = ["DecoderAlignment", "EncoderAlignment", "InstructionTuning"]
