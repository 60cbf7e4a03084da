"""Conversations in the forms of NExT-GPT, LLaVA and VideoChat.

``Written.texts`` are the dialogues as lists of turns, as ``published_turns.turns`` writes them.
"""

import json
from pathlib import Path

from published import Written, in_json, in_lines, in_parquet, in_tar, media
from published_turns import exchange, messages, png


def nextgpt_t2x(folder):
    """``*_instruction_tuning.json`` of the official code's preparation."""
    conversation = exchange("A lake, please.", "Here. <image>")
    conversation[0]["input_modality"] = "text"
    conversation[1] |= {"caption": "a quiet lake", "output_modality": "image"}
    row = {"image_captions": ["a quiet lake"], "image_caption_embeddings": ["it_img_0.jpg.npy"]}
    row |= {"conversations": conversation, "source_data": {"audiocap_id": 1}}
    file = in_json(folder, "image_instruction_tuning.json", [row])
    return Written([file], [["user: A lake, please.", "assistant: Here. [image: a quiet lake]"]], [])


def nextgpt_mosit(folder):
    """``mosit_instruction_tuning.json`` of the official code's preparation."""
    rows = [
        {
            "image_captions": ["a boat", "two oars"],
            "image_caption_embeddings": ["mosit_i_0_00.jpg.npy", "mosit_i_0_01.jpg.npy"],
            "audio_captions": ["waves"],
            "audio_caption_embeddings": ["mosit_a_0_00.wav.npy"],
            "conversations": exchange("A holiday?", "So: <image> with <image>.", "And its sound?", "Listen. <audio>"),
        },
        {"image_captions": [], "image_caption_embeddings": [], "conversations": exchange("Which make?", "A bicycle.")},
    ]
    first = ["user: A holiday?", "assistant: So: [image: a boat] with [image: two oars]."]
    first += ["user: And its sound?", "assistant: Listen. [audio: waves]"]
    file = in_json(folder, "mosit_instruction_tuning.json", rows)
    return Written([file], [first, ["user: Which make?", "assistant: A bicycle."]], [])


def nextgpt_t2x_raw(folder):
    conversation = exchange("A lake, please.", "Gladly.")
    conversation[1] |= {"caption": "a quiet lake", "output_modality": "image"}
    row = {"image_name": "t2x0000.jpg", "output_modality": "image", "conversation": conversation}
    row["source_data"] = {"audiocap_id": 900, "caption": "a quiet lake"}
    file = in_json(folder, "image_t2x.json", [row])
    return Written([file], [["user: A lake, please.", "assistant: Gladly. [image: a quiet lake]"]], [])


def nextgpt_mosit_raw(folder):
    names = media(folder, "images/mosit_i_1_00.jpg")
    entry = {"image_name": "mosit_i_0_00.jpg", "data_source": "mosit", "caption": "a boat"}
    shown = {"image_name": "mosit_i_1_00.jpg", "data_source": "mosit", "caption": "my bicycle"}
    sound = {"audio_name": "mosit_a_0_00.wav", "data_source": "audiocap", "caption": "waves"}
    rows = [
        {
            "image_list": [entry],
            "video_list": [],
            "audio_list": [sound],
            "conversation": exchange(
                "A holiday?", "So: <Image>mosit_i_0_00.jpg</Image> and <Audio>mosit_a_0_00.wav</Audio>."
            ),
        },
        {
            "image_list": [shown],
            "video_list": [],
            "audio_list": [],
            "conversation": exchange("<Image>mosit_i_1_00.jpg</Image> Which make?", "A bicycle."),
        },
    ]
    first = ["user: A holiday?", "assistant: So: [image: a boat] and [audio: waves]."]
    second = ["user: [image mosit_i_1_00.jpg] Which make?", "assistant: A bicycle."]
    return Written([in_json(folder, "mosit.json", rows)], [first, second], names)


def nextgpt_tx2t_raw(folder):
    media(folder, "images/0.jpg")
    row = {"image_name": "0.jpg", "conversation": exchange("What is it?", "A ball.")}
    texts = [["user: [image 0.jpg]\nWhat is it?", "assistant: A ball."]]
    return Written([in_json(folder, "llava.json", [row])], texts, ["images/0.jpg"])


def nextgpt_llava(folder):
    """``preprocessed_llava.json``: each question shows the image again."""
    media(folder, "images/0.jpg")
    talk = exchange("<image>\nWhat is it?", "A ball.", "Sure?\n<image>", "Yes.")
    row = {"input_image": ["0.jpg", "0.jpg"], "conversations": talk}
    texts = ["user: [image 0.jpg]\nWhat is it?", "assistant: A ball.", "user: Sure?\n[image 0.jpg]", "assistant: Yes."]
    return Written([in_json(folder, "preprocessed_llava.json", [row])], [texts], ["images/0.jpg"])


def llava(folder):
    """LLaVA-Instruct of 665,000 rows: some have no image, and the model that wrote them."""
    media(folder, "images/coco/0.jpg")
    rows = [
        {"id": "0", "image": "coco/0.jpg", "conversations": exchange("<image>\nWhat is it?", "A ball.")},
        {"id": "x_0", "model": "", "conversations": exchange("Hello.", "Good day.")},
    ]
    texts = [["user: [image 0.jpg]\nWhat is it?", "assistant: A ball."], ["user: Hello.", "assistant: Good day."]]
    return Written([in_json(folder, "llava_v1_5_mix665k.json", rows)], texts, ["images/coco/0.jpg"])


def llava_lines(folder):
    """The JSONL form; LLaVA-Pretrain asks behind or before the image."""
    media(folder, "images/0.jpg")
    row = {"id": "0", "image": "0.jpg", "conversations": exchange("Say what you see.\n<image>", "a ball")}
    texts = [["user: Say what you see.\n[image 0.jpg]", "assistant: a ball"]]
    return Written([in_lines(folder, "pretrain.jsonl", [row])], texts, ["images/0.jpg"])


def llava_video(folder):
    """LLaVA-Video writes ``<image>`` for its videos."""
    media(folder, "videos/0.mp4")
    row = {"id": "0", "data_source": "x", "video": "0.mp4", "conversations": exchange("<image>\nWhat moves?", "It.")}
    texts = [["user: [video 0.mp4]\nWhat moves?", "assistant: It."]]
    return Written([in_json(folder, "llava_video.json", [row])], texts, ["videos/0.mp4"])


def video_llava(folder):
    names = media(folder, "videos/0.mp4", "videos/1.mp4", "images/0.jpg")
    row = {"id": "0", "video": ["0.mp4", "1.mp4"], "image": ["0.jpg"]}
    row["conversations"] = exchange("<video><image><video>\nWhat differs?", "The colour.")
    texts = [["user: [video 0.mp4][image 0.jpg][video 1.mp4]\nWhat differs?", "assistant: The colour."]]
    return Written([in_json(folder, "videollava.json", [row])], texts, names)


def onevision(folder):
    """Parquet with an image of bytes and path, which some rows lack."""
    columns = {
        "id": ["0", "1"],
        "image": [{"bytes": png(9), "path": "0.png"}, None],
        "conversations": [exchange("<image>\nWhat is it?", "A ball."), exchange("Hi.", "Hello.")],
        "data_source": ["a", "b"],
    }
    texts = [["user: [image 0.png]\nWhat is it?", "assistant: A ball."], ["user: Hi.", "assistant: Hello."]]
    return Written([in_parquet(folder, "onevision.parquet", columns)], texts, [])


def shard(folder):
    """A tar shard: the first sample names its images, the second has them in order."""
    named = {"image": ["000.b.png", "000.a.png"], "conversations": exchange("<image><image>Which?", "Both.")}
    talk = {"messages": messages("<image>What is it?<image>", "A ball.")}
    members = {"000.json": json.dumps(named).encode(), "000.a.png": png(1), "000.b.png": png(2)}
    members |= {"001.0.png": png(3), "001.1.png": png(4), "001.json": json.dumps(talk).encode()}
    texts = [
        ["user: [image 000.b.png][image 000.a.png]Which?", "assistant: Both."],
        ["user: [image 001.0.png]What is it?[image 001.1.png]", "assistant: A ball."],
    ]
    return Written([in_tar(folder, "00000.tar", members)], texts, [])


def videochat(folder):
    media(folder, "videos/a.mp4")
    row = {"video": "a.mp4", "QA": [{"i": "Look.", "q": "What?", "a": "A dog."}, {"q": "Sure?", "a": "Yes."}]}
    texts = ["user: [video a.mp4]Look.\nWhat?", "assistant: A dog.", "user: Sure?", "assistant: Yes."]
    return Written([in_json(folder, "videochat.json", [row])], [texts], ["videos/a.mp4"])


def videochat2(folder):
    names = media(folder, "videos/a.mp4", "images/b.jpg")
    rows = [
        {"video": "a.mp4", "QA": [{"i": "", "q": "What moves?", "a": "A square."}]},
        {"video": "a.mp4", "QA": [{"i": "Describe the clip.", "q": "", "a": "A square moves."}]},
        {"video": "a.mp4", "start": 0.5, "end": 1, "QA": [{"i": "In a word.", "q": "Which colour?", "a": "Red"}]},
        {"image": "b.jpg", "QA": [{"i": "", "q": "What is it?", "a": "A ball."}]},
    ]
    texts = [
        ["user: [video a.mp4]What moves?", "assistant: A square."],
        ["user: [video a.mp4]Describe the clip.", "assistant: A square moves."],
        ["user: [video a.mp4 0.5-1]In a word.\nWhich colour?", "assistant: Red"],
        ["user: [image b.jpg]What is it?", "assistant: A ball."],
    ]
    return Written([in_json(folder, "videochat2.json", rows)], texts, names)


def video_chatgpt(folder):
    names = media(folder, "videos/v_1.mp4", "videos/v_2.mkv")
    rows = [{"q": "What moves?", "a": "A square.", "video_id": f"v_{i}"} for i in (1, 2)]
    texts = [[f"user: [video {Path(name).name}]What moves?", "assistant: A square."] for name in names]
    return Written([in_json(folder, "VideoInstruct100K.json", rows)], texts, names)


#: writer of each published form
TALKS = {
    writer.__name__: writer
    for writer in (
        *(nextgpt_t2x, nextgpt_mosit, nextgpt_t2x_raw, nextgpt_mosit_raw, nextgpt_tx2t_raw, nextgpt_llava),
        *(llava, llava_lines, llava_video, video_llava, onevision, shard, videochat, videochat2, video_chatgpt),
    )
}
