import json
import shutil

import pytest

from nextgpt_pl.errors import UserError
from nextgpt_pl.metrics import meteor as module
from nextgpt_pl.metrics.meteor import meteor


@pytest.fixture
def one_program(monkeypatch):
    """All calls ask one Java process, which reads its tables once; quick compilation is enough for a few captions."""
    library = pytest.importorskip("pycocoevalcap.meteor.meteor")
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
    scorer = library.Meteor()
    with monkeypatch.context() as patch:
        patch.setattr(library, "Meteor", lambda: scorer)
        patch.setattr(scorer.meteor_p, "kill", lambda: None)
        yield
    scorer.meteor_p.kill()


@pytest.mark.skipif(shutil.which("java") is None, reason="METEOR is a Java program")
def test_meteor_is_that_of_the_reference(golden_folder, one_program):
    golden = json.loads((golden_folder / "caption.json").read_text())
    candidates = [golden["tok_candidates"][i][0].split() for i in golden["ids"]]
    references = [[r.split() for r in golden["tok_references"][i]] for i in golden["ids"]]
    corpus, items = meteor(candidates, references)
    assert corpus == pytest.approx(golden["scores"]["METEOR"], abs=1e-6)
    assert items == pytest.approx(golden["per_image"]["METEOR"], abs=1e-6)
    assert meteor([[]], [["a", "cat"]])[0] == 0.0


def test_without_java_the_message_says_so(monkeypatch):
    pytest.importorskip("pycocoevalcap")
    monkeypatch.setattr(module.shutil, "which", lambda _: None)
    with pytest.raises(UserError, match="no java on the PATH"):
        meteor([["a"]], [[["a"]]])
