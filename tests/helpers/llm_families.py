"""What is special to published LLM families: configuration, special tokens, chat template, end tokens."""

from dataclasses import dataclass, field
from typing import Any

import chat_templates as templates

_SLIDING = ["sliding_attention", "full_attention"]


@dataclass(frozen=True)
class Family:
    """What is special to a family.

    Attributes:
        kind: name of its classes, such as ``Llama`` of ``LlamaConfig`` and ``LlamaForCausalLM``.
        template: chat template.
        special: special tokens of the template.
        end: the token that ends a turn.
        config: fields of the configuration besides the sizes.
        bos, eos, pad: the tokenizer's; ``None``: it has none.
        unused_rows: rows of the embedding behind the tokenizer's vocabulary.
        also_ends: other end tokens in ``generation_config.json``.
        prefix: whether the tokenizer puts a blank in front of a text, as SentencePiece's do.
        lora: names of the layers that LoRA updates.
        llm: arguments of :class:`CausalLM` that the family needs.

    """

    kind: str
    template: str
    special: tuple[str, ...]
    end: str
    config: dict[str, Any] = field(default_factory=dict)
    bos: str | None = None
    eos: str | None = None
    pad: str | None = None
    unused_rows: int = 0
    also_ends: tuple[str, ...] = ()
    prefix: bool = False
    lora: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    llm: dict[str, Any] = field(default_factory=dict)


_IM = ("<|im_start|>", "<|im_end|>")
_SENTENCEPIECE = {"bos": "<s>", "eos": "</s>", "prefix": True}
_GEMMA = {
    "special": ("<bos>", "<eos>", "<pad>", "<start_of_turn>", "<end_of_turn>"),
    "end": "<end_of_turn>",
    "bos": "<bos>",
    "eos": "<eos>",
    "pad": "<pad>",
    "also_ends": ("<eos>",),
}
_TEXT = ("<|endoftext|>",)
FAMILIES = {
    "Llama 3": Family(
        "Llama",
        templates.LLAMA3,
        ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        "<|eot_id|>",
        bos="<|begin_of_text|>",
        eos="<|eot_id|>",
        also_ends=("<|end_of_text|>",),
        config={
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 10000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 512,
            }
        },
    ),
    "Vicuna": Family("Llama", templates.VICUNA, (), "</s>", **_SENTENCEPIECE),
    "Qwen2.5": Family(
        "Qwen2",
        templates.CHATML,
        (*_TEXT, *_IM),
        "<|im_end|>",
        {"tie_word_embeddings": True},
        eos="<|im_end|>",
        pad="<|endoftext|>",
        unused_rows=7,
        also_ends=("<|endoftext|>",),
    ),
    "Qwen3": Family(
        "Qwen3",
        templates.QWEN3,
        (*_TEXT, *_IM),
        "<|im_end|>",
        {"head_dim": 16, "tie_word_embeddings": True},
        eos="<|im_end|>",
        pad="<|endoftext|>",
        unused_rows=7,
        also_ends=("<|endoftext|>",),
    ),
    "Gemma 2": Family(
        "Gemma2",
        templates.GEMMA2,
        config={"head_dim": 8, "sliding_window": 16, "final_logit_softcapping": 3.0, "layer_types": _SLIDING},
        llm={"attention": "eager"},
        **_GEMMA,
    ),
    "Gemma 3": Family(
        "Gemma3Text",
        templates.GEMMA,
        config={"head_dim": 8, "sliding_window": 16, "layer_types": _SLIDING},
        **_GEMMA,
    ),
    "Mistral": Family(
        "Mistral", templates.MISTRAL, ("[INST]", "[/INST]"), "</s>", {"sliding_window": 16}, **_SENTENCEPIECE
    ),
    "SmolLM2": Family(
        "Llama", templates.CHATML, _IM, "<|im_end|>", {"tie_word_embeddings": True}, eos="<|im_end|>", pad="<|im_end|>"
    ),
    "SmolLM3": Family(
        "SmolLM3",
        templates.SMOLLM3,
        (*_IM, "<|end_of_text|>"),
        "<|im_end|>",
        {"no_rope_layer_interval": 2, "tie_word_embeddings": True},
        eos="<|im_end|>",
        pad="<|im_end|>",
    ),
    "Phi-3": Family(
        "Phi3",
        templates.PHI3,
        (*_TEXT, "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
        "<|end|>",
        {"sliding_window": 16, "attention_bias": False},
        bos="<s>",
        eos="<|endoftext|>",
        pad="<|endoftext|>",
        also_ends=("<|endoftext|>",),
        unused_rows=5,
        prefix=True,
        lora=("qkv_proj", "o_proj"),
    ),
    "Phi-4": Family(
        "Phi3",
        templates.PHI4,
        (*_TEXT, *_IM, "<|im_sep|>"),
        "<|im_end|>",
        bos="<|endoftext|>",
        eos="<|im_end|>",
        pad="<|endoftext|>",
        lora=("qkv_proj", "o_proj"),
    ),
    "OLMo 2": Family(
        "Olmo2",
        templates.OLMO,
        (*_TEXT, "<|pad|>"),
        "<|endoftext|>",
        bos="<|endoftext|>",
        eos="<|endoftext|>",
        pad="<|pad|>",
    ),
    "OLMo 3": Family(
        "Olmo3",
        templates.CHATML,
        (*_TEXT, *_IM),
        "<|im_end|>",
        {"sliding_window": 16, "layer_types": _SLIDING},
        eos="<|endoftext|>",
    ),
    "Granite": Family(
        "Granite",
        templates.GRANITE,
        ("<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>"),
        "<|end_of_text|>",
        {
            "embedding_multiplier": 3.0,
            "attention_multiplier": 0.1,
            "residual_multiplier": 0.8,
            "logits_scaling": 8.0,
            "tie_word_embeddings": True,
        },
        bos="<|end_of_text|>",
        eos="<|end_of_text|>",
        pad="<|end_of_text|>",
    ),
    "Command R": Family(
        "Cohere2",
        templates.COMMAND,
        (
            *("<BOS_TOKEN>", "<PAD>", "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>"),
            *("<|SYSTEM_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>"),
        ),
        "<|END_OF_TURN_TOKEN|>",
        {"sliding_window": 16, "layer_types": _SLIDING, "logit_scale": 0.25},
        bos="<BOS_TOKEN>",
        eos="<|END_OF_TURN_TOKEN|>",
        pad="<PAD>",
    ),
    "LFM2": Family(
        "Lfm2",
        templates.CHATML,
        (*_TEXT, *_IM, "<|pad|>"),
        "<|im_end|>",
        {"layer_types": ["conv", "full_attention"], "block_multiple_of": 8},
        bos="<|endoftext|>",
        eos="<|im_end|>",
        pad="<|pad|>",
        lora=("q_proj", "v_proj", "in_proj", "out_proj"),
    ),
}
