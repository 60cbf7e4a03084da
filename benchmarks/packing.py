"""Packed rows against padded ones, and against groups of rows of similar length: python benchmarks/packing.py

One step is forward and backward of a random Llama with LoRA, with its loss on the last quarter of each row. Three of
four rows are short, the others long, as in a mixture of captions and dialogues. All take turns; medians are printed,
with the range of the paired ratios, and the difference of the losses.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from figures import save
from step_variants import LLMS, save_models

from nextgpt_pl.batches import IGNORE, Batch, Rendered
from nextgpt_pl.dialogue.batching import pad
from nextgpt_pl.llm import CausalLM, LoRA

WAYS: dict[str, dict[str, int | bool]] = {"padded": {}, "4 groups": {"length_groups": 4}, "packed": {"packing": True}}


def mixture(rows: int, vocabulary: int) -> Batch:
    """Rows of random ids: three of four have 20 to 80 tokens, the others 300 to 500."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for number in range(rows):
        low, high = (20, 80) if number % 4 else (300, 500)
        length = int(torch.randint(low, high, (), generator=generator))
        ids = torch.randint(10, vocabulary, (length,), generator=generator).tolist()
        start = 3 * length // 4
        made.append(Rendered(ids, [IGNORE] * start + ids[start:]))
    return pad(made, 0)


def stepper(folder: Path, options: dict[str, int | bool], batch: Batch) -> Callable[[], float]:
    """A function that runs one step and returns its loss."""
    torch.manual_seed(0)
    llm = CausalLM(str(folder / "llm"), **options)  # type: ignore[arg-type]
    llm.load(4)
    llm.add_lora(LoRA(r=16, alpha=32, dropout=0.0))
    for name, parameter in llm.named_parameters():
        parameter.requires_grad_("lora_" in name)

    def step() -> float:
        hidden = llm(llm.embed(batch.input_ids), batch.lengths())
        places, labels = batch.predictions()
        loss = llm.cross_entropy(hidden.flatten(0, 1)[places], labels)[0] / len(labels)
        loss.backward()
        llm.zero_grad(set_to_none=True)
        return float(loss.detach())

    return step


def main() -> None:
    """Parse the arguments and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llm", choices=sorted(LLMS), default="small")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        save_models(Path(name), arguments.llm)
        batch = mixture(arguments.rows, LLMS[arguments.llm]["vocab_size"])
        steps = {way: stepper(Path(name), options, batch) for way, options in WAYS.items()}
        losses = {way: step() for way, step in steps.items()}
        times: dict[str, list[float]] = {way: [] for way in steps}
        for _ in range(arguments.repeats):
            for way, step in steps.items():
                started = time.perf_counter()
                step()
                times[way].append(time.perf_counter() - started)
    tokens = sum(batch.lengths())
    print(f"{len(batch)} rows, {tokens} tokens, {batch.input_ids.numel() / tokens:.2f} times as many with padding")
    figures: dict[str, dict[str, object]] = {}
    for way, seconds in times.items():
        ratios = sorted(padded / own for padded, own in zip(times["padded"], seconds, strict=True))
        print(
            f"  {way:<9} {tokens / median(seconds):8.0f} tokens/s, {median(ratios):.2f} times as fast as padded"
            f" [{ratios[0]:.2f}, {ratios[-1]:.2f}], loss differs by {abs(losses[way] - losses['padded']):.1e}"
        )
        figures[way] = {
            "tokens a second": tokens / median(seconds),
            "times as fast as padded": [median(ratios), ratios[0], ratios[-1]],
            "difference of the loss": abs(losses[way] - losses["padded"]),
        }
    save(arguments.json, figures)


if __name__ == "__main__":
    main()
