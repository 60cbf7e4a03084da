"""Inference pipeline: chat messages of text and media to a reply of text and media. Does not import Lightning.

Messages are those of transformers' any-to-any pipeline and of OpenAI, see :mod:`nextgpt_pl.readers.chat`. The parts
of a reply are valid parts of later messages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch

from nextgpt_pl.batches import Rendered
from nextgpt_pl.errors import UserError
from nextgpt_pl.generation.decoding import Decoding, check_count
from nextgpt_pl.generation.generate import Generated, generate
from nextgpt_pl.generation.options import reply_options, seeds_of
from nextgpt_pl.generation.prompts import Prompt, render, render_all, render_read
from nextgpt_pl.generation.records import Record
from nextgpt_pl.generation.replies import Reply, replies_of
from nextgpt_pl.generation.reply_stream import reply_stream
from nextgpt_pl.generation.signals import Written, written
from nextgpt_pl.generation.stopping import Stop
from nextgpt_pl.model import NextGPT
from nextgpt_pl.readers.chat import MediaAccess, Messages
from nextgpt_pl.samples import ReplyPart
from nextgpt_pl.saved_network import loaded_network, local_folder
from nextgpt_pl.utils.distributed import broadcast_object
from nextgpt_pl.utils.paths import CHAT_RUN, run_folder


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
        access: MediaAccess | None = None,
    ) -> None:
        """Use a loaded network; :meth:`from_run` reads one.

        Args:
            network: loaded.
            device: where it and its decoders run.
            placed: whether the network is already on its devices and must not be moved. A strategy places the network
                in training; moving it would undo sharding and offloading.
            access: what the media of messages may be read from; any file by default.

        """
        self.access = access
        self.network = (network if placed else network.to(device)).eval()
        self.conversation = network.conversation()
        for decoder in network.decoders.values():
            decoder.to(device)

    @classmethod
    def from_run(
        cls,
        run: str | Path = CHAT_RUN,
        device: str | torch.device | None = None,
        trust: Sequence[str] = (),
        access: MediaAccess | None = None,
    ) -> AnyToAny:
        """The model that a run trained, from its folder's ``config.yaml`` and ``adapter/``.

        The folder is treated as data: only code of this package is run (see :mod:`nextgpt_pl.config.trust`). Its
        feature cache is not used.

        Args:
            run: the folder; by default ``pocket:chat``, a run on the pocket world inside the package.
            device: where the model runs; by default on a GPU if there is one.
            trust: dotted names of other classes and functions that its ``config.yaml`` may name, such as
                ``my_package.MyEncoder``.
            access: see the constructor.

        Raises:
            UserError: the folder is not a run, names code that is not trusted, or its adapter does not fit.

        """
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        network = loaded_network(run_folder(run), trust)
        network.llm.merge_lora()
        return cls(network, device, access=access)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        revision: str | None = None,
        device: str | torch.device | None = None,
        trust: Sequence[str] = (),
        access: MediaAccess | None = None,
    ) -> AnyToAny:
        """The model of a folder, or of a hub repository that ``push`` made.

        Args:
            name: a run's folder, an import's, ``pocket:chat``, or ``user/name`` on the hub.
            revision: of the hub repository.
            device, trust, access: as for :meth:`from_run`.

        Raises:
            UserError: there is no such folder or repository, or it is not a run.

        """
        return cls.from_run(local_folder(name, revision), device, trust, access)

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

    @torch.no_grad()
    def stream(
        self, messages: Prompt, *, stop: Stop | None = None, previews: int = 0, **options: Any
    ) -> Iterator[ReplyPart]:
        """Yield the reply while it is generated: pieces of text as they are written, each medium when it is drawn.

        Consecutive text parts are pieces of one text; :func:`~nextgpt_pl.generation.streaming.joined` joins them. A
        consumer that closes the iterator ends the generation of text and media. With sharded weights, the parts come
        when the whole reply is generated.

        Args:
            messages: the conversation, or its :meth:`prompt`.
            stop: called after each pass of the LLM and each denoising step, maybe by another thread; when it returns
                true, the iterator ends.
            previews: number of denoising steps between previews of an image or video, which are parts with a ``step``;
                0: no previews.
            options: ``modalities`` (media that the reply contains, each at least once and no others; ``[]``: no media),
                ``max_new_tokens``, ``temperature``, ``top_p``, ``seed`` (medium k of the reply is generated with
                ``seed + k``); and per modality a dictionary of sampling arguments of its decoder, such as
                ``image={"guidance_scale": 5.0}``.

        """
        # without alternatives, all items are parts
        parts = self.stream_recorded(messages, alternatives=0, stop=stop, previews=previews, **options)
        yield from cast("Iterator[ReplyPart]", parts)

    @torch.no_grad()
    def stream_recorded(
        self,
        messages: Prompt,
        *,
        alternatives: int = 5,
        stop: Stop | None = None,
        previews: int = 0,
        **options: Any,
    ) -> Iterator[ReplyPart | Record]:
        """Yield the parts of :meth:`stream`, and records of what the LLM predicted and projected.

        The record of a token precedes the text that the token completes; the record of a medium's caption embedding
        precedes the medium and its previews. With sharded weights there are no records.

        Args:
            messages: the conversation.
            alternatives: number of most probable tokens in each record; 0: nothing is recorded or computed for it.
            stop: see :meth:`stream`.
            previews: see :meth:`stream`.
            options: see :meth:`stream`.

        """
        check_count(previews, "previews")
        check_count(alternatives, "alternatives")
        if self.network.llm.collective:
            yield from self.batch([messages], **options)[0]
            return
        decoding, sampling = reply_options(options, self.network.decoders)
        (prompt,) = render_all(self.conversation, [messages], decoding.max_new_tokens, self.access)
        yield from reply_stream(self.network, prompt, decoding, sampling, stop, previews, alternatives)

    def batch(self, conversations: Sequence[Prompt], *, stop: Stop | None = None, **options: Any) -> list[Reply]:
        """The replies to several conversations; their media are generated in batches per modality.

        Args:
            conversations: each as for :meth:`stream`.
            stop: called after each pass of the LLM and each denoising step; when it returns true, generation ends.
            options: see :meth:`stream`; ``seeds`` sets the seed of each conversation's media instead of ``seed``.
                At temperature 0, replies do not depend on the other conversations.

        Raises:
            StoppedError: ``stop`` has returned true.

        """
        seeds = options.pop("seeds", None)
        decoding, sampling = reply_options(options, self.network.decoders)
        seeds = seeds_of(seeds, decoding.seed, len(conversations))
        if not conversations:
            return []
        return replies_of(self.network, self._written(conversations, decoding, stop), seeds, sampling, stop)

    def write(self, conversations: Sequence[Messages], decoding: Decoding | None = None) -> list[Rendered]:
        """Prompts with the LLM's replies, signal spans included; no media are generated.

        If a conversation leaves fewer than ``max_new_tokens`` tokens in the LLM's context, its oldest exchanges are
        dropped with a :class:`ContextWarning`.

        Raises:
            UserError: the last exchange alone does not fit.

        """
        return [reply.row for reply in self._written(conversations, decoding or Decoding())]

    def _written(self, conversations: Sequence[Prompt], decoding: Decoding, stop: Stop | None = None) -> list[Written]:
        prompts = render_all(self.conversation, conversations, decoding.max_new_tokens, self.access)
        replies = generate(self.network, prompts, decoding, stop)
        if self.network.llm.collective:
            # rounding may differ between ranks and change a token; with sharded weights all ranks need equal replies
            device = replies[0].states.device
            sent = broadcast_object([Generated(reply.ids, reply.states.cpu()) for reply in replies])
            replies = [Generated(reply.ids, reply.states.to(device)) for reply in sent]
        return [written(self.network, prompt, reply) for prompt, reply in zip(prompts, replies, strict=True)]

    def within_context(self, messages: Messages, max_new_tokens: int = Decoding.max_new_tokens) -> Messages:
        """The messages without the oldest exchanges that leave no room for a reply in the LLM's context.

        Raises:
            UserError: the last exchange alone does not fit.

        """
        limit = Decoding(max_new_tokens).max_new_tokens
        dropped = set(render(self.conversation, messages, limit, self.access)[1])
        return [message for position, message in enumerate(messages) if position not in dropped]

    def prompt(self, messages: Messages, max_new_tokens: int = Decoding.max_new_tokens) -> Rendered:
        """The prompt of a conversation, with its media read, for :meth:`stream` and :meth:`batch`.

        Several threads may call it while another one generates replies.

        Raises:
            TooLongError: the conversation leaves fewer than ``max_new_tokens`` tokens in the LLM's context.
            UserError: a message is invalid, or a medium cannot be read.

        """
        return render_read(self.conversation, messages, max_new_tokens, self.network.encoder, self.access)
