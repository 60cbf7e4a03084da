"""Whatever is in a folder of predictions: scores of what can be scored, or an error of ours; never a command."""

import copy
import json

import yaml
from exploring import exploration, outcome
from hypothesis import strategies as st
from mutations import COMMANDS, DAMAGES, ROW_VALUES, VALUES, damaged, json_text, mutated, yaml_bytes
from tiny_experiments import made

from nextgpt_pl.verbs.evaluation import evaluate

_SCORES = [made("evaluation.JudgedRight"), made("evaluation.CaptionQuality", only=["BLEU-4"])]
ROUTE = made("evaluation.PocketRoute", route="image->text", count=2, scores=_SCORES)
EVALUATION = {"temperature": 0.0, "seed": 0, "run": "x", "count": 3, "tasks": [ROUTE]}
PREDICTION = {
    "task": "pocket image->text",
    "key": "pocket/heldout/0",
    "prompt": [{"type": "image"}, {"type": "text", "text": "What is it?"}],
    "reply": [{"type": "text", "text": "a red circle"}, {"type": "image", "file": "media/a.png", "caption": "a"}],
    "references": ["a red circle"],
    "reference": {"type": "image", "file": "media/a.png", "copied": True},
    "expected": [["text", {"shape": "circle", "color": "red"}]],
    "failed": None,
    "about": {},
}


def _scored(folder, text, *predictions):
    (folder / "evaluation.yaml").write_bytes(text)
    (folder / "predictions.jsonl").write_bytes(b"\n".join(predictions) + b"\n")
    (folder / "remarks.json").write_text("{}")
    return outcome(evaluate, ["evaluate", str(folder)])


@exploration(few=6, many=150)
def test_a_folder_that_is_scored_names_no_foreign_code(explore, canary):
    line = json.dumps(PREDICTION).encode()
    configurations = st.one_of(
        mutated([EVALUATION], st.one_of(VALUES, st.sampled_from([*COMMANDS, {"class_path": "canary.Planted"}]))).map(
            lambda config: yaml.safe_dump(config).encode()
        ),
        yaml_bytes([EVALUATION]),
    )
    explore(lambda text: _scored(canary, text, line), text=configurations)


@exploration(few=5, many=150)
def test_predictions_are_scored_or_named(explore, canary):
    text, whole = yaml.safe_dump(EVALUATION).encode(), json.dumps({**PREDICTION, "key": "other"}).encode()
    changed = st.one_of(
        mutated([PREDICTION], ROW_VALUES).map(lambda row: json_text(row).encode()),
        DAMAGES.map(lambda damages: damaged(whole, damages)),
    )
    explore(lambda line: _scored(canary, text, whole, line, copy.copy(whole)), line=changed)
