"""A few made-up rows of each benchmark, in the layout of its published files."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from nextgpt_pl.evaluation import benchmarks
from nextgpt_pl.pocket.judges.text import judge_text
from nextgpt_pl.pocket.world.render import render

RING = "a large red ring in the center on a black background"
STAR = "a large pink star in the center on a white background"
PROMPTS = (RING, STAR)


def _file(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(content), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(f"{json.dumps(row)}\n" for row in content))
    else:
        path.write_text(json.dumps(content))


def _picture() -> bytes:
    file = io.BytesIO()
    Image.fromarray(render(judge_text(RING, "image"), Random(0))).save(file, "PNG")
    return file.getvalue()


def _geneval(root: Path) -> None:
    rows = [(RING, "ring", "single_object"), (STAR, "star", "colors")]
    rows = [{"tag": tag, "include": [{"class": shape, "count": 1}], "prompt": text} for text, shape, tag in rows]
    _file(root / "evaluation_metadata.jsonl", rows)


def _dpg(root: Path) -> None:
    names = "item_id text keywords proposition_id dependency category_broad category_detailed tuple"
    root.mkdir(parents=True, exist_ok=True)
    with (root / "dpg_bench.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow([*names.split(), "question_natural_language"])
        for number, (text, shape) in enumerate(((RING, "ring"), (STAR, "star"))):
            entity = ["entity", "whole", f"entity - whole ({shape})", f"Is there a {shape}?"]
            table.writerow([f"made{number}", text, "", 1, "0", *entity])


def _wise(root: Path) -> None:
    rows = [
        {"prompt_id": n, "Prompt": PROMPTS[n % 2], "Explanation": PROMPTS[n % 2], "Subcategory": "x"}
        for n in (1, 500, 600, 701, 801, 901)
    ]
    _file(root / "cultural_common_sense.json", rows[:1])
    _file(root / "spatio-temporal_reasoning.json", rows[1:3])
    _file(root / "natural_science.json", rows[3:])


def _gedit(root: Path) -> None:
    rows = [
        {
            "key": str(number),
            "task_type": "color_alter",
            "instruction": text,
            "instruction_language": "en",
            "input_image": {"bytes": _picture(), "path": f"{number}.png"},
        }
        for number, text in enumerate(PROMPTS)
    ]
    _file(root / "data" / "train-00000-of-00001.parquet", rows)


def _imgedit(root: Path) -> None:
    _file(root / "original_images" / "shapes" / "1.png", _picture())
    rows = {str(n): {"id": "shapes/1.png", "prompt": text, "edit_type": "adjust"} for n, text in enumerate(PROMPTS)}
    _file(root / "basic_edit.json", rows)


def _ueval(root: Path) -> None:
    rubrics = [{"criterion": "made up", "tags": ["made up"]}]
    about = {"task_type": "art", "question_type": "open", "text_rubrics": rubrics, "image_rubrics": rubrics}
    rows = [{"id": str(number), "prompt": text, **about} for number, text in enumerate(PROMPTS)]
    _file(root / "data" / "test-00000-of-00001.parquet", rows)


def _mmie(root: Path) -> None:
    _file(root / "images" / "0.png", _picture())
    shown, right = {"text": None, "image": "images/0.png"}, [{"text": "made up", "image": None}]
    rows = [
        {"id": f"made-up-{kind}", "question": [shown, {"text": text, "image": None}], "gt_answer": right}
        for kind, text in zip(("SA", "MSR"), PROMPTS, strict=True)
    ]
    _file(root / "data.json", rows)


@dataclass(frozen=True)
class Published:
    """A benchmark and its files.

    Attributes:
        task: class of the benchmark.
        write: writes the files to a folder.
        overall: name of its overall score.
        bounds: of that score.

    """

    task: type[benchmarks.Benchmark]
    write: Callable[[Path], None]
    overall: str
    bounds: tuple[float, float]


BENCHMARKS = {
    "GenEval": Published(benchmarks.GenEval, _geneval, "overall", (0, 1)),
    "DPG-Bench": Published(benchmarks.DpgBench, _dpg, "DPG-Bench score", (0, 100)),
    "WISE": Published(benchmarks.Wise, _wise, "overall", (0, 1)),
    "GEdit-Bench": Published(benchmarks.GEditBench, _gedit, "en, overall", (0, 10)),
    "ImgEdit": Published(benchmarks.ImgEdit, _imgedit, "overall", (1, 5)),
    "UEval": Published(benchmarks.UEval, _ueval, "overall", (0, 1)),
    "MMIE": Published(benchmarks.Mmie, _mmie, "overall", (0, 6)),
}
