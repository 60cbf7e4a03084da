"""Training steps against a plain reference and against the bare LLM, in one run: python benchmarks/steps.py

The reference does what the official code does: the encoder and its preprocessing in every step, sample by sample;
logits of all positions; all hidden states kept; signal tokens gathered sample by sample; in stage 2 the whole
embedding and head trained, of which the signal tokens' rows are meant. Same weights, same batch: the losses are
compared. The bare limit is the LLM's forward and backward on the same embeddings, with its head on the labelled
positions, and nothing else. All take turns; medians are printed. Peak memory is that of a process of its own that
runs one of them.

Models are random, of the real classes: by default an ImageBind of 66M parameters and a Llama of 58M; ``--llm smol`` has
the sizes of SmolLM2-135M. Media: equal numbers of images, videos (5 clips in 3 crops each) and sounds (3 clips).
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor

from nextgpt_pl.batching import pad
from nextgpt_pl.encoders import ImageBindEncoder
from nextgpt_pl.encoders.imagebind import ImageBindConfig, ImageBindModel, TowerConfig
from nextgpt_pl.llm import CausalLM, LoRA
from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.model import NextGPT
from nextgpt_pl.pocket import dialogues, items
from nextgpt_pl.pocket.pretrain.quality import pocket_decoder
from nextgpt_pl.projections import LinearInputProjection, TransformerOutputProjection
from nextgpt_pl.samples import Batch
from nextgpt_pl.stages import DecoderAlignment, EncoderAlignment, InstructionTuning
from nextgpt_pl.stages.base import Stage

STAGES = ("enc_align", "dec_align", "instruct")
LLMS: dict[str, dict[str, int]] = {
    "small": {
        "vocab_size": 32_000,
        "hidden_size": 512,
        "intermediate_size": 1_376,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
    },
    "smol": {
        "vocab_size": 49_152,
        "hidden_size": 576,
        "intermediate_size": 1_536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
    },
}
TOWERS = {"vision": TowerConfig(640, 9, 10), "audio": TowerConfig(512, 7, 8, scale=20.0)}


def save_models(folder: Path, llm: str) -> None:
    """Random weights, the same for all that are compared."""
    from safetensors.torch import save_file
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    tokenizer = CausalLM("pocket:llm").tokenizer
    config = LlamaConfig(**LLMS[llm], eos_token_id=tokenizer.eos_token_id, tie_word_embeddings=llm == "smol")
    LlamaForCausalLM(config).save_pretrained(folder / "llm")
    tokenizer.save_pretrained(folder / "llm")
    encoder = ImageBindConfig(1024, TOWERS)
    (folder / "encoder").mkdir()
    encoder.to_json(folder / "encoder" / "config.json")
    save_file(dict(ImageBindModel(encoder).state_dict()), folder / "encoder" / "model.safetensors")


def build_stage(name: str, folder: Path) -> Stage:
    """A stage of ours on the random models; in stage 2 the signal rows are frozen, so that states can be remembered."""
    torch.manual_seed(0)
    network = NextGPT(
        llm=CausalLM(str(folder / "llm")),
        encoder=ImageBindEncoder(str(folder / "encoder"), video_clips=5, audio_clips=3)
        if name != "dec_align"
        else None,
        input_projection=LinearInputProjection if name != "dec_align" else None,
        decoders={m.value: pocket_decoder(m) for m in GENERATED} if name != "enc_align" else {},
        output_projection=partial(TransformerOutputProjection, width=256, layers=2, heads=4, dropout=0.0),
    )
    stage: Stage
    if name == "enc_align":
        stage = EncoderAlignment(network, captions=0)
    elif name == "dec_align":
        stage = DecoderAlignment(network, samples=0, train_signal_rows=False)
    else:
        stage = InstructionTuning(network, lora=LoRA(r=16, alpha=16, dropout=0.0), samples=0)
    stage.configure_model()
    stage.log_split = lambda *_: None  # type: ignore[method-assign]
    stage.eval()
    return stage


def make_batch(name: str, stage: Stage, per_modality: int) -> Batch:
    """Equal numbers of each medium, shown in stages 1 and 3 and made in stages 2 and 3."""
    render = stage.renderer
    if name == "instruct":
        routes = ("image->video", "video->text", "audio->image")
        rows = [render(dialogues.dialogue(route, "train", i)) for route in routes for i in range(per_modality)]
    else:
        rows = [render(items.captioned_pair("train", m, i)) for m in GENERATED for i in range(per_modality)]
    return pad(rows, render.pad_token_id)


class Ours:
    """The stage's own step, with its optimizer."""

    def __init__(self, name: str, folder: Path, per_modality: int) -> None:
        self.stage = build_stage(name, folder)
        self.batch = make_batch(name, self.stage, per_modality)
        self.optimizer = torch.optim.AdamW(self.stage.parameter_groups(), lr=1e-6)

    def forget(self) -> None:
        """As without a cache."""
        if self.stage.network.encoder is not None:
            self.stage.network.encoder._memory._values.clear()
        states = getattr(self.stage, "signal_states", None)
        if states is not None:
            states._stores.clear()

    def __call__(self) -> float:
        """One step; its loss."""
        self.optimizer.zero_grad()
        loss = self.stage.model_step(self.batch, "train")
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())


class Reference(Ours):
    """What the official code does with the same weights and the same batch."""

    def __init__(self, name: str, folder: Path, per_modality: int) -> None:
        super().__init__(name, folder, per_modality)
        network = self.stage.network
        self.name = name
        if name == "dec_align":  # the official code trains embedding and head whole
            table, head = network.llm.model.get_input_embeddings(), network.llm.model.get_output_embeddings()
            for layer in (table, head):
                layer.requires_grad_(True)
            whole = {id(p): p for layer in (table, head) for p in layer.parameters()}
            self.optimizer.add_param_group({"params": list(whole.values())})

    def _embeddings(self) -> Tensor:
        network, rows = self.stage.network, []
        tokens = network.llm.embed(self.batch.input_ids)
        for row in range(len(self.batch)):
            embedded = tokens[row]
            for modality, slots in self.batch.slots.items():
                for _, slot in (entry for entry in slots if entry[0] == row):
                    assert network.encoder is not None
                    with torch.no_grad():
                        feature = network.encoder(modality, network.encoder.prepare(slot.media)[None])
                    shown = network.input_projection(modality)(feature)[0]
                    embedded = torch.cat([embedded[: slot.start], shown, embedded[slot.stop :]])
            rows.append(embedded)
        return torch.stack(rows)

    def __call__(self) -> float:
        """One step; its loss."""
        self.optimizer.zero_grad()
        network, batch = self.stage.network, self.batch
        embeddings = self._embeddings()
        mask = batch.attention_mask
        out = network.llm.model.base_model(
            inputs_embeds=embeddings, attention_mask=mask, output_hidden_states=True, use_cache=False
        )
        logits = network.llm.logits(out.last_hidden_state)
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), batch.labels[:, 1:].flatten(), ignore_index=-100)
        weights = getattr(self.stage, "weights", {})
        for modality, spans in batch.spans.items():
            distances = []
            for row, start, caption in zip(spans.rows.tolist(), spans.starts.tolist(), spans.captions, strict=True):
                place = slice(start, start + len(network.span_ids()[modality]))
                hidden, ids = out.hidden_states[-1][row, place], embeddings[row, place]
                predicted = network.project_signals(modality, hidden[None], ids[None])
                decoder = network.decoders[modality]
                target = decoder.embed_captions([caption]).view(1, *decoder.projection_shape)
                distances.append((predicted - target).square().mean())
            loss = loss + weights[modality] * torch.stack(distances).mean()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())


class Bare(Ours):
    """The LLM alone, forward and backward."""

    def __init__(self, name: str, folder: Path, per_modality: int) -> None:
        super().__init__(name, folder, per_modality)
        with torch.no_grad():
            self.embeddings = self.stage.network.embed(self.batch)

    def __call__(self) -> float:
        """One pass; the cross-entropy."""
        llm = self.stage.network.llm
        self.stage.zero_grad()
        embeddings = self.embeddings.clone().requires_grad_()
        following = F.pad(self.batch.labels[:, 1:], (0, 1), value=-100)
        hidden = llm(embeddings, self.batch.attention_mask)
        loss = F.cross_entropy(llm.logits(hidden[following >= 0]).float(), following[following >= 0])
        loss.backward()
        return float(loss.detach())


class ProjectionsAlone(Ours):
    """The output projections' own forward, backward and optimizer step: the limit of stage 2 with remembered states."""

    def __init__(self, name: str, folder: Path, per_modality: int) -> None:
        super().__init__(name, folder, per_modality)
        network, self.given = self.stage.network, dict[Modality, tuple[Tensor, ...]]()
        with torch.no_grad():
            embeddings = network.embed(self.batch)
            hidden = network.hidden_states(self.batch, embeddings)
        for modality, spans in self.batch.spans.items():
            decoder = network.decoders[modality]
            states = [network.at_signals(modality, s, spans) for s in (hidden, embeddings)]
            target = decoder.embed_captions(spans.captions).view(-1, *decoder.projection_shape)
            self.given[modality] = (*states, target)

    def __call__(self) -> float:
        """One step; the distance."""
        self.optimizer.zero_grad()
        loss = torch.zeros(())
        for modality, (hidden, embeddings, target) in self.given.items():
            predicted = self.stage.network.project_signals(modality, hidden, embeddings)
            loss = loss + (predicted - target).square().mean()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())


KINDS: dict[str, Callable[..., Ours]] = {"ours": Ours, "reference": Reference, "bare": Bare, "alone": ProjectionsAlone}


def peak_megabytes(kind: str, arguments: argparse.Namespace, stage: str, folder: Path) -> float:
    """Peak memory of a process of its own, above what it has before a model is built."""
    command = [sys.executable, __file__, "--memory-of", kind, "--stage", stage, "--models", str(folder)]
    command += ["--per-modality", str(arguments.per_modality), "--llm", arguments.llm]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(out.split()[-1])


def print_memory(arguments: argparse.Namespace) -> None:
    """The child of :func:`peak_megabytes`: ours with a full cache on disk, or the reference."""
    from nextgpt_pl.features import FeatureCache

    before = _peak()
    step = KINDS[arguments.memory_of](arguments.stage, arguments.models, arguments.per_modality)
    encoder = step.stage.network.encoder
    if arguments.memory_of == "ours" and encoder is not None:
        # the encoder of a run with a full cache is not there
        step.stage.network.encoder = None
        del encoder
        fresh = ImageBindEncoder(str(arguments.models / "encoder"), video_clips=5, audio_clips=3)
        fresh.cache = FeatureCache(arguments.models / "cache", "float32")
        step.stage.network.encoder = fresh
    for _ in range(2):
        step()
    print((_peak() - before) / 1024)


def _peak() -> int:
    """Kilobytes of this program; the usual counter starts with what its parent had."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1])  # type: ignore[index]


def compare(stage: str, arguments: argparse.Namespace, folder: Path) -> None:
    """Time one stage's variants in turns, and print."""
    ours = Ours(stage, folder, arguments.per_modality)
    uncached = Ours(stage, folder, arguments.per_modality)
    reference = Reference(stage, folder, arguments.per_modality)
    bare = Bare(stage, folder, arguments.per_modality)
    turns: dict[str, Ours] = {"cached": ours, "uncached": uncached, "reference": reference, "bare LLM": bare}
    if stage == "dec_align":
        turns["projections alone"] = ProjectionsAlone(stage, folder, arguments.per_modality)
    first = {name: turn() for name, turn in turns.items()}
    samples = len(ours.batch)
    times: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(arguments.repeats):
        for name, turn in turns.items():
            if name == "uncached":
                turn.forget()
            started = time.perf_counter()
            turn()
            times[name].append(time.perf_counter() - started)
    found = {name: median(values) for name, values in times.items()}
    print(f"{stage}: {samples} samples of {ours.batch.input_ids.shape[1]} tokens")
    print(f"  losses: ours {first['cached']:.6f}, reference {first['reference']:.6f}")
    for name, seconds in found.items():
        print(f"  {name:<18} {seconds:8.3f} s a step, {samples / seconds:8.1f} samples/s")
    print(f"  cached is {found['reference'] / found['cached']:.1f} times as fast as the reference,", end=" ")
    print(f"uncached {found['reference'] / found['uncached']:.1f} times")
    if stage == "dec_align":
        ratio = found["cached"] / found["projections alone"]
        print(f"  a cached step takes {ratio:.2f} times what its projections alone do")
    else:
        print(f"  a cached step takes {found['cached'] / found['bare LLM']:.2f} times what the LLM alone does")


def flops_at_7b(stage: str) -> str:
    """The reference's operations over ours, for the paper's model, without weights."""
    from nextgpt_pl import budget, costs
    from nextgpt_pl.cli import ExperimentCLI, parser_arguments

    file = Path(__file__).parent.parent / "experiments" / "paper_v1" / f"{stage}.yaml"
    with torch.device("meta"):
        cli = ExperimentCLI(**parser_arguments(["-c", str(file)]), run=False)
        cli.model.configure_model()
    network = cli.model.network
    rows, tokens, labels = 3, 64, 24
    work = budget.Workload(rows, tokens, labels, 1, "replicated", shown=stage != "dec_align", made=stage != "enc_align")
    parts = budget.step_costs(network, work)
    encoder = sum(cost.forward // rows for name, cost in parts.items() if name.endswith(" encoder"))
    projections = sum(cost.flops // rows for name, cost in parts.items() if name.endswith(" projection"))
    everywhere = costs.llm_cost(network, rows, tokens, rows * tokens).flops
    reference = encoder + projections + everywhere
    ours = projections + (0 if stage == "dec_align" else parts["llm"].flops)
    return f"  by operations at 7B, rows of {tokens} tokens: {reference / ours:.1f} times fewer than the reference"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", choices=STAGES, action="append", help="all without it")
    parser.add_argument("--llm", choices=sorted(LLMS), default="small")
    parser.add_argument("--per-modality", type=int, default=4, help="media of each kind in the batch")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-memory", action="store_true", help="leave out the peak memory")
    parser.add_argument("--memory-of", choices=("ours", "reference"), help=argparse.SUPPRESS)
    parser.add_argument("--models", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        (arguments.stage,) = arguments.stage
        print_memory(arguments)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_models(folder, arguments.llm)
        for stage in arguments.stage or STAGES:
            compare(stage, arguments, folder)
            if not arguments.no_memory:
                for _ in range(2):  # the first fills the cache
                    ours = peak_megabytes("ours", arguments, stage, folder)
                theirs = peak_megabytes("reference", arguments, stage, folder)
                print(f"  peak memory {ours:.0f} MB against the reference's {theirs:.0f} MB: {ours / theirs:.2f}")
            print(flops_at_7b(stage), flush=True)


if __name__ == "__main__":
    main()
