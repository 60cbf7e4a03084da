"""Scores whose work two processes share, and features that several scores share."""

import json
from pathlib import Path

import numpy as np
import pytest
from stand_ins import Means
from two_ranks import run_as_two

from nextgpt_pl.errors import UserError
from nextgpt_pl.evaluation import CaptionQuality, Frechet, JudgedRight, Kernel, PocketRoute, Similarity, records, run
from nextgpt_pl.evaluation.shared_work import SharedWork
from nextgpt_pl.media.writing import save_image
from nextgpt_pl.metrics.extractor import Extractor
from nextgpt_pl.metrics.extractors import PocketFeatures

HELPERS = Path(__file__).parent.parent / "helpers"
NAME = "pocket text->image"


class Counting(Means):
    """Counts the media and captions that it encodes; two of them compute the same."""

    identity = "counting"

    def __init__(self):
        self.encoded, self.embedded = [], []

    def _media(self, media):
        self.encoded += media
        return super()._media(media)

    def _captions(self, captions):
        self.embedded += captions
        return super()._captions(captions)


class Mute(Extractor):
    """It has no text encoder."""

    name = "mute"

    def _media(self, media):
        raise NotImplementedError


def _predictions(folder, count):
    """Write predictions of the pocket world: every third picture is noise, the others are their references."""
    rng = np.random.default_rng(0)
    (folder / "media").mkdir()
    with (folder / records.FILE).open("w") as file:
        for number, item in enumerate(PocketRoute("text->image", [], count=count).items()):
            reference = records.written_reference(item.reference, None, folder, f"{number}_reference")
            picture = folder / "media" / f"{number}.png"
            if number % 3:
                picture.write_bytes((folder / reference["file"]).read_bytes())
            else:
                save_image(rng.integers(0, 256, (64, 64, 3), np.uint8), picture)
            reply = [{"type": "text", "text": item.references[-1]}, {"type": "image", "file": f"media/{number}.png"}]
            references, expected = list(item.references[:4]), list(item.expected)
            records.write_line(records.Prediction(NAME, item.key, [], reply, references, reference, expected), file)


def _task(*scores):
    return PocketRoute("text->image", list(scores), count=50)


def test_scores_with_equal_extractors_encode_each_medium_once(tmp_path):
    _predictions(tmp_path, 20)
    extractors = [Counting() for _ in range(4)]
    scores = [Frechet(extractors[0], "FID"), Similarity(extractors[1]), Similarity(extractors[2], "CLIP-I", "medium")]
    record = run.score([_task(*scores, Kernel(extractors[3]))], tmp_path)["tasks"][NAME]
    assert record["failed"] == {}
    assert [len(extractor.encoded) for extractor in extractors] == [40, 0, 0, 0]  # replies and references
    assert [len(extractor.embedded) for extractor in extractors] == [20, 0, 0, 0]
    apart = {}
    for score in (Frechet(Means(), "FID"), Similarity(Means()), Similarity(Means(), "CLIP-I", "medium")):
        apart |= score(records.read(tmp_path), tmp_path, tmp_path)
    apart |= Kernel(Means())(records.read(tmp_path), tmp_path, tmp_path)
    assert record["scores"] == {name: vars(estimate) for name, estimate in apart.items()}


IMPORTS = """
import json
from pathlib import Path
import numpy as np
from nextgpt_pl.evaluation import *
from nextgpt_pl.evaluation import bootstrap, run
from nextgpt_pl.evaluation.scores import Score
from nextgpt_pl.evaluation.shared_work import SharedWork
from nextgpt_pl.metrics.extractors import PocketFeatures
from stand_ins import Means
torch.set_num_threads(1)
"""
SCORE = """
class Alone(Score):
    def __call__(self, predictions, folder, data):
        assert rank == 0
        return {"items": bootstrap.of_mean(np.ones(len(predictions)))}

extractor = PocketFeatures(device="cpu")
scores = [JudgedRight(), Frechet(extractor, "FID"), Kernel(extractor), Similarity(extractor), CaptionQuality(), Alone()]
record = run.score([PocketRoute("text->image", scores, count=50)], Path(folder), shared=True)
Path(folder, f"{rank}.json").write_text(json.dumps(record))
"""


def test_two_processes_score_what_one_process_scores(tmp_path):
    _predictions(tmp_path, 50)
    run_as_two(IMPORTS, SCORE, tmp_path, [HELPERS])
    both = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert both[0] == both[1] == json.loads((tmp_path / run.SCORES).read_text())
    extractor = PocketFeatures(device="cpu")
    scores = [JudgedRight(), Frechet(extractor, "FID"), Kernel(extractor), Similarity(extractor), CaptionQuality()]
    alone, found = run.score([_task(*scores)], tmp_path)["tasks"][NAME], both[0]["tasks"][NAME]
    assert found["failed"] == alone["failed"] == {}
    assert found["scores"].pop("items")["value"] == 1.0
    assert found["scores"].keys() == alone["scores"].keys()
    for name, estimate in alone["scores"].items():
        assert found["scores"][name] == pytest.approx(estimate, rel=1e-9, abs=1e-9), name


FAIL = """
told = []
class Broken(Means):
    def __init__(self, failure, on):
        self.failure, self.on = failure, on
    def _media(self, media):
        told.append(len(media))
        if rank == self.on:
            raise self.failure
        return super()._media(media)

cases = [(ValueError("no colour"), 0), (ValueError("no colour"), 1)]
scores = [*(Frechet(Broken(*case), "FID") for case in cases), Similarity(Means(), "CLIP-I", to="medium")]
task = PocketRoute("text->image", scores, count=50)
record = run.score([task], Path(folder), shared=True)["tasks"]["pocket text->image"]
try:
    task.scores = [Frechet(Broken(RuntimeError("out of memory"), 1), "FID")]
    run.score([task], Path(folder), shared=True)
except RuntimeError as error:
    record |= {"error": str(error), "told": told}
Path(folder, f"{rank}.json").write_text(json.dumps(record))
"""


def test_an_error_of_one_process_is_an_error_of_both(tmp_path):
    _predictions(tmp_path, 50)
    run_as_two(IMPORTS, FAIL, tmp_path, [HELPERS])
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    for record in found:
        assert record["failed"] == {"Frechet": "no colour"}
        assert list(record["scores"]) == ["CLIP-I"]  # both compute it, behind the errors
        assert record["told"][0] == 16
    assert found[0]["error"] == "another rank failed: RuntimeError: out of memory"
    assert found[1]["error"] == "out of memory"


SPLIT = """
work, seen = SharedWork(shared=True), []
results = {
    "each": work.each(lambda item: seen.append(item) or item * 10, list(range(7))),
    "blocks": work.split(lambda own: [len(own)] * len(own), list(range(20)), block=8),
    "none": work.split(lambda own: [1 // 0], []),
    "once": work.once(lambda: rank),
    "seen": seen,
}
Path(folder, f"{rank}.json").write_text(json.dumps(results))
"""


def test_work_is_split_into_consecutive_parts_and_gathered_in_order(tmp_path):
    run_as_two(IMPORTS, SPLIT, tmp_path, [HELPERS])
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert found[0].pop("seen") == [0, 1, 2, 3]
    assert found[1].pop("seen") == [4, 5, 6]
    assert found[0] == found[1]
    assert found[0] == {"each": list(range(0, 70, 10)), "blocks": [16] * 16 + [4] * 4, "none": [], "once": 0}


def test_alone_nothing_is_split():
    work = SharedWork(shared=True)
    assert work.split(lambda own: [sum(own)], [1, 2, 3]) == [6]
    with pytest.raises(ZeroDivisionError):
        work.once(lambda: 1 // 0)
    with pytest.raises(UserError, match="no text encoder"):
        work.captions(Mute(), ["a"])
