import json

from nextgpt_pl.datamodules import DataFiles
from nextgpt_pl.modality import Modality


def test_messages_hold_spoken_questions_and_words_to_say(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    asked = [{"type": "speech", "speech": "a.wav"}, {"type": "text", "text": "Answer aloud."}]
    said = [{"type": "text", "text": "Sure:"}, {"type": "speech", "caption": "a red ring"}]
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
    (tmp_path / "talks.json").write_text(json.dumps([{"messages": messages}]))
    (dialogue,) = DataFiles(root=tmp_path, files=["talks.json"], val_fraction=0.0).read("train")
    user, assistant = (message.parts for message in dialogue.messages)
    assert (user[0].modality, user[0].media.source) == (Modality.SPEECH, tmp_path / "a.wav")
    assert (assistant[1].modality, assistant[1].media, assistant[1].caption) == (Modality.SPEECH, None, "a red ring")
