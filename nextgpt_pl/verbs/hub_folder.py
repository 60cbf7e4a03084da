"""The folder that ``push`` uploads: the adapter, the network's configuration and a model card with the results."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from nextgpt_pl.adapter import MANIFEST, WEIGHTS
from nextgpt_pl.config.yaml_files import read_yaml
from nextgpt_pl.errors import UserError
from nextgpt_pl.reports import Run
from nextgpt_pl.reports.document import markdown_table
from nextgpt_pl.utils.atomic import write_atomic
from nextgpt_pl.utils.escaping import Markdown, markdown, markdown_code
from nextgpt_pl.verbs.score import RESULTS, table_rows

_OPTIONAL = (RESULTS, Path("key_mapping.json"))  # copied if they exist, without their folders
_LOCAL_KEYS = ("init_from",)  # paths that exist on the training machine only


def write_folder(run: Path, folder: Path, repo: str) -> None:
    """Write the files to upload.

    Args:
        run: folder of the run.
        folder: output folder; new, empty, or written by an earlier ``push``.
        repo: name on the hub, ``user/name``, for the model card.

    Raises:
        UserError: the run has no adapter or no configuration, or the folder has other contents.

    """
    adapter = run / "adapter"
    for file in (run / "config.yaml", adapter / MANIFEST, adapter / WEIGHTS):
        if not file.is_file():
            raise UserError(
                f"{run}: no {file.relative_to(run)} there; give the folder of a run or of an imported checkpoint"
            )
    if folder.exists() and any(folder.iterdir()) and not (folder / "adapter" / WEIGHTS).is_file():
        raise UserError(f"--out {folder}: the folder is not empty and was not written by push")
    (folder / "adapter").mkdir(parents=True, exist_ok=True)
    for name in (WEIGHTS, MANIFEST):
        shutil.copyfile(adapter / name, folder / "adapter" / name)
    for path in _OPTIONAL:
        if (run / path).is_file():
            shutil.copyfile(run / path, folder / path.name)
    config = {"model": model_block(read_yaml(run / "config.yaml"))}
    write_atomic(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False))
    write_atomic(folder / "README.md", card(run, repo, config["model"]))


def model_block(config: Mapping[str, Any]) -> dict[str, Any]:
    """The ``model`` section of a run's configuration, without paths of the training machine."""
    model = dict(config["model"])
    model["init_args"] = {k: v for k, v in model.get("init_args", {}).items() if k not in _LOCAL_KEYS}
    return model


def card(run: Path, repo: str, model: Mapping[str, Any]) -> str:
    """The model card: description, results, the frozen parts that the adapter fits, and usage."""
    manifest = json.loads((run / "adapter" / MANIFEST).read_text(encoding="utf-8"))
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
        "## Use\n",
        _usage(repo),
    ]
    return "\n".join(sections)


def _usage(repo: str) -> str:
    return (
        "```python\nfrom nextgpt_pl import AnyToAny\n\n"
        f"chat = AnyToAny.from_pretrained({json.dumps(repo)})\n"
        'reply = chat([{"role": "user", "content": "Hello!"}])\n```\n'
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
