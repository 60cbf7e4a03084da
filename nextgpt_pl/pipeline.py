"""Inference pipeline: chat messages of text and media to a reply of text and media. Does not import Lightning.

Messages are those of transformers' any-to-any pipeline, see :mod:`nextgpt_pl.dialogue.messages`. The parts
of a reply are valid parts of later messages.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from nextgpt_pl.adapter import load_adapter
from nextgpt_pl.batches import IGNORE, Rendered
from nextgpt_pl.config.yaml_files import read_yaml
from nextgpt_pl.dialogue.context import ContextWarning, TooLongError, dropped_note, shortened
from nextgpt_pl.dialogue.messages import Messages, dialogue_of
from nextgpt_pl.errors import UserError
from nextgpt_pl.generation.generate import Decoding, caption_embeddings, check_seed, generate, spans_of
from nextgpt_pl.generation.options import reply_options
from nextgpt_pl.modality import Modality
from nextgpt_pl.model import NextGPT
from nextgpt_pl.samples import ReplyPart
from nextgpt_pl.saved_network import network_of
from nextgpt_pl.utils.distributed import broadcast_object

Reply = list[ReplyPart]


class AnyToAny:
    """A trained model that replies to messages; its decoders stay loaded.

    >>> chat = AnyToAny.from_run("outputs/instruct/my_run")  # doctest: +SKIP
    >>> reply = chat([{"role": "user", "content": "Draw a small red circle on the left on white."}])  # doctest: +SKIP
    """

    def __init__(
        self,
        network: NextGPT,
        device: str | torch.device = "cpu",
        *,
        placed: bool = False,
    ) -> None:
        """Use a loaded network; :meth:`from_run` reads one.

        Args:
            network: loaded.
            device: where it and its decoders run.
            placed: whether the network is already on its devices and must not be moved. A strategy places the network
                in training; moving it would undo sharding and offloading.

        """
        self.network = (network if placed else network.to(device)).eval()
        self.conversation = network.conversation()
        for decoder in network.decoders.values():
            decoder.to(device)

    @classmethod
    def from_run(cls, run: str | Path, device: str | torch.device | None = None, trust: Sequence[str] = ()) -> AnyToAny:
        """The model that a run trained, from its folder's ``config.yaml`` and ``adapter/``.

        The folder is treated as data: only code of this package is run (see :mod:`nextgpt_pl.config.trust`). Its
        feature cache is not used.

        Args:
            run: the folder.
            device: where the model runs; by default on a GPU if there is one.
            trust: dotted names of other classes and functions that its ``config.yaml`` may name, such as
                ``my_package.MyEncoder``.

        Raises:
            UserError: the folder is not a run, names code that is not trusted, or its adapter does not fit.

        """
        folder = Path(run)
        config = folder / "config.yaml"
        if not config.is_file() or not (folder / "adapter").is_dir():
            raise UserError(f"run={str(run)!r}: no config.yaml and adapter/ in it; give a run folder of outputs/")
        network = network_of(read_yaml(config), trust)
        network.load()
        load_adapter(folder / "adapter", network)
        return cls(network, device or ("cuda" if torch.cuda.is_available() else "cpu"))

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        revision: str | None = None,
        device: str | torch.device | None = None,
        trust: Sequence[str] = (),
    ) -> AnyToAny:
        """The model of a folder, or of a hub repository that ``push`` made.

        Args:
            name: a run's folder, an import's, or ``user/name`` on the hub.
            revision: of the hub repository.
            device: as for :meth:`from_run`.
            trust: as for :meth:`from_run`.

        Raises:
            UserError: there is no such folder or repository, or it is not a run.

        """
        folder = Path(name)
        if not folder.is_dir():
            from huggingface_hub import snapshot_download

            try:
                patterns = ["config.yaml", "adapter/*"]
                folder = Path(snapshot_download(str(name), revision=revision, allow_patterns=patterns))
            except (OSError, ValueError) as error:
                reason = str(error).splitlines()[0]
                raise UserError(f"{str(name)!r}: no such folder, and its download failed: {reason}") from error
        return cls.from_run(folder, device, trust)

    def __call__(self, messages: Messages | Sequence[Messages], **options: Any) -> Reply | list[Reply]:
        """The reply to one conversation, or the replies to several.

        Args:
            messages: one conversation, or a list of them.
            options: see :meth:`stream`.

        """
        if isinstance(messages, (str, Mapping)) or not isinstance(messages, Sequence):
            raise UserError(f"messages: a list of messages, or of conversations, not {type(messages).__name__}")
        if messages and isinstance(messages[0], Mapping):
            return self.batch([messages], **options)[0]  # type: ignore[list-item]
        return self.batch(messages, **options)  # type: ignore[arg-type]

    def stream(self, messages: Messages, **options: Any) -> Iterator[ReplyPart]:
        """Yield the parts of the reply; each medium as soon as it is generated.

        Args:
            messages: the conversation.
            options: ``modalities`` (media that the reply contains, each at least once and no others; ``[]``: no media),
                ``max_new_tokens``, ``temperature``, ``top_p``, ``seed`` (medium k of the reply is generated with
                ``seed + k``); and per modality a dictionary of sampling arguments of its decoder, such as
                ``image={"guidance_scale": 5.0}``.

        """
        decoding, sampling = reply_options(options, self.network.decoders)
        (written,) = self.write([messages], decoding)
        embeddings = caption_embeddings(self.network, [written])[0]
        for part, span in self._pieces(written):
            if span is None:
                yield part
            else:
                yield self._draw(part, [embeddings[span]], [decoding.seed + span], sampling)[0]

    def batch(self, conversations: Sequence[Messages], **options: Any) -> list[Reply]:
        """The replies to several conversations; their media are generated in batches per modality.

        Args:
            conversations: each as for :meth:`stream`.
            options: see :meth:`stream`; ``seeds`` sets the seed of each conversation's media instead of ``seed``.
                At temperature 0, replies do not depend on the other conversations.

        """
        seeds = options.pop("seeds", None)
        decoding, sampling = reply_options(options, self.network.decoders)
        seeds = [decoding.seed] * len(conversations) if seeds is None else list(seeds)
        if len(seeds) != len(conversations):
            raise UserError(f"seeds: {len(seeds)} given for {len(conversations)} conversations")
        for number, seed in enumerate(seeds):
            check_seed(seed, f"seeds[{number}]")
        if not conversations:
            return []
        written = self.write(conversations, decoding)
        embeddings = caption_embeddings(self.network, written)
        replies: list[Reply] = []
        requests: dict[Modality, list[tuple[int, int, int]]] = {}
        for index, row in enumerate(written):
            reply: Reply = []
            for part, span in self._pieces(row):
                if span is not None:
                    requests.setdefault(Modality(part.type), []).append((index, len(reply), span))
                reply.append(part)
            replies.append(reply)
        for entries in requests.values():
            empty = replies[entries[0][0]][entries[0][1]]
            span_embeddings = [embeddings[index][span] for index, _, span in entries]
            media = self._draw(empty, span_embeddings, [seeds[index] + span for index, _, span in entries], sampling)
            for (index, position, _), part in zip(entries, media, strict=True):
                replies[index][position] = part
        return replies

    def write(self, conversations: Sequence[Messages], decoding: Decoding | None = None) -> list[Rendered]:
        """Prompts with the LLM's replies, signal spans included; no media are generated.

        If a conversation leaves fewer than ``max_new_tokens`` tokens in the LLM's context, its oldest exchanges are
        dropped with a :class:`ContextWarning`.

        Raises:
            UserError: the last exchange alone does not fit.

        """
        decoding = decoding or Decoding()
        prompts = []
        for number, messages in enumerate(conversations):
            prompt, dropped = self._prompt(messages, decoding.max_new_tokens)
            prompts.append(prompt)
            if dropped:
                which = f"conversation {number}: " if len(conversations) > 1 else ""
                warnings.warn(which + dropped_note(len(dropped)), ContextWarning, stacklevel=2)
        replies = generate(self.network, prompts, decoding)
        if self.network.llm.collective:
            # rounding may differ between ranks and change a token; with sharded weights all ranks need equal replies
            replies = broadcast_object(replies)
        written = []
        for prompt, ids in zip(prompts, replies, strict=True):
            spans = spans_of(self.network, ids, len(prompt.input_ids))
            labels = [IGNORE] * len(prompt.input_ids) + ids
            written.append(replace(prompt, input_ids=[*prompt.input_ids, *ids], labels=labels, spans=tuple(spans)))
        return written

    def within_context(self, messages: Messages, max_new_tokens: int = Decoding.max_new_tokens) -> Messages:
        """The messages without the oldest exchanges that leave no room for a reply in the LLM's context.

        Raises:
            UserError: the last exchange alone does not fit.

        """
        dropped = set(self._prompt(messages, Decoding(max_new_tokens).max_new_tokens)[1])
        return [message for position, message in enumerate(messages) if position not in dropped]

    def _prompt(self, messages: Messages, max_new_tokens: int) -> tuple[Rendered, tuple[int, ...]]:
        """The prompt of a conversation, and the positions of the dropped messages."""
        dialogue = dialogue_of(messages)
        context = self.conversation.context_length
        if context is None:
            return self.conversation.prompt(dialogue), ()
        if max_new_tokens >= context:
            raise UserError(f"max_new_tokens={max_new_tokens}: the LLM's context is {context} tokens, prompt included")
        try:
            (prompt,), dropped = shortened(
                dialogue, lambda kept: [self.conversation.prompt(kept)], context - max_new_tokens
            )
            return prompt, dropped
        except TooLongError as error:
            raise UserError(
                f"{error}: the LLM's context is {context} tokens, {max_new_tokens} of them for the reply"
                " (max_new_tokens)"
            ) from None

    def _pieces(self, row: Rendered) -> Iterator[tuple[ReplyPart, int | None]]:
        """The reply's parts in order; media are placeholders with the index of their span."""
        position = next((i for i, label in enumerate(row.labels) if label >= 0), len(row.labels))
        for number, span in enumerate(row.spans):
            yield from self._text(row.input_ids[position : span.start])
            yield ReplyPart(span.modality.value, caption=span.caption or None), number
            position = span.stop
        yield from self._text(row.input_ids[position:])

    def _text(self, ids: list[int]) -> Iterator[tuple[ReplyPart, None]]:
        text = self.network.llm.tokenizer.decode(ids, skip_special_tokens=True).strip()
        if text:
            yield ReplyPart("text", text=text), None

    def _draw(
        self,
        part: ReplyPart,
        embeddings: list[torch.Tensor],
        seeds: list[int],
        sampling: Mapping[Modality, dict[str, Any]],
    ) -> list[ReplyPart]:
        modality = Modality(part.type)
        decoder = self.network.decoders[modality]
        negative = self.network.null_signal(modality)
        if negative is None:
            negative = self.network.caption_embeddings.negative_prompt(modality)
        arrays = decoder.generate(torch.stack(embeddings), seed=seeds, negative=negative, **sampling[modality])
        return [replace(part, array=array, rate=decoder.rate) for array in arrays]
