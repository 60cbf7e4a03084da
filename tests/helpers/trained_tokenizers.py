"""Small tokenizers of every kind, trained on the spot."""

import io
import json
from pathlib import Path

import sentencepiece
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, LlamaConfig, PreTrainedTokenizerFast
from transformers.tokenization_utils_sentencepiece import SentencePieceBackend

CORPUS = [
    f"{begin} a {size} {colour} {shape} on the {side}, please!\nIt is {colour}: the {shape} of a curious user."
    " What is the </s> or <|im_end|>?"
    for begin in ("Draw", "Here is", "USER: Show me", "ASSISTANT: This is", "assistant\nWith", "Human: What is")
    for size in ("small", "large")
    for colour in ("red", "green", "blue")
    for shape in ("circle", "ring", "star")
    for side in ("left", "right")
]
SPECIAL = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
#: tokenizers that put a blank in front of each text, or that do not, and both libraries' models
KINDS = (
    "sentencepiece bpe",
    "sentencepiece unigram",
    "llama",
    "llama legacy",
    "slow",
    "byte-level",
    "byte-level with prefix",
    "unigram",
)


def train_sentencepiece(folder: Path, kind: str = "bpe", **options) -> None:
    """``tokenizer.model`` as Llama's: bytes for what it does not know, a blank in front, blanks kept."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_writer=model,
        model_type=kind,
        vocab_size=450,
        hard_vocab_limit=False,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
        **options,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    LlamaConfig(vocab_size=450).save_pretrained(folder)


def _trained(model, trainer, pre_tokenizer, decoder) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizer, decoder
    tokenizer.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        extra_special_tokens=["<|im_start|>", "<|im_end|>"],
    )


def make(kind: str, folder: Path):
    """A tokenizer of one of the ``KINDS``, with a padding token; files go to ``folder``."""
    if kind.startswith("byte-level"):
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=kind != "byte-level")
        options = {"initial_alphabet": byte_level.alphabet(), "special_tokens": SPECIAL, "vocab_size": 500}
        trainer = trainers.BpeTrainer(show_progress=False, **options)
        tokenizer = _trained(models.BPE(), trainer, byte_level, decoders.ByteLevel())
    elif kind == "unigram":
        trainer = trainers.UnigramTrainer(
            show_progress=False, vocab_size=300, special_tokens=SPECIAL, unk_token="<unk>", max_piece_length=8
        )
        tokenizer = _trained(models.Unigram(), trainer, pre_tokenizers.Metaspace(), decoders.Metaspace())
    else:
        train_sentencepiece(folder, "unigram" if "unigram" in kind else "bpe")
        special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
        if kind == "slow":
            tokenizer = SentencePieceBackend(vocab_file=str(folder / "tokenizer.model"), **special)
        else:
            if kind.startswith("llama"):
                written = {"tokenizer_class": "LlamaTokenizer", "legacy": kind == "llama legacy", **special}
                (folder / "tokenizer_config.json").write_text(json.dumps(written))
            tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = tokenizer.eos_token
    return tokenizer
