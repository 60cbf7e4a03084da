"""Layouts of captioned media and of questions, from the most special to the most general."""

from __future__ import annotations

from typing import Any

from nextgpt_pl.readers.layouts import captioned_sets, captions, questions
from nextgpt_pl.readers.layouts.base import By, Layout, keys, needs
from nextgpt_pl.readers.splits import PUBLISHED

_WEBVID = keys("contentUrl duration page_idx")
_WAVCAPS = keys("title description author href tags download_link category file_name")
_MSRVTT = keys("category url id") | {"start time", "end time"}
_COCO = keys("license coco_url height width date_captured flickr_url open_images_id domain split")


def _named(
    name: str, needed: str, read: Any, medium: Any, more: str = "", metadata: frozenset[str] = frozenset()
) -> Layout:
    """The layout of a published set that names its media by a rule."""
    by = By((medium,)) if isinstance(medium, str) else medium
    return Layout(name, needs(needed), keys(more), read, metadata, medium=by, renames=True, splits=PUBLISHED)


#: captions and questions
CAPTIONED = (
    Layout("shards", captions.SHARD_NEEDS, keys(""), captions.shard_sample, captions.DOWNLOAD_METADATA, members=True),
    _named(
        "downloads",
        "key status caption",
        captions.downloads,
        "key",
        " ".join(captions.HELD),
        captions.DOWNLOAD_METADATA,
    ),
    _named("webvid", "videoid page_dir name", captioned_sets.webvid, "videoid", metadata=_WEBVID),
    _named("audiocaps", "youtube_id start_time caption", captioned_sets.audiocaps, "youtube_id", "audiocap_id"),
    _named(
        "clotho", "file_name caption_1", captioned_sets.clotho, "file_name", "caption_2 caption_3 caption_4 caption_5"
    ),
    _named("wavcaps", "id caption duration", captioned_sets.wavcaps, "id", "audio", _WAVCAPS),
    _named("coco", "id file_name captions", captioned_sets.coco, "id", "coco_url", _COCO),
    _named(
        "karpathy", "filename sentences", captioned_sets.karpathy, "filename", "filepath cocoid imgid", keys("sentids")
    ),
    _named("flickr30k", "image_name comment_number comment", captioned_sets.flickr30k, "image_name"),
    _named("msrvtt", "video_id captions", captioned_sets.msrvtt, "video_id", metadata=_MSRVTT),
    _named("msrvtt_jsfusion", "video_id sentence", captioned_sets.msrvtt, "video_id", metadata=keys("key vid_key")),
    Layout(
        "questions",
        questions.QUESTION_NEEDS,
        questions.QUESTION_KEYS | set(captions.MEDIUM_KEYS) | set(questions.IDENTITIES),
        questions.question,
        questions.QUESTION_METADATA,
        medium=questions.medium_name,
        renames=True,
        splits=PUBLISHED,
    ),
    Layout(
        "manifest",
        captions.MANIFEST_NEEDS,
        keys(""),
        captions.manifest,
        keys("id key url width height duration"),
        splits=PUBLISHED,
    ),
    # columns without a header, whose numbers are their keys
    _named("audiocaps_without_header", "0 1 2 3", captioned_sets.audiocaps_without_header, "1"),
    _named("pairs_without_header", "0 1", captioned_sets.pair, captioned_sets.medium_of_pair),
)
