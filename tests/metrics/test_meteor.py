import json
import shutil

import pytest

from nextgpt_pl.errors import UserError
from nextgpt_pl.metrics import meteor as module
from nextgpt_pl.metrics.meteor import meteor


@pytest.mark.skipif(shutil.which("java") is None, reason="METEOR is a Java program")
def test_meteor_is_that_of_the_reference(golden_folder):
    pytest.importorskip("pycocoevalcap")
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
