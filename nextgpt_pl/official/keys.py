"""Names of weights in official NExT-GPT checkpoints and in this package, as one table of rules for both directions.

A rule maps an official key to one or several keys of this package. ``{n}`` matches a number, ``{rest}`` any text. One
official tensor is split into several along its first axis; the inverse is a concatenation, which is bit-equal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import GENERATED, MODALITIES, Modality

Format = Literal["legacy", "v2"]
FORMATS: tuple[Format, ...] = ("legacy", "v2")
# tokens that the official code adds before the signal tokens; both formats add the signal tokens last
EXTRA_TOKENS: dict[Format, tuple[str, ...]] = {"legacy": ("<Img>", "</Img>"), "v2": ()}
SIGNAL_ROWS = sum(MODALITIES[modality].num_signal_tokens for modality in GENERATED)
#: the official code has one input projection for all media, like NextGPT(share_input_projection=True)
SHARED_INPUT = "input_projections.all"


def _pattern(template: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", template)
    names = {"rest": r".+"}
    body = "".join(
        re.escape(part) if i % 2 == 0 else f"(?P<{part}>{names.get(part, r'[0-9]+')})" for i, part in enumerate(parts)
    )
    return re.compile(body)


@dataclass(frozen=True)
class Rule:
    """One row of the table: an official key, and this package's keys for the parts of its tensor."""

    official: str
    ours: tuple[str, ...]

    @cached_property
    def official_pattern(self) -> re.Pattern[str]:
        """Matches official keys."""
        return _pattern(self.official)

    @cached_property
    def our_patterns(self) -> tuple[re.Pattern[str], ...]:
        """Match our keys, part by part."""
        return tuple(_pattern(template) for template in self.ours)


def _rule(official: str, *ours: str) -> Rule:
    return Rule(official, ours)


def _vocabulary(embedding: str, head: str) -> list[Rule]:
    pairs = ((embedding, "llm.model.model.embed_tokens"), (head, "llm.model.lm_head"))
    return [_rule(official, f"{ours}.base.weight", f"{ours}.rows") for official, ours in pairs]


def _lora(official: str, suffix: str) -> list[Rule]:
    # two levels below a layer: self_attn.q_proj, mlp.down_proj
    names = [("self_attn", n) for n in "qkvo"] + [("mlp", n) for n in ("gate", "up", "down")]
    return [
        _rule(
            f"{official}{{n}}.{block}.{name}_proj.lora_{side}{suffix}.weight",
            f"llm.model.model.layers.{{n}}.{block}.{name}_proj.lora_{side}.default.weight",
        )
        for block, name in names
        for side in "AB"
    ]


def _qformer(official: str, ours: str) -> list[Rule]:
    layer, our_layer = f"{official}encoder.layer.{{n}}.", f"{ours}encoder.layer.{{n}}."
    return [
        _rule(f"{official}embeddings.LayerNorm.{{rest}}", f"{ours}layernorm.{{rest}}"),
        *(_rule(f"{layer}{a}.self.{{rest}}", f"{our_layer}{a}.attention.{{rest}}") for a in _ATTENTIONS),
        *(_rule(f"{layer}{a}.output.{{rest}}", f"{our_layer}{a}.output.{{rest}}") for a in _ATTENTIONS),
        *(_rule(f"{layer}{a}.{{rest}}", f"{our_layer}{a}.{{rest}}") for a in ("intermediate_query", "output_query")),
    ]


_ATTENTIONS = ("attention", "crossattention")


def _output(official: str, modality: Modality, first: str, last: str) -> list[Rule]:
    ours = f"output_projections.{modality}."
    return [
        _rule(f"{official}{first}.{{rest}}", f"{ours}fc.{{rest}}"),
        _rule(f"{official}{last}.{{rest}}", f"{ours}model.{{rest}}"),
        _rule(f"{official}query_embs", f"{ours}query_embs"),
        _rule(f"{official}query_tokens", f"{ours}query_tokens"),
        _rule(f"{official}tfm.{{rest}}", f"{ours}tfm.{{rest}}"),
        *_qformer(f"{official}Qformer.bert.", f"{ours}qformer."),
    ]


def _grouping(official: str, ours: str) -> list[Rule]:
    block, our_block = f"{official}layers.{{s}}.blocks.{{n}}.", f"{ours}layers.{{s}}.layers.{{n}}."
    assign, our_assign = (f"{p}layers.{{s}}.downsample.pre_assign_attn." for p in (official, ours))
    return [
        *(_rule(f"{official}{part}.{{rest}}", f"{ours}{part}.{{rest}}") for part in ("in_fc", "norm", "out_fc")),
        _rule(f"{official}layers.{{s}}.group_token", f"{ours}layers.{{s}}.group_token"),
        _rule(f"{official}layers.{{s}}.group_projector.{{rest}}", f"{ours}layers.{{s}}.group_projector.{{rest}}"),
        _rule(f"{block}attn.qkv.weight", *(f"{our_block}self_attn.{part}_proj.weight" for part in "qkv")),
        _rule(f"{block}attn.proj.{{rest}}", f"{our_block}self_attn.out_proj.{{rest}}"),
        *(_rule(f"{block}norm{i}.{{rest}}", f"{our_block}layer_norm{i}.{{rest}}") for i in (1, 2)),
        _rule(f"{block}mlp.{{rest}}", f"{our_block}mlp.{{rest}}"),
        _rule(f"{assign}attn.proj.{{rest}}", f"{our_assign}attn.out_proj.{{rest}}"),
        _rule(f"{official}layers.{{s}}.downsample.{{rest}}", f"{ours}layers.{{s}}.downsample.{{rest}}"),
    ]


def _v2(prefix: str) -> list[Rule]:
    model, ours = f"{prefix}model.", f"{SHARED_INPUT}."
    names = {Modality.IMAGE: "img", Modality.VIDEO: "vid", Modality.AUDIO: "aud"}
    return [
        *_vocabulary(f"{model}embed_tokens.weight", f"{prefix}lm_head.weight"),
        *_grouping(f"{model}mm_input_projector.", ours),
        _rule(f"{model}mm_input_projector.layer.{{n}}.{{rest}}", f"{ours}mlp.{{n}}.{{rest}}"),
        *(_rule(f"{model}mm_input_projector.{part}", f"{ours}linear.{part}") for part in ("weight", "bias")),
        *(r for m, n in names.items() for r in _output(f"{model}mm_output_{n}_projector.", m, "in_fc", "out_fc")),
    ]


def _legacy(vocabulary: str) -> list[Rule]:
    suffixes = {Modality.IMAGE: "", Modality.VIDEO: "_video", Modality.AUDIO: "_audio"}
    return [
        *_vocabulary(f"{vocabulary}model.embed_tokens.weight", f"{vocabulary}lm_head.weight"),
        *(_rule(f"llama_proj.{part}", f"{SHARED_INPUT}.linear.{part}") for part in ("weight", "bias")),
        *(r for m, s in suffixes.items() for r in _output(f"gen_text_hidden_fcs{s}.0.", m, "fc", "model")),
    ]


_PEFT = "base_model.model."
#: rules per format, without LoRA and with LoRA
RULES: dict[Format, tuple[list[Rule], list[Rule]]] = {
    "legacy": (
        _legacy("llama_model."),
        _legacy(f"llama_model.{_PEFT}") + _lora(f"llama_model.{_PEFT}model.layers.", ".default"),
    ),
    "v2": (_v2(""), _v2(_PEFT) + _lora(f"{_PEFT}model.layers.", "")),
}


def our_names(key: str, kind: Format) -> tuple[str, ...] | None:
    """The keys of an official tensor in this package; ``None`` if no rule matches."""
    for rules in RULES[kind]:
        for rule in rules:
            match = rule.official_pattern.fullmatch(key)
            if match:
                return tuple(template.format(**match.groupdict()) for template in rule.ours)
    return None


def official_name(key: str, kind: Format, lora: bool) -> tuple[str, int, int] | None:
    """The official key of a key, the index of its part, and the number of parts; ``None`` if no rule matches."""
    for rule in RULES[kind][lora]:
        for part, pattern in enumerate(rule.our_patterns):
            match = pattern.fullmatch(key)
            if match:
                return rule.official.format(**match.groupdict()), part, len(rule.ours)
    return None


def parts_of(key: str, tensor: Tensor, names: tuple[str, ...]) -> list[Tensor]:
    """Split an official tensor into copies for the keys ``names``.

    Raises:
        UserError: a vocabulary has fewer rows than there are signal tokens.

    """
    if len(names) == 1:
        return [tensor.detach().clone().contiguous()]
    if names[-1].endswith(".rows"):
        if tensor.shape[0] <= SIGNAL_ROWS:
            raise UserError(f"{key}: {tensor.shape[0]} rows; the last {SIGNAL_ROWS} of a vocabulary are signal tokens")
        pieces: Iterable[Tensor] = tensor.split([tensor.shape[0] - SIGNAL_ROWS, SIGNAL_ROWS])
    else:
        pieces = tensor.chunk(len(names))
    return [piece.detach().clone().contiguous() for piece in pieces]


def to_official(tensors: Mapping[str, Tensor], kind: Format) -> dict[str, Tensor]:
    """Convert tensors to the official names.

    Raises:
        UserError: the format has no name for a tensor, or a part of an official tensor is missing.

    """
    lora = any(".lora_" in key for key in tensors)
    parts_by_name: dict[str, dict[int, Tensor]] = {}
    counts, unsupported = {}, []
    for key, tensor in tensors.items():
        name = official_name(key, kind, lora)
        if name is None:
            unsupported.append(key)
            continue
        parts_by_name.setdefault(name[0], {})[name[1]] = tensor
        counts[name[0]] = name[2]
    if unsupported:
        raise UserError(f"the {kind} format has no place for: {', '.join(unsupported[:5])} ({len(unsupported)} keys)")
    incomplete = [name for name, parts in parts_by_name.items() if len(parts) < counts[name]]
    if incomplete:
        raise UserError(f"{kind} format: parts of these tensors are missing: {', '.join(incomplete[:5])}")
    return {
        name: parts[0] if len(parts) == 1 else torch.cat([parts[i] for i in range(len(parts))])
        for name, parts in parts_by_name.items()
    }
