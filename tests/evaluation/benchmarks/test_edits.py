import io
import json
import math
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from judged_benchmarks import Painter, Planned, scores_of
from PIL import Image

from nextgpt_pl.evaluation.benchmarks import GEditBench, ImgEdit
from nextgpt_pl.media.reading import array_of
from nextgpt_pl.media.writing import save_image
from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.judges.text import judge_text
from nextgpt_pl.pocket.world.render import render

STAR = "a large pink star in the center on a white background"
#: key: language, task type, and the four numbers
EDITS = {
    "a": ("en", "color_alter", (9, 4), (8, 9)),
    "b": ("en", "color_alter", (9, 9), (1, 5)),
    "c": ("en", "style_change", (10, 10), (10, 10)),
    "d": ("cn", "color_alter", (0, 9), (7, 7)),
}


def _picture():
    return render(judge_text(STAR.replace("pink", "red"), Modality.IMAGE), Random(1))


@pytest.fixture
def gedit(tmp_path):
    file = io.BytesIO()
    Image.fromarray(_picture()).save(file, "PNG")
    rows = [
        {
            "key": key,
            "task_type": group,
            "instruction": f"made up {key}",
            "instruction_language": language,
            "input_image": {"bytes": file.getvalue(), "path": f"{key}.png"},
            "Intersection_exist": True,
        }
        for key, (language, group, *_) in EDITS.items()
    ]
    root = tmp_path / "gedit"
    (root / "data").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), root / "data" / "train-00000-of-00001.parquet")
    return root


def _grade(inquiry):
    key = inquiry.caption.removeprefix("made up ")
    first, second = (scale.name for scale in inquiry.scales)
    numbers = EDITS[key][2] if first == "success" else EDITS[key][3]
    return {first: numbers[0], second: numbers[1]}


def test_gedit_takes_the_lower_numbers_and_means_over_task_types(gedit, tmp_path):
    judge = Planned(_grade)
    found = scores_of(GEditBench(gedit, [judge]), tmp_path, Painter({f"made up {key}": STAR for key in EDITS}))
    assert found["en, color_alter, semantics"] == (4 + 9) / 2
    assert found["en, color_alter, quality"] == (8 + 1) / 2
    alter = (math.sqrt(4 * 8) + math.sqrt(9 * 1)) / 2
    assert found["en, color_alter, overall"] == pytest.approx(alter)
    assert found["en, overall"] == pytest.approx((alter + 10) / 2)
    assert found["en, semantics"] == pytest.approx((6.5 + 10) / 2)
    assert found["cn, overall"] == 0.0
    # the source is the first image of the first question, and the second question is about the result alone
    both, alone = (inquiry.images for inquiry in judge.asked[:2])
    assert (array_of_path(both[0]) == _picture()).all()
    assert both[1:] == alone


def array_of_path(path):
    from nextgpt_pl.samples import Media

    return array_of(Media(Modality.IMAGE, path))[0]


def test_imgedit_means_of_three_numbers_by_type(tmp_path):
    root = tmp_path / "imgedit"
    (root / "original_images" / "shapes").mkdir(parents=True)
    save_image(_picture(), root / "original_images" / "shapes" / "1.png")
    types = {"7": "adjust", "8": "adjust", "9": "style"}
    rows = {key: {"id": "shapes/1.png", "prompt": f"made up {key}", "edit_type": kind} for key, kind in types.items()}
    (root / "basic_edit.json").write_text(json.dumps(rows, indent=4))
    numbers = {"7": (1, 4, 5), "9": (5, 5, 5)}

    def grade(inquiry):
        key = inquiry.caption.removeprefix("made up ")
        return dict(zip((s.name for s in inquiry.scales), numbers[key], strict=True)) if key in numbers else "no idea"

    judge = Planned(grade)
    task = ImgEdit(root, [judge])
    found = scores_of(task, tmp_path, Painter({f"made up {key}": STAR for key in types}))
    # an answer without numbers has the lowest ones
    assert found["adjust"] == pytest.approx((10 / 3 + 1) / 2)
    assert found["style"] == 5
    assert found["overall"] == pytest.approx((10 / 3 + 1 + 5) / 3)
    assert found["unparsable judgements"] == 1
    assert [item.key for item in task.items()] == ["7", "8", "9"]
    assert judge.asked[0].images[0] == root / "original_images" / "shapes" / "1.png"


def test_an_edit_without_its_image_is_skipped_by_name(tmp_path):
    rows = {"7": {"id": "none.png", "prompt": "x", "edit_type": "adjust"}, "8": 3}
    (tmp_path / "basic_edit.json").write_text(json.dumps(rows))
    first, second = ImgEdit(tmp_path, [Planned(None)]).items()
    assert first.reference.source.name == "none.png"
    assert "an object is expected" in second.fault
