"""``summary``: parameters, memory, operations and time of an experiment, on the meta device and without data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import Modality
from nextgpt_pl.model import NextGPT
from nextgpt_pl.projections import GroupingInputProjection, LinearInputProjection
from nextgpt_pl.sizing import budget
from nextgpt_pl.sizing.budget import Workload
from nextgpt_pl.sizing.fake_memory import activation_peak
from nextgpt_pl.sizing.measure import Cost
from nextgpt_pl.stages import DecoderAlignment
from nextgpt_pl.stages.base import Stage
from nextgpt_pl.verbs.command import helped, options_of

# the paper's data: CC3M, WebVid-2M, AudioCaps; and LLaVA + T2M, VideoChat + T2M, T2M, Alpaca + MosIT
_PAIRS = {"image": 3_000_000, "video": 2_000_000, "audio": 46_000}
_DIALOGUES = {"image": 155_000, "video": 16_000, "audio": 5_000, "text": 57_000}
_PAPER = {"encoder": "1.2B", "llm": "7B", "image decoder": "1.3B", "video decoder": "1.8B", "audio decoder": "975M"}
_PAPER_OUTPUTS = {"image": "31M", "video": "32M", "audio": "31M"}
_PAPER_INPUTS: dict[type, str] = {LinearInputProjection: "4M", GroupingInputProjection: "28M"}


def in_paper_form(count: int) -> str:
    """A number of parameters as the paper writes it: truncated to whole millions or tenths of billions."""
    if count >= 10**9:
        return f"{count // 10**8 / 10:.1f}B"
    return f"{count // 10**6}M"


def _number(text: str) -> float:
    return float(text[:-1]) * {"M": 1e6, "B": 1e9}[text[-1]]


def parameter_lines(network: NextGPT) -> list[str]:
    """Parameters of each part, the trainable ones, and for the paper's model also the paper's numbers."""
    groups = budget.sizes(network)
    trains = sum(p.numel() for p in network.parameters() if p.requires_grad)
    everything = sum(sum(parts.values()) for parts in groups.values())
    beside = _paper_numbers(network)
    towers = budget.all_imagebind_towers(network)
    lines = [f"{'part':<28}{'parameters':>16}{'cut':>9}{'paper':>9}"]
    for group, parts in groups.items():
        whole = sum(parts.values())
        if group == "encoder" and towers:
            lines.append(_row("encoder, all towers", towers, beside.get(group, "")))
            lines.append(_row("  of it built", whole, ""))
            everything += towers - whole
        else:
            lines.append(_row(group, whole, beside.get(group, "")))
        if len(parts) > 1 or "projections" in group:
            lines += [_row(f"  {name}", size, beside.get(f"{group} {name}", "")) for name, size in parts.items()]
    lines.append(f"trainable in this stage: {trains:,} of {everything:,} ({trains / everything:.2%})")
    return lines + _paper_account(groups, beside, towers)


def _row(name: str, count: int, paper: str) -> str:
    return f"{name:<28}{count:>16,}{in_paper_form(count):>9}{paper:>9}"


def _paper_numbers(network: NextGPT) -> dict[str, str]:
    """The paper's number for each part; empty unless this is the paper's model."""
    projections = list(network.input_projections.values())
    if network.llm.hidden_size != 4096 or len(projections) != 1 or type(projections[0]) not in _PAPER_INPUTS:
        return {}
    outputs = {f"output projections {name}": size for name, size in _PAPER_OUTPUTS.items()}
    return {**_PAPER, "input projections": _PAPER_INPUTS[type(projections[0])], "lora": "33M", **outputs}


def _paper_account(groups: Mapping[str, Mapping[str, int]], beside: Mapping[str, str], towers: int) -> list[str]:
    """Our sum and the paper's sum over all parts that the paper trains, and the reasons for the difference."""
    if not beside or "lora" not in groups:
        return []
    joints = {
        **groups["output projections"],
        "input": sum(groups["input projections"].values()),
        "LoRA": sum(groups["lora"].values()),
    }
    exact, cut = sum(joints.values()), sum(size // 10**6 for size in joints.values())
    frozen = {name: sum(parts.values()) for name, parts in groups.items() if name in _PAPER} | {"encoder": towers}
    cut_frozen = sum(_number("7B" if name == "llm" else in_paper_form(size)) for name, size in frozen.items())
    paper = sum(_number(beside[name]) for name in beside if name not in _PAPER)
    paper_all = paper + sum(_number(text) for text in _PAPER.values())
    return [
        f"the paper trains {paper / 1e6:.0f}M of {paper_all / 1e9:.2f}B, a sum of numbers cut to whole millions;"
        f" ours cut alike: {cut}M of {(cut * 1e6 + cut_frozen) / 1e9:.2f}B",
        f"not cut: {exact:,} of {exact + sum(frozen.values()):,}, and {sum(groups['signal tokens'].values()):,} rows of"
        f" signal tokens; Vicuna-7B has {frozen['llm']:,}, which the paper counts as 7B",
    ]


def _bytes(size: float) -> str:
    return f"{size / 2**30:,.2f} GiB" if size < 2**40 else f"{size / 2**40:,.2f} TiB"


def memory_lines(
    network: NextGPT, work: Workload, trains: int, costs: Mapping[str, Cost], gpu_memory: float
) -> list[str]:
    """Estimated memory per GPU by part, and the activations measured in a step on fake tensors."""
    rows = budget.memory(network, trains, costs, work)
    worst = max((None, *Modality), key=lambda modality: budget.activations(costs, modality))
    measured = activation_peak(network, work, worst)
    counted, everything = rows["all"], rows["all"] - rows["activations"] + measured
    fits = max(counted, everything) <= gpu_memory * 1e9
    lines = [f"memory on each of {work.gpus} GPUs ({work.strategy}), {work.batch} rows of {work.tokens} tokens:"]
    lines += [f"  {name:<30}{_bytes(size):>14}" for name, size in rows.items()]
    return [
        *lines,
        f"  with fake tensors: activations {_bytes(measured)}, all {_bytes(everything)};"
        f" {'fits' if fits else 'does not fit'} {gpu_memory:g} GB",
    ]


def cost_lines(
    network: NextGPT, work: Workload, trains: int, tflops: float, mfu: float, gpu_memory: float
) -> list[str]:
    """Memory per GPU, operations per sample, hours per epoch and size of the feature cache."""
    costs = budget.step_costs(network, work)
    per_sample = budget.flops_per_sample(costs, work)
    lines = memory_lines(network, work, trains, costs, gpu_memory)
    lines.append(f"operations per sample, {work.tokens} tokens of which {work.labels} are learned:")
    lines += [f"  {name:<30}{flops / 1e12:>9.2f} TFLOP" for name, flops in per_sample.items()]
    lines += [f"  of it {name:<24}{cost.flops / work.batch / 1e12:>9.2f} TFLOP" for name, cost in costs.items()]
    epoch = budget.hours(per_sample, work, tflops, mfu)
    total = sum(work.items.values())
    lines.append(
        f"one epoch of {total:,} samples: {epoch:,.1f} hours on {work.gpus} GPUs of {tflops:g} TFLOP/s at MFU {mfu:g}"
    )
    cache = budget.cache_bytes(network, work)
    lines += [f"cache of {name}, {budget.cache_dtype(network)}: {_bytes(size)}" for name, size in cache.items()]
    return lines


@dataclass
class Options:
    """Options of ``summary``; the other arguments are keys of the experiment, as for ``fit``.

    Args:
        gpus: number of GPUs; by default those of trainer.devices, or 8.
        strategy: by default that of trainer.strategy.
        batch: samples per GPU and step; by default data.batch_size.
        tokens: tokens of a row; by default data.max_length.
        labels: tokens of a row that are learned; by default a quarter of them.
        items: samples of an epoch, such as image=3000000,audio=46000; by default the paper's.
        tflops: peak TFLOP/s of one GPU in bfloat16; an A100 has 312.
        mfu: model FLOPs utilization, the share of the peak that is reached.
        gpu_memory: GB of one GPU, to check whether a step fits.

    """

    gpus: int | None = None
    strategy: Literal["replicated", "sharded"] | None = None
    batch: int | None = None
    tokens: int | None = None
    labels: int | None = None
    items: str | None = None
    tflops: float = 312.0
    mfu: float = 0.4
    gpu_memory: float = 80.0


def workload(options: Options, config: Any, module: Stage) -> Workload:
    """The workload of the options; what they leave out is taken from the experiment's configuration."""
    stage = type(module).__name__
    weights = module.denoising.weights if isinstance(module, DecoderAlignment) else {}
    trainer, data = config.trainer, config.data.init_args
    devices = int(trainer.devices) if str(trainer.devices).isdecimal() else 8
    tokens = options.tokens or data.max_length
    named = str(getattr(trainer.strategy, "class_path", trainer.strategy)).lower()
    sharded = any(word in named for word in ("fsdp", "modelparallel", "shard"))
    default = _DIALOGUES if stage == "InstructionTuning" else _PAIRS
    return Workload(
        batch=options.batch or data.batch_size,
        tokens=tokens,
        labels=options.labels or max(1, tokens // 4),
        gpus=options.gpus or devices * int(trainer.num_nodes),
        strategy=options.strategy or ("sharded" if sharded else "replicated"),
        items=_items(options.items) if options.items else default,
        shown=stage != "DecoderAlignment",
        made=stage != "EncoderAlignment",
        denoised=[modality for modality, weight in weights.items() if weight],
        autocast="mixed" in str(trainer.precision),
    )


def _items(text: str) -> dict[str, int]:
    try:
        counts = {name: int(number) for name, number in (pair.split("=") for pair in text.split(","))}
    except ValueError:
        raise UserError(f"--items {text!r}: give MODALITY=NUMBER, separated by commas") from None
    unknown = set(counts) - set(_DIALOGUES)
    if unknown:
        raise UserError(f"--items: {sorted(unknown)[0]!r} is none of {', '.join(_DIALOGUES)}")
    return counts


def main(argv: Sequence[str]) -> int:
    """Parse and run ``summary``.

    Raises:
        UserError: no YAML is given, or an argument is wrong.

    """
    from nextgpt_pl.training.cli import build_model

    if helped(argv[1:], "summary", Options):
        return 0
    stage, config = build_model(list(argv[1:]), Options)
    options = options_of(config, Options)
    stage.init_from = None  # sizes are the same
    with torch.device("meta"):
        stage.configure_model()
    name = type(stage).__name__
    trains = sum(p.numel() for p in stage.trainable().values())
    print("\n".join([f"{name}:", *parameter_lines(stage.network)]))
    work, speed = workload(options, config, stage), (options.tflops, options.mfu)
    print("\n".join(cost_lines(stage.network, work, trains, *speed, options.gpu_memory)))
    return 0
