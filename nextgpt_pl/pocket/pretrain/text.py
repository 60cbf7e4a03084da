"""The pocket tokenizer and the pocket LLM: a Llama of about 5M parameters, trained on text about the pocket world."""

from __future__ import annotations

from pathlib import Path
from random import Random

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.pocket.pretrain import conversations
from nextgpt_pl.pocket.pretrain.loop import PretrainTask, save_half, train
from nextgpt_pl.pocket.world import chat, grammar, talk
from nextgpt_pl.pocket.world.scenes import Split, draw_scene, item_rng, pick

PAD, BOS, EOS = "<|pad|>", "<|bos|>", "<|eos|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
VOCABULARY = 2_000
USER_WEIGHT = 0.1  # weight of the user's tokens in the loss
CONTEXT = 32  # context length of the text encoders
# number of tokens of the longest caption without the last one; causal states after it have seen the full caption
LONGEST_CAPTION = 24
CHAT_TEMPLATE = (
    "{{ '<|bos|>' }}"
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|eos|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def train_tokenizer(seed: int, texts: int = 20_000) -> Tokenizer:
    """A byte-level BPE trained on conversations in complete sentences; any other text falls back to bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, BOS, EOS, *ROLES],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    rng = Random(f"tokenizer/{seed}")
    corpus = (text for _ in range(texts) for _, text in chat.conversation(rng))
    tokenizer.train_from_iterator(corpus, trainer)
    return tokenizer


def chat_tokenizer(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """Tokenizer of the LLM, with a chat template and without automatic special tokens."""
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tokenizer.to_str()),
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        additional_special_tokens=list(ROLES),
        chat_template=CHAT_TEMPLATE,
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def caption_tokenizer(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """Tokenizer of the text encoders: captions between BOS and EOS, at most :data:`CONTEXT` tokens."""
    framed = Tokenizer.from_str(tokenizer.to_str())
    framed.post_processor = TemplateProcessing(
        single=f"{BOS} $A {EOS}",
        special_tokens=[(BOS, framed.token_to_id(BOS)), (EOS, framed.token_to_id(EOS))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=framed,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def load_tokenizer(out: Path, seed: int) -> Tokenizer:
    """The tokenizer that all parts share: that of the LLM if it exists, so that parts can be trained separately."""
    file = out / "llm" / "tokenizer.json"
    return Tokenizer.from_file(str(file)) if file.is_file() else train_tokenizer(seed)


def conversation_ids(tokenizer: PreTrainedTokenizerFast, rng: Random, split: Split) -> list[int]:
    """One conversation in the chat template, or sometimes a single caption, as token ids."""
    if rng.random() < 0.1:
        scene = draw_scene(pick(rng, GENERATED), rng, split)
        text = f"{BOS}{talk.sentence(grammar.caption(scene, rng))}{EOS}"
    else:
        turns = [{"role": role, "content": content} for role, content in conversations.conversation(rng, split)]
        text = str(tokenizer.apply_chat_template(turns, tokenize=False))
    return tokenizer(text, add_special_tokens=False).input_ids


def assistant_tokens(ids: Tensor, tokenizer: PreTrainedTokenizerFast) -> Tensor:
    """Which tokens of packed conversations ``(B, T)`` belong to an assistant's turn, its end token included."""
    marks = torch.tensor(tokenizer.convert_tokens_to_ids([BOS, *ROLES]), device=ids.device)
    assistant = marks[1 + ROLES.index("<|assistant|>")]
    positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    last_mark = torch.where(torch.isin(ids, marks), positions, 0).cummax(1).values
    return (ids.gather(1, last_mark) == assistant) & (positions > last_mark)


class LanguageModelling(PretrainTask):
    """Next-token prediction over packed conversations."""

    batch_size, length = 32, 96

    def __init__(self, tokenizer: PreTrainedTokenizerFast, *, steps: int, seed: int) -> None:
        super().__init__(steps=steps, lr=2e-3, seed=seed)
        self.tokenizer = tokenizer
        self.llm = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=256,
                intermediate_size=640,
                num_hidden_layers=6,
                num_attention_heads=4,
                num_key_value_heads=4,
                max_position_embeddings=512,
                rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
                tie_word_embeddings=False,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )

    def batch(self, rng: Random, split: Split) -> Tensor:
        """Packed token ids, ``(batch_size, length + 1)``; each row opens with a new conversation."""
        rows = []
        for _ in range(self.batch_size):
            row: list[int] = []
            while len(row) <= self.length:
                row += conversation_ids(self.tokenizer, rng, split)
            rows.append(row[: self.length + 1])
        return torch.tensor(rows)

    def _cross_entropy(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy of each token after the first, and whether it belongs to the assistant; both ``(B, T - 1)``."""
        logits = self.llm(input_ids=ids[:, :-1], use_cache=False).logits
        losses = F.cross_entropy(logits.transpose(1, 2).float(), ids[:, 1:], reduction="none")
        return losses, assistant_tokens(ids, self.tokenizer)[:, 1:]

    def loss(self, rng: Random, generator: torch.Generator) -> Tensor:
        """Weighted mean cross-entropy in nats.

        User messages are random and unpredictable; replies follow from them. With a low weight of user tokens,
        attention learns to copy attributes many times faster.
        """
        losses, answer = self._cross_entropy(self.batch(rng, "train").to(self.device))
        weights = torch.where(answer, 1.0, USER_WEIGHT)
        return (losses * weights).sum() / weights.sum()

    @torch.no_grad()
    def perplexity(self, batches: int = 8) -> dict[str, float]:
        """Perplexity per token on held-out conversations, of all tokens and of answers only."""
        rng = Random("llm/heldout")
        pairs = [self._cross_entropy(self.batch(rng, "heldout").to(self.device)) for _ in range(batches)]
        losses, answer = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        return {"perplexity": float(losses.mean().exp()), "answer_perplexity": float(losses[answer].mean().exp())}

    @torch.no_grad()
    def answers(self, count: int = 20) -> list[tuple[str, str]]:
        """Held-out questions and the model's greedy answers."""
        pairs = []
        for index in range(count):
            turns = conversations.conversation(item_rng("heldout", Modality.IMAGE, index, 0, "answers"), "heldout")
            question = turns[0][1]
            prompt = self.tokenizer.apply_chat_template(
                [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
            )
            ids = self.tokenizer(prompt, add_special_tokens=False, return_tensors="pt").input_ids.to(self.device)
            out = self.llm.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=48, do_sample=False)
            pairs.append((question, self.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)))
        return pairs

    def quality(self) -> dict[str, float]:
        """Print 20 answers to held-out questions; return perplexities and the number of parameters."""
        for question, answer in self.answers():
            print(f"  {question}\n    -> {answer}")
        return {**self.perplexity(), "parameters": float(sum(p.numel() for p in self.parameters()))}


def trained_llm(folder: Path) -> LanguageModelling:
    """The LLM in ``folder``, for measurements."""
    task = LanguageModelling(PreTrainedTokenizerFast.from_pretrained(folder), steps=0, seed=0)
    task.llm = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return task


def pretrain_llm(out: Path, work: Path, *, seed: int, steps: int | None) -> None:
    """Train the pocket LLM and save it to ``out/llm``."""
    tokenizer = chat_tokenizer(load_tokenizer(out, seed))
    torch.manual_seed(seed)
    task = LanguageModelling(tokenizer, steps=steps or 5_500, seed=seed)
    train(task, work)
    save_half(task.llm, out / "llm")
    tokenizer.save_pretrained(out / "llm")
