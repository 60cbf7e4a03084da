"""NextGPT: encoder, input projections, LLM, output projections, decoders. Composition only; stages train it.

Shapes: B rows, T tokens, H LLM width, S spans of one modality, K signal tokens per span, L x D caption embedding.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from nextgpt_pl.batches import Batch, MediaSlot, SpanTargets
from nextgpt_pl.decoders.base import Decoder
from nextgpt_pl.decoders.embeddings import CaptionEmbeddings
from nextgpt_pl.dialogue.conversation import Conversation, Direction
from nextgpt_pl.dialogue.history import MediaInHistory
from nextgpt_pl.dialogue.reply_media import MediaAs, reply_media
from nextgpt_pl.encoders.base import Encoder, EncoderInput
from nextgpt_pl.encoders.stores import EncoderStores, MemoryStores
from nextgpt_pl.errors import UserError
from nextgpt_pl.features import FeatureCache
from nextgpt_pl.llm import CausalLM
from nextgpt_pl.llm.passes import frozen_lengths
from nextgpt_pl.modality import Modality, ids_behind
from nextgpt_pl.model_arguments import (
    check_history,
    check_own,
    check_sizes,
    modality_of,
    signal_counts,
    with_separator,
    word_limits,
)
from nextgpt_pl.projections import InputProjection, OutputProjection, WordInputProjection
from nextgpt_pl.projections.build import build
from nextgpt_pl.utils.distributed import full_tensor, world_size, zero_gradients
from nextgpt_pl.utils.initial import isolated
from nextgpt_pl.utils.stopwatch import Stopwatch
from nextgpt_pl.utils.transfer import upload

# key of the input projection where one serves all modalities
_SHARED = "all"

InputProjectionFactory = Callable[[int, int], InputProjection]
OutputProjectionFactory = Callable[[int, int, int, int], OutputProjection]


class NextGPT(nn.Module):
    """The any-to-any model. The constructor is instant; :meth:`load` builds the networks and reads weights.

    Args:
        llm: the language model.
        decoders: decoder per generated modality.
        output_projection: class and arguments of the output projections, one of which is built per decoder that takes
            embeddings; their outer widths come from the LLM and from each decoder's own text encoder.
        encoder: encoder of input media; ``None`` without input media.
        input_projection: class and arguments of the input projections, one per modality of the encoder.
        own_input_projections: of single modalities, instead of ``input_projection``; not with
            ``share_input_projection``.
        num_signal_tokens: number of signal tokens per modality; by default the paper's.
        signal_separator: id of a token between two signal tokens of a span, which is projected with them. The newer
            official code has a space there (29871 in Vicuna's vocabulary), because of its tokenizer.
        share_input_projection: one input projection for all modalities, as in the paper, instead of one for each.
        null_signals: one trained unconditional embedding per decoder, which guidance uses instead of the decoder's
            negative prompt. Trained by ``model.condition_dropout`` of decoder alignment.
        media_as: ``signals``, or as a baseline ``captions``: the LLM writes a caption between the first and last signal
            token of a medium, which the decoder's own text encoder reads. Then nothing is projected for the decoders.
        media_in_history: how later turns see the media that the assistant has made: as the ``signals`` that it wrote,
            as ``features`` of the encoder like the user's media, or as ``both``. Media of modalities that the encoder
            does not have stay signals.
        cache: feature cache on disk; without it, features of frozen parts are cached in memory only.
        memory: size in bytes of a memory for the features of recent media, and of one for each decoder's caption
            embeddings, without ``cache``; by default larger ones that keep the first features.
        compile_projections: compile input and output projections (``torch.compile``).

    """

    def __init__(
        self,
        llm: CausalLM,
        decoders: dict[str, Decoder] | None = None,
        output_projection: OutputProjectionFactory | None = None,
        encoder: Encoder | None = None,
        input_projection: InputProjectionFactory | None = None,
        own_input_projections: dict[str, InputProjectionFactory] | None = None,
        num_signal_tokens: dict[str, int] | None = None,
        signal_separator: int | None = None,
        share_input_projection: bool = False,
        null_signals: bool = False,
        media_as: MediaAs = "signals",
        media_in_history: MediaInHistory = "signals",
        cache: FeatureCache | None = None,
        memory: int | None = None,
        compile_projections: bool = False,
    ) -> None:
        super().__init__()
        self.compile_projections = compile_projections
        self.llm, self.encoder = llm, encoder
        self.decoders = {modality_of(name, "decoders"): d for name, d in (decoders or {}).items()}
        own = own_input_projections or {}
        factories = {"output_projection": output_projection, "input_projection": input_projection}
        for key, factory in {**factories, **{f"own_input_projections.{name}": f for name, f in own.items()}}.items():
            check_sizes(key, getattr(factory, "keywords", {}))
        check_own(own, encoder, share_input_projection)
        self.own_input_factories = {modality_of(name, "own_input_projections"): f for name, f in own.items()}
        self.output_projection_factory, self.input_projection_factory = output_projection, input_projection
        self.reply_media = reply_media(media_as, signal_separator, word_limits(self.decoders))
        self.media_in_history = media_in_history
        self.num_signal_tokens = signal_counts(num_signal_tokens or {}, self.reply_media, self.decoders)
        self.signal_separator = signal_separator
        self.share_input_projection = share_input_projection
        self.has_null_signals = null_signals
        self.null_signals = nn.ParameterDict()
        self.cache = cache
        self.stopwatch = Stopwatch()
        self.encoder_stores: EncoderStores | MemoryStores = MemoryStores(memory)
        if encoder is not None and cache is not None:
            self.encoder_stores = encoder.stores(cache)
        self.caption_embeddings = CaptionEmbeddings(self.decoders, cache, memory)
        self.output_projections = nn.ModuleDict()
        self.input_projections = nn.ModuleDict()
        if self.projected and output_projection is None:
            raise UserError("network.decoders are given, but no network.output_projection to feed them")
        check_history(media_in_history, self.decoders, self.shown_modalities)

    @property
    def loaded(self) -> bool:
        """Whether :meth:`load` has run."""
        return self.llm.model is not None

    @property
    def shown_modalities(self) -> tuple[Modality, ...]:
        """Modalities that the LLM can be shown: those of the encoder, if there is an input projection."""
        return self.encoder.modalities if self.encoder is not None and self.input_projection_factory is not None else ()

    @property
    def embedded(self) -> dict[Modality, Decoder]:
        """The decoders that are given caption embeddings; the others take words."""
        return {m: decoder for m, decoder in self.decoders.items() if not decoder.takes_words}

    @property
    def projected(self) -> dict[Modality, Decoder]:
        """The decoders whose caption embeddings are projected from signal tokens."""
        return {m: decoder for m, decoder in self.decoders.items() if m not in self.reply_media.words}

    def signal_ids(self) -> dict[Modality, list[int]]:
        """Token ids of the signal tokens: behind the LLM's own rows, in the order of the modality table.

        Every modality of the paper has its ids, whether a decoder is configured or not, so that ids mean the same in
        all runs. The ids of optional modalities follow.
        """
        return ids_behind(self.llm.vocab_size, self.num_signal_tokens)

    def span_ids(self) -> dict[Modality, list[int]]:
        """Token ids of whole spans: the signal tokens, and the separator between them if there is one."""
        whole = {m: ids for m, ids in self.signal_ids().items() if m not in self.reply_media.words}
        return {**self.signal_ids(), **with_separator(whole, self.signal_separator, self.llm.vocab_size)}

    def conversation(self, direction: Direction = "generation") -> Conversation:
        """The renderer of items as token ids for this model; reads the tokenizer, no weights."""
        signal_ids = self.span_ids()
        return Conversation(
            tokenizer=self.llm.tokenizer,
            signal_ids={m: signal_ids[m] for m in self.decoders},
            slot_lengths={m: self.slot_length(m) for m in self.shown_modalities},
            embedding_shapes={m: d.embedding_shape for m, d in self.embedded.items()},
            direction=direction,
            reply_media=self.reply_media,
            context_length=self.llm.context_length,
            media_in_history=self.media_in_history,
        )

    def slot_length(self, modality: Modality) -> int:
        """Token positions that a medium of this modality takes in the prompt."""
        assert self.encoder is not None
        assert self.input_projection_factory is not None
        factory = self.own_input_factories.get(modality, self.input_projection_factory)
        with torch.device("meta"):  # the network may not be loaded yet
            projection = factory(self.encoder.width(modality), self.llm.hidden_size)
        return projection.tokens(self.encoder.tokens(modality))

    def _input_key(self, modality: Modality) -> str:
        return _SHARED if self.share_input_projection else modality.value

    def _input_widths(self) -> dict[Modality, int]:
        """Width of the features that each input projection reads, by a modality that it serves.

        Raises:
            UserError: one projection is shared by modalities of several widths.

        """
        assert self.encoder is not None
        widths = {m: self.encoder.width(m) for m in self.encoder.modalities}
        if self.share_input_projection and len(set(widths.values())) > 1:
            given = ", ".join(f"{m} {width}" for m, width in widths.items())
            raise UserError(f"network.share_input_projection=true: the widths of features differ: {given}; set false")
        return dict(list(widths.items())[:1]) if self.share_input_projection else widths

    def input_projection(self, modality: Modality) -> InputProjection:
        """The loaded network's projection of a modality's features."""
        projection = self.input_projections[self._input_key(modality)]
        assert isinstance(projection, InputProjection)
        return projection

    def optional_parts(self) -> dict[str, list[nn.Parameter]]:
        """Parameters of the loaded network's parts that a batch may leave unused, by name of the part."""
        parts = {f"input_projections.{name}": list(p.parameters()) for name, p in self.input_projections.items()}
        parts |= {f"output_projections.{name}": list(p.parameters()) for name, p in self.output_projections.items()}
        return parts | {f"null_signals.{name}": [signal] for name, signal in self.null_signals.items()}

    def used_parts(self, batch: Batch) -> set[str]:
        """Names of the :meth:`optional_parts` that a batch's media pass through."""
        shown = {f"input_projections.{self._input_key(m)}" for m in batch.slots}
        return shown | {f"output_projections.{m}" for m in batch.spans}

    def load(self, encoder: bool = True, llm_layers: bool = True) -> None:
        """Build the networks and read the frozen weights; under the meta device nothing is read.

        Random weights are initialised on the CPU, then moved to the default device.

        Args:
            encoder: load the encoder now. Otherwise, and always with a cache, it is loaded when a feature must first be
                computed.
            llm_layers: load the LLM's layers now; otherwise they are loaded by its first forward pass.

        """
        with isolated(1):
            self.llm.load(sum(self.num_signal_tokens.values()), layers=llm_layers)
        spans = self.span_ids()
        for modality, decoder in self.projected.items():
            assert self.output_projection_factory is not None
            length, dim = decoder.projection_shape
            self.output_projections[modality.value] = build(
                self.output_projection_factory,
                *(self.llm.hidden_size, len(spans[modality]), length, dim),
                compile=self.compile_projections,
            )
            if self.has_null_signals:
                self.null_signals[modality.value] = nn.Parameter(torch.zeros(length, dim))
        if self.encoder is None or self.input_projection_factory is None:
            return
        if encoder and self.cache is None:
            with isolated(2):
                self.encoder.load()
        for modality, width in self._input_widths().items():
            factory = self.own_input_factories.get(modality, self.input_projection_factory)
            projection = build(factory, width, self.llm.hidden_size, compile=self.compile_projections)
            if isinstance(projection, WordInputProjection):
                projection.use_words(self.llm.word_embeddings(), self.llm.embedding_scale)
            self.input_projections[self._input_key(modality)] = projection

    def train(self, mode: bool = True) -> NextGPT:
        """Projections that are frozen stay in evaluation mode: their dropout would only be noise."""
        super().train(mode)
        for projection in (*self.input_projections.values(), *self.output_projections.values()):
            if not any(p.requires_grad for p in projection.parameters()):
                projection.train(False)
        return self

    def prepare_for_sharding(self) -> None:
        """Make all ranks run the same number of passes of every block, whatever their batches contain."""
        self.llm.prepare_for_sharding()
        if self.encoder is not None:
            self.encoder.prepare_for_sharding()

    def embed(self, batch: Batch) -> Tensor:
        """Token embeddings ``(B, T, H)``, with the projected media in their slots."""
        embeddings = self.llm.embed(batch.input_ids)
        if world_size() > 1:
            # the LLM's backward pass has collectives if it is sharded: all ranks run it, also without media
            used = {self._input_key(m) for m in batch.slots}
            unused = (p for name, part in self.input_projections.items() if name not in used for p in part.parameters())
            embeddings = embeddings + zero_gradients(unused, embeddings)
        for modality, (slots, features) in self.features(batch).items():
            projected = self.input_projection(modality)(features)
            rows = torch.cat([torch.full((slot.stop - slot.start,), row) for row, slot in slots])
            positions = torch.cat([torch.arange(slot.start, slot.stop) for _, slot in slots])
            where = (upload(rows, embeddings.device), upload(positions, embeddings.device))
            embeddings = embeddings.index_put(where, projected.flatten(0, 1).to(embeddings.dtype))
        return embeddings

    def features(self, batch: Batch) -> dict[Modality, tuple[list[tuple[int, MediaSlot]], Tensor]]:
        """Per modality of the batch's media: their rows and slots, and their features ``(N, E, C)``."""
        slots = batch.slots
        if self.encoder is not None and self.encoder.collective:
            # all ranks encode, in the same order, also without media of their own
            slots = {m: batch.slots.get(m, []) for m in self.encoder.modalities}
        if not slots:
            return {}
        assert self.encoder is not None
        media = {
            m: [EncoderInput(s.media, s.inputs, s.key) for _, s in of_modality] for m, of_modality in slots.items()
        }
        with self.stopwatch("encoding", batch.labels.device):
            features = self.encoder.encode(media, batch.labels.device, self.encoder_stores)
        return {m: (slots[m], of_modality) for m, of_modality in features.items() if slots[m]}

    def hidden_states(self, batch: Batch, embeddings: Tensor) -> Tensor:
        """The LLM's final hidden states ``(B, T, H)`` of :meth:`embed`'s embeddings."""
        frozen = frozen_lengths(batch, self.llm.vocab_size) if self.llm.passes.frozen_prefix else None
        return self.llm(embeddings, batch.lengths(), frozen)

    def project(self, modality: Modality, hidden: Tensor, embeddings: Tensor, spans: SpanTargets) -> Tensor:
        """Projected signal tokens of all spans of a modality, ``(S, L, D)`` float32.

        Args:
            modality: modality of the spans.
            hidden: ``(B, T, H)`` final hidden states.
            embeddings: ``(B, T, H)`` token embeddings.
            spans: positions of the signal tokens.

        """
        inputs = (self.at_signals(modality, states, spans) for states in (hidden, embeddings))
        return self.project_signals(modality, *inputs)

    def at_signals(self, modality: Modality, states: Tensor, spans: SpanTargets) -> Tensor:
        """``(B, T, H)`` at the spans' tokens, ``(S, K, H)`` float32."""
        offsets = torch.arange(len(self.span_ids()[modality]), device=states.device)
        return states[spans.rows.unsqueeze(1), spans.starts.unsqueeze(1) + offsets].float()

    def project_signals(self, modality: Modality, hidden: Tensor, embeddings: Tensor) -> Tensor:
        """Hidden states and token embeddings ``(S, K, H)`` of the signal tokens to ``(S, L, D)``."""
        projected: Tensor = self.output_projections[modality.value](hidden, embeddings)
        return projected

    def null_signal(self, modality: Modality) -> Tensor | None:
        """The null signal in the decoder's ``embedding_shape``; ``None`` if there is none."""
        if not self.has_null_signals:
            return None
        signal = self.null_signals[modality.value]
        return full_tensor(signal, signal.device).view(self.decoders[modality].embedding_shape)
