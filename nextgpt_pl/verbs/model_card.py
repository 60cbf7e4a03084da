"""The model card of a pushed run: what was measured, what the adapter fits, what it needs, and how to use it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import Any

import yaml

from nextgpt_pl.adapter import MANIFEST
from nextgpt_pl.features.keys import file_sha256
from nextgpt_pl.hub.configuration import CODE
from nextgpt_pl.reports import Run
from nextgpt_pl.reports.document import markdown_table
from nextgpt_pl.saved_network import foreign_classes
from nextgpt_pl.utils.escaping import Markdown, markdown, markdown_code
from nextgpt_pl.verbs.score import RESULTS, table_rows


def card(run: Path, repo: str, model: Mapping[str, Any]) -> str:
    """The model card: description, results, the frozen parts that the adapter fits, and usage."""
    manifest = json.loads((run / "adapter" / MANIFEST).read_text(encoding="utf-8"))
    foreign = foreign_classes({"model": model})
    llm = manifest["llm"]["path"]
    front: dict[str, Any] = {
        "library_name": "nextgpt_pl",
        "pipeline_tag": "any-to-any",
        "tags": ["nextgpt", "lightning"],
    }
    if ":" not in llm and llm.count("/") == 1:
        front["base_model"] = llm
    sections = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n",
        f"# {markdown(repo.split('/')[1])}\n",
        "An adapter of [NExT-GPT](https://arxiv.org/abs/2309.05519), the any-to-any multimodal LLM, trained with "
        f"`nextgpt_pl` {markdown(manifest['nextgpt_pl'])}. "
        "It holds the trained weights only, not the frozen parts.\n",
        f"Stages: {markdown(', '.join(manifest['stages']))}.\n",
        "## Measured\n",
        _measured(run),
        "## What it fits\n",
        markdown_table(["part", "what"], _parts(manifest, model)) + "\n",
        *_needs(foreign),
        "## Use\n",
        _usage(repo, foreign),
    ]
    return "\n".join(sections)


def _needs(foreign: Sequence[str]) -> list[str]:
    """The classes outside this package, and their packages in this environment."""
    if not foreign:
        return []
    rows = [(markdown_code(name), _package(name.split(".")[0])) for name in foreign]
    return [
        "## What it needs\n",
        "Classes outside `nextgpt_pl`, which are not part of this repository. They run on your machine: "
        "install their packages, and trust them by name, only if you know what they do.\n",
        markdown_table(["class", "package"], rows) + "\n",
    ]


def _package(module: str) -> str:
    """The distribution of a module, with its version; the module's name if it is of none."""
    names = packages_distributions().get(module, [module])
    try:
        return f"{names[0]} {version(names[0])}"
    except PackageNotFoundError:
        return names[0]


def _usage(repo: str, foreign: Sequence[str]) -> str:
    trust, model_kwargs = "", ""
    if foreign:
        trust = f", trust={json.dumps(foreign)}"
        model_kwargs = f', model_kwargs={{"trust": {json.dumps(foreign)}}}'
    return (
        "```python\nfrom nextgpt_pl import AnyToAny\n\n"
        f"chat = AnyToAny.from_pretrained({json.dumps(repo)}{trust})\n"
        'reply = chat([{"role": "user", "content": "Hello!"}])\n```\n\n'
        "`AnyToAny` runs no code of this repository. transformers runs one file of it:\n\n"
        "```python\nfrom transformers import pipeline\n\n"
        f'pipe = pipeline("any-to-any", model={json.dumps(repo)}, trust_remote_code=True{model_kwargs})\n'
        'reply = pipe([{"role": "user", "content": "Hello!"}])[0]["generated_text"][-1]["content"]\n```\n\n'
        f"`{CODE.name}` imports its classes from the installed package, of which it is a copy: "
        f"`nextgpt_pl/hub/{CODE.name}`, sha256 `{file_sha256(CODE)}`. "
        "`revision=COMMIT` pins the repository, its code too.\n"
    )


def _parts(manifest: Mapping[str, Any], model: Mapping[str, Any]) -> Sequence[Sequence[str]]:
    network = model["init_args"]["network"].get("init_args", {})
    llm = manifest["llm"]
    sizes = f"width {llm['hidden_size']}, {llm['vocab_size']} rows"
    rows: list[tuple[str, str]] = [("LLM", Markdown(f"{markdown_code(llm['path'])}, {markdown(sizes)}"))]
    if llm.get("lora"):
        rows.append(("LoRA", f"rank {llm['lora']['r']} on {', '.join(llm['lora']['target_modules'])}"))
    blocks = [name for name in ("encoder", "input_projection", "output_projection") if network.get(name)]
    rows += [(name.replace("_", " "), markdown_code(network[name]["class_path"])) for name in blocks]
    for medium, shape in manifest["embedding_shapes"].items():
        path = network.get("decoders", {}).get(medium, {}).get("init_args", {}).get("path", "")
        size = markdown(f"caption embedding {' x '.join(map(str, shape))}")
        rows.append((f"{medium} decoder", Markdown(f"{markdown_code(path)}, {size}")))
    return rows


def _measured(run: Path) -> str:
    """Tables of the scores, if the run was scored, and of the values of the last validation."""
    tables = []
    if (run / RESULTS).is_file():
        record = json.loads((run / RESULTS).read_text(encoding="utf-8"))
        heading = "Held-out dialogues of each route, scored by exact judges (`score --run RUN`):\n"
        tables.append(f"{heading}\n{markdown_table(['route', 'measure', 'result'], table_rows(record))}\n")
    values = {name: value for name, value in Run(run).final.items() if name.startswith(("val/", "test/"))}
    if values:
        rows = [(markdown_code(name), f"{value:.4g}") for name, value in sorted(values.items())]
        heading = "The last validation and test of the training run:\n"
        tables.append(f"{heading}\n{markdown_table(['value', 'result'], rows)}\n")
    if (run / "key_mapping.json").is_file():
        tables.append("Imported from an official checkpoint; `key_mapping.json` maps its keys to the adapter's.\n")
    return "\n".join(tables) or "Nothing has been measured yet.\n"
