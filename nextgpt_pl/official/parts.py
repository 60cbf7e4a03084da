"""Classes and sizes of an imported checkpoint's network, from names and shapes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import GENERATED, MODALITIES, Modality, ids_behind
from nextgpt_pl.official.keys import EXTRA_TOKENS, SHARED_INPUT, SIGNAL_ROWS, Format
from nextgpt_pl.projections import (
    GroupingInputProjection,
    InputProjection,
    LinearInputProjection,
    MLPInputProjection,
    OutputProjection,
    QFormerOutputProjection,
    TransformerOutputProjection,
)

Tensors = Mapping[str, Tensor]
VICUNA_ROWS = 32_000
_HEADS = {"transformer": 4, "qformer": 12}  # as in the official code; no tensor's shape determines them


@dataclass
class Part:
    """A projection: its class, the widths that the model passes, and the arguments that the YAML sets."""

    kind: type[nn.Module]
    widths: tuple[int, ...]
    arguments: dict[str, Any] = field(default_factory=dict)

    def build(self) -> nn.Module:
        """Build the projection on the meta device, to compare names and shapes."""
        with torch.device("meta"):
            return self.kind(*self.widths, **self.arguments)

    def yaml(self) -> dict[str, Any]:
        """The projection as a YAML block."""
        return {"class_path": f"nextgpt_pl.projections.{self.kind.__name__}", "init_args": dict(self.arguments)}


@dataclass
class Sizes:
    """Sizes of the network of an imported checkpoint.

    Attributes:
        hidden_size: the LLM's width.
        vocab_size: the LLM's rows, with the format's extra tokens and without the signal tokens.
        lora: arguments of :class:`nextgpt_pl.llm.LoRA`, if there is any.
        input_projection: shared by all modalities; ``None`` if there is none.
        output_projections: per modality.

    """

    hidden_size: int
    vocab_size: int
    lora: dict[str, Any] | None
    input_projection: Part | None
    output_projections: dict[Modality, Part]

    def embedding_shapes(self) -> dict[Modality, list[int]]:
        """Caption embedding shape per modality; a single token is a pooled embedding."""
        shapes = {m: list(part.widths[2:]) for m, part in self.output_projections.items()}
        return {m: shape[1:] if shape[0] == 1 else shape for m, shape in shapes.items()}

    def signal_ids(self) -> dict[str, list[int]]:
        """As :meth:`NextGPT.signal_ids`."""
        counts = {m: MODALITIES[m].num_signal_tokens for m in GENERATED}
        return {m.value: ids for m, ids in ids_behind(self.vocab_size, counts).items()}


def sizes_of(tensors: Tensors, kind: Format, lora: Mapping[str, Any], vocab_size: int | None = None) -> Sizes:
    """Classes and sizes of imported tensors (under our names), after a check that each part is complete.

    Args:
        tensors: from :func:`official.read_official`.
        kind: their format.
        lora: ``alpha`` and ``dropout`` of LoRA, which no shape determines.
        vocab_size: number of the LLM's rows, if the checkpoint has no vocabulary.

    Raises:
        UserError: a part is incomplete, or its class is unknown.

    """
    output_tensors = {m: _under(tensors, f"output_projections.{m}.") for m in GENERATED}
    sizes = Sizes(
        hidden_size=_hidden_size(tensors),
        vocab_size=_vocab_size(tensors, kind, vocab_size),
        lora=_lora(tensors, lora),
        input_projection=_input(_under(tensors, f"{SHARED_INPUT}.")),
        output_projections={m: _output(m, output_tensors[m]) for m in GENERATED if output_tensors[m]},
    )
    kinds = {(p.kind, tuple(p.arguments.items())) for p in sizes.output_projections.values()}
    if len(kinds) > 1:
        raise UserError(f"output projections of several kinds or sizes in one checkpoint: {_names(kinds)}")
    expected: dict[str, Part] = {f"output_projections.{m}.": part for m, part in sizes.output_projections.items()}
    if sizes.input_projection is not None:
        expected[f"{SHARED_INPUT}."] = sizes.input_projection
    problems = [line for prefix, part in expected.items() for line in _compare(prefix, part, tensors)]
    problems += _lora_gaps(tensors, sizes.lora)
    if problems:
        raise UserError("the checkpoint is incomplete:\n  " + "\n  ".join(problems[:20]))
    return sizes


def _names(kinds: set[tuple[type[nn.Module], tuple[Any, ...]]]) -> str:
    return "; ".join(sorted(f"{kind.__name__} {dict(arguments)}" for kind, arguments in kinds))


def _under(tensors: Tensors, prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def _count(tensors: Tensors, pattern: str) -> int:
    """One more than the highest number that the pattern's group matches in the keys; 0 without a match."""
    numbers = [int(match[1]) for key in tensors if (match := re.match(pattern, key))]
    return max(numbers, default=-1) + 1


def _hidden_size(tensors: Tensors) -> int:
    for key, tensor in tensors.items():
        if key.endswith((".rows", "embed_tokens.base.weight", "q_proj.lora_A.default.weight")):
            return int(tensor.shape[1])
        if re.fullmatch(r"output_projections\.\w+\.fc\.weight", key):
            return int(tensor.shape[1])
    for key in ("linear.weight", "out_fc.weight", "mlp.2.weight"):
        if f"{SHARED_INPUT}.{key}" in tensors:
            return int(tensors[f"{SHARED_INPUT}.{key}"].shape[0])
    raise UserError("the checkpoint has no tensor that determines the LLM's width")


def _vocab_size(tensors: Tensors, kind: Format, given: int | None) -> int:
    for name in ("embed_tokens", "lm_head"):
        for key in (f"llm.model.model.{name}.base.weight", f"llm.model.{name}.base.weight"):
            if key in tensors:
                row_count = int(tensors[key].shape[0])
                llm_rows = row_count - len(EXTRA_TOKENS[kind])
                if given is not None and given != llm_rows:
                    raise UserError(
                        f"--vocab_size {given}: the checkpoint's vocabulary has {row_count + SIGNAL_ROWS} rows, "
                        f"which leaves {llm_rows} of the LLM's own in the {kind} format"
                    )
                return row_count
    return (given or VICUNA_ROWS) + len(EXTRA_TOKENS[kind])


def _lora(tensors: Tensors, given: Mapping[str, Any]) -> dict[str, Any] | None:
    sides = {key: tensor for key, tensor in tensors.items() if ".lora_A." in key}
    if not sides:
        return None
    order = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    names = {key.split(".lora_A.")[0].rsplit(".", 1)[1] for key in sides}
    ranks = {int(tensor.shape[0]) for tensor in sides.values()}
    if len(ranks) > 1:
        raise UserError(f"LoRA of several ranks in one checkpoint: {sorted(ranks)}")
    return {
        "r": ranks.pop(),
        "alpha": given["alpha"],
        "dropout": given["dropout"],
        "target_modules": [name for name in order if name in names],
    }


def _lora_gaps(tensors: Tensors, lora: dict[str, Any] | None) -> list[str]:
    if lora is None:
        return []
    layers = _count(tensors, r"llm\.model\.model\.layers\.(\d+)\..*lora_")
    expected = [
        f"llm.model.model.layers.{n}.{block}.{name}.lora_{side}.default.weight"
        for n in range(layers)
        for name in lora["target_modules"]
        for block in ("mlp" if name in ("gate_proj", "up_proj", "down_proj") else "self_attn",)
        for side in "AB"
    ]
    return [f"{key}: missing" for key in expected if key not in tensors]


def _input(part: dict[str, Tensor]) -> Part | None:
    if not part:
        return None
    if "linear.weight" in part:
        hidden, encoder = part["linear.weight"].shape
        return Part(LinearInputProjection, (encoder, hidden))
    if "mlp.0.weight" in part:
        width, encoder = part["mlp.0.weight"].shape
        depth = _count(part, r"mlp\.(\d+)\.weight") // 2 + 1
        last = part.get(f"mlp.{2 * depth - 2}.weight", part["mlp.0.weight"])
        return Part(MLPInputProjection, (encoder, last.shape[0]), {"width": width, "depth": depth, "expand": 1})
    if {"in_fc.weight", "out_fc.weight"} <= set(part):
        width, encoder = part["in_fc.weight"].shape
        stages = range(_count(part, r"layers\.(\d+)\."))
        groups = [part[f"layers.{s}.group_token"].shape[1] for s in stages if f"layers.{s}.group_token" in part]
        depths = [_count(part, rf"layers\.{s}\.layers\.(\d+)\.") for s in stages]
        arguments = {"width": width, "groups": tuple(groups), "depths": tuple(depths), "heads": 8}
        return Part(GroupingInputProjection, (encoder, part["out_fc.weight"].shape[0]), arguments)
    raise UserError(f"the input projection is neither linear, MLP nor grouping; it has {', '.join(sorted(part)[:5])}")


def _output(modality: Modality, part: dict[str, Tensor]) -> Part:
    queries = part.get("query_embs", part.get("query_tokens"))
    if queries is None or not {"fc.weight", "model.weight"} <= set(part):
        raise UserError(f"the output projection of {modality} lacks its queries or a linear layer: {sorted(part)[:5]}")
    _, length, width = queries.shape
    tokens = MODALITIES[modality].num_signal_tokens
    widths = (part["fc.weight"].shape[1], tokens, length, part["model.weight"].shape[0])
    if "query_embs" in part:
        layers = _count(part, r"tfm\.decoder\.layers\.(\d+)\.")
        arguments = {"width": width, "layers": layers, "heads": _HEADS["transformer"], "dropout": 0.0}
        return Part(TransformerOutputProjection, widths, arguments)
    layers = _count(part, r"qformer\.encoder\.layer\.(\d+)\.")
    inner = part.get("qformer.encoder.layer.0.intermediate_query.dense.weight", queries.new_empty(4 * width, 0))
    arguments = {"width": width, "layers": layers, "heads": _HEADS["qformer"], "feedforward": inner.shape[0]}
    return Part(QFormerOutputProjection, widths, arguments)


def _compare(prefix: str, part: Part, tensors: Tensors) -> list[str]:
    """Missing and unexpected tensors of a part, and tensors of another shape, one line each."""
    given = _under(tensors, prefix)
    try:
        module = part.build()
    except (ValueError, IndexError) as error:
        return [f"{prefix[:-1]}: no {part.kind.__name__} has these tensors: {error}"]
    assert isinstance(module, (InputProjection, OutputProjection))
    expected = dict(module.named_parameters())
    problems = [f"{prefix}{name}: missing" for name in expected if name not in given]
    problems += [
        f"{prefix}{name}: {part.kind.__name__} has no such parameter" for name in given if name not in expected
    ]
    return problems + [
        f"{prefix}{name}: {tuple(given[name].shape)}, but the other shapes imply {tuple(expected[name].shape)}"
        for name in expected
        if name in given and given[name].shape != expected[name].shape
    ]
