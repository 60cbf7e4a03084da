"""Replies of a batch, with two media each, against transformers' own loop: python benchmarks/generation.py

The model is ``pocket:chat``. The reference generates with transformers' ``generate``, which reads every token in a pass
of its own and keeps finished rows, then reads prompt and reply again for the states of the signal tokens. The token ids
of both are compared. Drawing is the same for both; its share is printed. All take turns; medians are printed, with the
range of the paired ratios.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from figures import save
from transformers import LogitsProcessorList

from nextgpt_pl.evaluation.tasks import messages_of
from nextgpt_pl.generation.decoding import Decoding
from nextgpt_pl.generation.generate import Generated, generate, whole_reply
from nextgpt_pl.generation.prepared import batch_of, prepare
from nextgpt_pl.generation.prompts import render_all
from nextgpt_pl.generation.replies import replies_of
from nextgpt_pl.generation.signals import caption_embeddings, written
from nextgpt_pl.modality import Modality
from nextgpt_pl.model import NextGPT
from nextgpt_pl.pipeline import AnyToAny
from nextgpt_pl.pocket.world import dialogues


def passes_of(network: NextGPT, work: Callable[[], Any]) -> tuple[int, int, Any]:
    """Number of forward passes of the LLM and of the rows' tokens that they read, and the result."""
    shapes: list[int] = []
    base = network.llm.model.base_model
    hook = base.register_forward_hook(lambda _, __, out: shapes.append(out.last_hidden_state[..., 0].numel()))
    try:
        result = work()
    finally:
        hook.remove()
    return len(shapes), sum(shapes), result


@torch.no_grad()
def reference(network: NextGPT, prompts: list[Any], decoding: Decoding) -> list[Generated]:
    """The replies by transformers' loop, and their states by a second pass."""
    prepared = prepare(network, prompts, decoding)
    width = prepared.embeddings.shape[1]
    mask = (torch.arange(width) >= width - torch.tensor(prepared.lengths).unsqueeze(1)).long()
    ids = prepared.generate(
        inputs_embeds=prepared.embeddings,
        attention_mask=mask,
        max_new_tokens=prepared.limit,
        logits_processor=LogitsProcessorList([prepared.rules]),
    )
    hidden = network.llm.model.config.hidden_size
    replies = [whole_reply(network, prepared.rules, row, torch.empty(0, hidden)) for row in ids.tolist()]
    rows = [written(network, prompt, reply).row for prompt, reply in zip(prompts, replies, strict=True)]
    batch = batch_of(network, rows)
    states = network.hidden_states(batch, network.embed(batch))
    found = []
    for reply, prompt, own in zip(replies, prompts, states, strict=True):
        start = len(prompt.input_ids)
        found.append(Generated(reply.ids, own[start : start + len(reply.ids)]))
    return found


def compare(chat: AnyToAny, route: str, replies: int, decoding: Decoding, repeats: int) -> dict[str, Any]:
    """Time both and drawing in turns; print and return the figures."""
    network = chat.network
    asked = [dialogues.dialogue(route, "heldout", i).messages[:-1] for i in range(replies)]
    messages = [messages_of(turns) for turns in asked]
    prompts = render_all(chat.conversation, messages, decoding.max_new_tokens, chat.access)
    ways = {
        "ours": lambda: generate(network, prompts, decoding),
        "reference": lambda: reference(network, prompts, decoding),
    }
    counted = {name: passes_of(network, way) for name, way in ways.items()}
    same = sum(a.ids == b.ids for a, b in zip(counted["ours"][2], counted["reference"][2], strict=True))
    rows = [[written(network, p, r) for p, r in zip(prompts, counted[w][2], strict=True)] for w in ways]
    pairs = zip(*(caption_embeddings(network, own) for own in rows), strict=True)
    distance = max((a - b).abs().max().item() for one, two in pairs for a, b in zip(one, two, strict=True))
    sampling: dict[Modality, dict[str, Any]] = {modality: {} for modality in network.decoders}
    ways["drawing"] = lambda: replies_of(network, rows[0], range(replies), sampling)  # type: ignore[assignment]
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - started)
    ratios = [a / b for a, b in zip(times["reference"], times["ours"], strict=True)]
    seconds = {name: median(values) for name, values in times.items()}
    media = sum(len(reply.row.spans) for reply in rows[0])
    print(f"{replies} replies with {media} media; same tokens in {same}, embeddings differ by at most {distance:.1e}")
    for name in ("ours", "reference"):
        count, tokens, _ = counted[name]
        print(f"  {name:<10} {seconds[name]:7.3f} s, {count} passes of the LLM over {tokens} tokens")
    print(f"  reference / ours {median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]")
    whole = seconds["ours"] + seconds["drawing"]
    print(
        f"  drawing    {seconds['drawing']:7.3f} s: {seconds['drawing'] / whole:.0%} of {replies / whole:.2f} replies/s"
    )
    return {
        "replies": replies,
        "media": media,
        "same tokens": same,
        "seconds": seconds,
        "passes": {name: counted[name][0] for name in ("ours", "reference")},
        "reference / ours": [median(ratios), min(ratios), max(ratios)],
        "replies a second": replies / whole,
    }


def main() -> None:
    """Parse the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replies", type=int, default=16)
    parser.add_argument("--route", default="text->image+audio", choices=sorted(dialogues.ROUTES))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    chat = AnyToAny.from_run(device="cpu")
    figures = compare(chat, arguments.route, arguments.replies, Decoding(), arguments.repeats)
    save(arguments.json, figures)


if __name__ == "__main__":
    main()
