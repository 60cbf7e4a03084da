"""Our tokens are those of Stanford's tokenizer as pycocoevalcap runs it, also on awkward captions."""

import shutil

import pytest

from nextgpt_pl.metrics.tokens import tokenize

SUBJECTS = [
    "A man's dog",
    "two women (both smiling)",
    "the U.S. flag",
    "Dr. Smith",
    "a well-known actor",
    "three kids' toys",
    "An old-fashioned t-shirt",
    "Mr. and Mrs. O'Neil",
    "a 5-year-old boy",
    "the cat, a tabby,",
    "rock 'n' roll fans",
    'a "stop" sign',
    "someone",
    "St. Mary's church",
    "a black & white cow",
    "25% of them",
    "a $5.50 burger",
    "#1 player",
    "the 1990s car",
    "no. 7 bus",
]
VERBS = [
    "can't see",
    "is gonna eat",
    "doesn't like",
    "they're riding",
    "I'm watching",
    "it's near",
    "cannot reach",
    "would've taken",
    "sits on/under",
    "rides @ noon by",
    "waits... for",
    "looks at -- and wants",
    "holds;",
    "weighs 1,000 lbs. beside",
    "arrives at 3:30 p.m. with",
    "shouldn't've left",
    "wanna buy",
    "gimme",
    "plays w/",
    "won't leave",
]
OBJECTS = [
    "a red ball.",
    "the street!",
    "what?!",
    "a pizza, pasta and salad.",
    "an ice-cream cone (vanilla).",
    "e.g. a chair",
    "a bench / table.",
    "the TV: a big one.",
    "New York's skyline.",
    '"hello world"',
    "a half-eaten sandwich...",
    "the e-mail.",
    "a 4x4 truck",
    "jeans' pocket.",
    "'90s music.",
    "a laptop [broken]",
    "the sea & sky",
    "etc.",
    "a 10.5-inch plate.",
    "cats; dogs",
]
CAPTIONS = [
    f"{subject} {VERBS[(3 * i + 7 * j) % len(VERBS)]} {OBJECTS[(i + 3 * j) % len(OBJECTS)]}"
    for i, subject in enumerate(SUBJECTS)
    for j in range(10)
]


@pytest.mark.skipif(shutil.which("java") is None, reason="Stanford's tokenizer is a Java program")
def test_200_captions_have_the_tokens_of_stanfords_tokenizer():
    module = pytest.importorskip("pycocoevalcap.tokenizer.ptbtokenizer")
    assert len(set(CAPTIONS)) == 200
    theirs = module.PTBTokenizer().tokenize({i: [{"caption": c}] for i, c in enumerate(CAPTIONS)})
    different = {
        c: (tokenize(c), theirs[i][0]) for i, c in enumerate(CAPTIONS) if " ".join(tokenize(c)) != theirs[i][0]
    }
    assert not different


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("shouldn't've", "should n't 've"),
        ("a (b), [c]", "a -lrb- b -rrb- -lsb- c -rsb-"),
        ("Dr. Smith, no. 7, etc.", "dr. smith no. 7 etc."),
        ("No. The '90s!! R&B?", "no the '90s !! r & b"),
        ("4x4 at 10:30am, 3 1/2 cups", "4x4 at 10:30 am 3\u00a01/2 cups"),
        ("see www.a.com. e-mail me@b.org", "see www.a.com e-mail me@b.org"),
        ("mac'n'cheese \u2014 \u00a35", "mac 'n' cheese # 5"),
        ("", ""),
    ],
)
def test_tokens(caption, expected):
    assert " ".join(tokenize(caption)) == expected
