"""Write two small tasks of lmms-eval on held-out images of the pocket world: ``python tests/helpers/lmms_toy.py DIR``.

``pocket_describe`` asks for descriptions of images, ``pocket_draw`` for images; both are judged exactly.
"""

import json
import sys
from pathlib import Path

from nextgpt_pl.media.writing import save_image
from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.world import grammar
from nextgpt_pl.pocket.world.attributes import attributes
from nextgpt_pl.pocket.world.render import render
from nextgpt_pl.pocket.world.scenes import item_rng, item_scene

_TASK = """task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_visual: !function utils.{name}_visual
doc_to_text: prompt
doc_to_target: caption
process_results: !function utils.{name}_results
generation_kwargs: {{max_new_tokens: 120, temperature: 0, do_sample: false, until: ["###"]{more}}}
metric_list:
  - {{metric: right, aggregation: mean, higher_is_better: true}}
"""
_UTILS = """import json
from pathlib import Path

import numpy as np
from PIL import Image

from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.judges.picture import judge_image
from nextgpt_pl.pocket.judges.text import judge_text
from nextgpt_pl.pocket.world.attributes import scene_of


def pocket_describe_visual(doc):
    return [Image.open(doc["image"]).convert("RGB")]


def pocket_describe_results(doc, results):
    return {"right": float(judge_text(results[0], Modality.IMAGE) == scene_of(json.loads(doc["scene"])))}


def pocket_draw_visual(doc):
    return []


def pocket_draw_results(doc, results):
    (path,) = json.loads(results[0])["images"]
    return {"right": float(judge_image(np.asarray(Image.open(path))) == scene_of(json.loads(doc["scene"])))}
"""


def write_toy(folder: Path, count: int = 24) -> None:
    """Write the two tasks with ``count`` documents each."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, ask, more in (
        ("pocket_describe", "Describe the picture.", ""),
        ("pocket_draw", "Draw {}.", ", modalities: [image]"),
    ):
        rows = [_row(folder, name, ask, index) for index in range(count)]
        data = folder / f"{name}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / f"{name}.yaml").write_text(_TASK.format(name=name, data=json.dumps(str(data)), more=more))
    (folder / "utils.py").write_text(_UTILS)


def _row(folder: Path, name: str, ask: str, index: int) -> dict:
    scene = item_scene("heldout", Modality.IMAGE, index, seed=3)
    caption = grammar.plain_caption(scene)
    row = {"prompt": ask.format(caption), "caption": caption, "scene": json.dumps(attributes(scene))}
    if name == "pocket_describe":
        path = folder / f"{index:03}.png"
        save_image(render(scene, item_rng("heldout", Modality.IMAGE, index, 3, "lmms-eval")), path)
        row["image"] = str(path)
    return row


if __name__ == "__main__":
    write_toy(Path(sys.argv[1]).resolve())
