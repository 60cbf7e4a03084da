"""Tokenizer of the caption scores: lower-case Penn Treebank tokens without punctuation.

COCO's caption evaluation runs Stanford's tokenizer and then drops some punctuation. These rules reproduce its output,
including lower-case bracket tokens such as ``-lrb-``, so that scores are comparable across papers.
"""

from __future__ import annotations

import html
import re

Tokens = list[str]

# words that always keep their full stop ...
_ABBREVIATIONS = (
    r"ad|adm|adv|al|ala|apr|ariz|assn|asst|att|atty|attys|assoc|aug|ave|bldg|blvd|brig|bros|calif|capt|cf|"
    r"cie|cmdr|co|col|colo|comdr|conn|corp|cos|cpl|ct|dec|dept|det|dr|drs|ens|esq|est|etc|ext|feb|fla|fri|"
    r"ft|ga|gen|gov|govs|hon|inc|ind|insp|intl|jan|jos|jr|jul|jun|kan|kans|ky|lieut|lt|ltd|maj|mar|md|"
    r"messrs|mfg|mich|minn|mlle|mme|mo|mon|mont|mr|mrs|ms|msgr|mt|natl|neb|nev|nov|oct|okla|penn|pfc|plc|"
    r"pres|prof|profs|pvt|rd|rep|reps|rev|rt|sen|sens|sep|sept|sgt|spc|sq|sr|st|ste|supt|supts|tel|tenn|"
    r"thu|thurs|tue|tues|univ|va|vs|vt|wed|wis|wm|wyo"
)
# ... and words that keep it only before a number
_WITH_NUMBER = "no|nos|fig|figs|op|pp|art|prop"

_TOKEN = re.compile(
    "|".join(
        (
            r"(?:https?://|www\.)[^\s<>]*[^\s<>.,;:!?'\"()]",
            r"[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[a-z]{2,}",  # addresses
            r"[@#][a-z_]\w*",  # names and tags
            r"<[a-z/][^<>]*>",
            r"[:;=]-?[()\[\]dp](?!\w)",  # emoticons
            r"'\d0s\b",  # '90s
            r"'(?:tis|twas)\b",
            r"'(?:em|til|cause)\b",
            r"'n'|'n\b",
            rf"(?:{_ABBREVIATIONS})\.(?!\w)",
            rf"(?:{_WITH_NUMBER})\.(?=\s*\d)",
            r"ph\.d\.|m\.d\.|m\.a\.",
            r"(?:[a-z]\.)+(?![a-z0-9])",  # u.s., and initials
            r"\d+ \d+/\d+",  # 3 1/2
            r"\d+[a-z][a-z0-9]*(?:-[a-z0-9]+)*",  # 4x4, 5pm, 2nd
            # numbers, dates, 5-year
            r"(?:(?<![\w.-])[-+]|(?<=\w)\+)?(?:\d+(?:[.,:/]\d+)*|\.\d+(?:\.\d+)*)(?:-[a-z0-9]+(?:/\d+)?)*",
            r"[^\W_]+(?:\.[^\W\d_]+)+",  # x.com, and sentences without a space between them
            r"[^\W_]+(?:[-_/'][^\W_]+)*",  # words, with joined parts
            r"'(?:s|re|ve|ll|d|m)\b",
            r"[?!]+|\.{3}|--|[^\w\s]|_",
        )
    )
)
_TAIL = re.compile(r"^(.+?)(n't|'(?:s|re|ve|ll|d|m|all))$")
_SPLIT = {
    "cannot": ("can", "not"),
    "gonna": ("gon", "na"),
    "gotta": ("got", "ta"),
    "wanna": ("wan", "na"),
    "lemme": ("lem", "me"),
    "gimme": ("gim", "me"),
    "'tis": ("'t", "is"),
    "'twas": ("'t", "was"),
    "y'all": ("y'", "all"),
}
_AND = re.compile(r"^([^\W_]+)('n')([^\W_]+)$")  # mac'n'cheese
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_OTHER_SIGNS = str.maketrans(
    {"\u2019": "'", "\u2018": "`", "\u2013": " - ", "\u2014": " - ", "\u00a3": "#", "\u20ac": "$"}
)
_PUNCTUATION = frozenset(
    ["''", "'", "``", "`", "\u201c", "\u201d", '"', ".", "?", "!", ",", ":", "-", "--", "...", ";"]
)


def tokenize(caption: str) -> Tokens:
    """Lower-case Penn Treebank tokens without punctuation.

    >>> tokenize("A train that's sitting on the tracks.")
    ['a', 'train', 'that', "'s", 'sitting', 'on', 'the', 'tracks']
    """
    tokens: Tokens = []
    for token in _TOKEN.findall(html.unescape(caption.lower()).translate(_OTHER_SIGNS)):
        if token not in _PUNCTUATION:
            tokens += _parts(token)
    return tokens


def _parts(token: str) -> Tokens:
    """A token as Penn Treebank splits it: ``shouldn't've`` is three."""
    if token in _SPLIT:
        return list(_SPLIT[token])
    if not token[0].isalnum():
        return ["".join(_BRACKETS.get(c, c) for c in token)]
    joined = _AND.match(token)
    if joined:
        return list(joined.groups())
    tail = _TAIL.match(token)
    if tail:
        return [*_parts(tail[1]), tail[2]]
    return [token.replace(" ", "\u00a0")]  # 3 1/2 is one number
