"""A painter that stands for a model, a judge with planned answers, and a run of one benchmark with both."""

import json
from random import Random

from nextgpt_pl.evaluation import run
from nextgpt_pl.evaluation.judges import Judge, Judgement
from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.judges.text import judge_text
from nextgpt_pl.pocket.world.render import render
from nextgpt_pl.samples import ReplyPart


class Painter:
    """Renders the scene that a prompt describes; ``says`` has other captions by prompt, ``None`` for no image."""

    def __init__(self, says=()):
        self.says = dict(says)

    def batch(self, conversations, *, modalities, **options):
        return [self._reply(messages[-1]["content"][-1]["text"]) for messages in conversations]

    def _reply(self, prompt):
        caption = self.says.get(prompt, prompt)
        text = ReplyPart("text", text=f"Here is {prompt}")
        if caption is None:
            return [ReplyPart("text", text="")]
        return [text, ReplyPart("image", array=render(judge_text(caption, Modality.IMAGE), Random("painter")))]


class Planned(Judge):
    """Answers each question by a function of it: values, a text that cannot be parsed, or an error."""

    identity = "planned judge 3"

    def __init__(self, answer):
        self.answer, self.asked = answer, []

    def judge(self, inquiries):
        self.asked += inquiries
        return [self._judgement(self.answer(inquiry)) for inquiry in inquiries]

    def _judgement(self, answer):
        if isinstance(answer, Exception):
            return Judgement(None, failed=str(answer))
        return Judgement(None, answer) if isinstance(answer, str) else Judgement(answer, json.dumps(answer))


def scores_of(task, folder, model=None):
    """The values of all scores of a benchmark, by name without the judge's identity; a failed score raises."""
    folder.mkdir(exist_ok=True)
    run.predict(model or Painter(), [task], folder, temperature=0.0, seed=0)
    result = run.score([task], folder)["tasks"][task.name]
    assert not result["failed"], result["failed"]
    return {name.rsplit(" [", 1)[0]: entry["value"] for name, entry in result["scores"].items()}
