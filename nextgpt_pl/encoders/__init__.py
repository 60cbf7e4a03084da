"""Frozen encoders: media to features."""

from nextgpt_pl.encoders.base import Encoder
from nextgpt_pl.encoders.clip_clap import ClipClapEncoder
from nextgpt_pl.encoders.ctc import CtcEncoder
from nextgpt_pl.encoders.imagebind_encoder import ImageBindEncoder
from nextgpt_pl.encoders.mixed import MixedEncoder
from nextgpt_pl.encoders.pretrained import PretrainedEncoder

__all__ = ["ClipClapEncoder", "CtcEncoder", "Encoder", "ImageBindEncoder", "MixedEncoder", "PretrainedEncoder"]
