"""Conversations of text and media in the forms of ShareGPT, LLaMA-Factory, ms-swift, OpenAI, transformers and TRL.

``Written.texts`` are the dialogues as lists of turns, as ``published_turns.turns`` writes them.
"""

import base64

from published import Written, in_json, in_lines, in_parquet, media
from published_turns import exchange, messages, png


def sharegpt(folder):
    talk = [
        {"from": "system", "value": "Be brief."},
        {"from": "human", "value": "Hi."},
        {"from": "chatgpt", "value": "Hello."},
        {"from": "user", "value": "Bye."},
        {"from": "bing", "value": "Farewell."},
    ]
    texts = ["system: Be brief.", "user: Hi.", "assistant: Hello.", "user: Bye.", "assistant: Farewell."]
    return Written([in_json(folder, "sharegpt.json", [{"id": "a_0", "conversations": talk}])], [texts], [])


def sharegpt_items(folder):
    file = in_json(folder, "sg_90k.json", [{"id": "a", "items": exchange("Hi.", "Hello.")}])
    return Written([file], [["user: Hi.", "assistant: Hello."]], [])


def llamafactory_sharegpt(folder):
    media(folder, "data/1.jpg")
    row = {"conversations": exchange("<image>What is it?", "A ball."), "images": ["data/1.jpg"], "system": "Be brief."}
    texts = [["system: Be brief.", "user: [image 1.jpg]What is it?", "assistant: A ball."]]
    return Written([in_json(folder, "sharegpt_images.json", [row])], texts, ["data/1.jpg"])


def llamafactory_messages(folder):
    names = media(folder, "data/1.jpg", "data/2.jpg", "data/3.mp4", "data/4.wav")
    talk = messages("<image>What is it?", "A ball.", "And here?<image>", "A cube.")
    rows = [
        {"messages": talk, "images": names[:2]},
        {"messages": messages("<video><audio>What is it?", "A hum."), "videos": [names[2]], "audios": [names[3]]},
    ]
    first = [
        "user: [image 1.jpg]What is it?",
        "assistant: A ball.",
        "user: And here?[image 2.jpg]",
        "assistant: A cube.",
    ]
    second = ["user: [video 3.mp4][audio 4.wav]What is it?", "assistant: A hum."]
    return Written([in_json(folder, "mllm_demo.json", rows)], [first, second], names)


def alpaca(folder):
    rows = [
        {"instruction": "Add.", "input": "1 1", "output": "2", "text": "Below is an instruction ..."},
        {"instruction": "Say a.", "input": "", "output": "a", "text": ""},
    ]
    texts = [["user: Add.\n1 1", "assistant: 2"], ["user: Say a.", "assistant: a"]]
    return Written([in_json(folder, "alpaca.json", rows)], texts, [])


def llamafactory_alpaca(folder):
    media(folder, "data/1.jpg")
    row = {"instruction": "<image>What is it?", "input": "", "output": "A ball.", "system": "Be brief."}
    row |= {"history": [["Hi.", "Hello."]], "images": ["data/1.jpg"]}
    texts = ["system: Be brief.", "user: Hi.", "assistant: Hello.", "user: [image 1.jpg]What is it?"]
    return Written([in_lines(folder, "alpaca.jsonl", [row])], [[*texts, "assistant: A ball."]], ["data/1.jpg"])


def ms_swift(folder):
    names = media(folder, "images/1.jpg", "images/2.jpg", "videos/1.mp4", "audios/1.wav")
    talk = [{"role": "system", "content": "You help."}, *messages("<video>What is it?", "A square.")]
    rows = [
        {"messages": messages("<image><image>What differs?", "The colour."), "images": names[:2]},
        {"messages": talk, "videos": [names[2]]},
        {"messages": messages("<audio>What is it?", "A hum."), "audios": [names[3]]},
    ]
    texts = [
        ["user: [image 1.jpg][image 2.jpg]What differs?", "assistant: The colour."],
        ["system: You help.", "user: [video 1.mp4]What is it?", "assistant: A square."],
        ["user: [audio 1.wav]What is it?", "assistant: A hum."],
    ]
    return Written([in_lines(folder, "ms_swift.jsonl", rows)], texts, names)


def ms_swift_query(folder):
    row = {"system": "Be brief.", "query": "Sure?", "response": "Yes.", "history": [["What is it?", "A ball."]]}
    texts = ["system: Be brief.", "user: What is it?", "assistant: A ball.", "user: Sure?", "assistant: Yes."]
    return Written([in_lines(folder, "query.jsonl", [row])], [texts], [])


def openai(folder):
    names = media(folder, "images/1.jpg", "audios/1.wav", "videos/1.mp4")
    url = f"data:image/png;base64,{base64.b64encode(png()).decode()}"
    sound = {"data": base64.b64encode((folder / names[1]).read_bytes()).decode(), "format": "wav"}
    text = {"type": "text", "text": "What is it?"}
    contents = [
        [text, {"type": "image_url", "image_url": {"url": url, "detail": "low"}}],
        [{"type": "image_url", "image_url": {"url": names[0]}}, text],
        [{"type": "input_audio", "input_audio": sound}, text],
        [{"type": "video_url", "video_url": {"url": names[2]}}, text],
    ]
    rows = [{"messages": messages(content, "It.")} for content in contents]
    rows[0]["messages"].insert(0, {"role": "developer", "content": "Be brief."})
    within = "within the row]"
    texts = [
        ["system: Be brief.", f"user: What is it?[image image {within}", "assistant: It."],
        ["user: [image 1.jpg]What is it?", "assistant: It."],
        [f"user: [audio audio {within}What is it?", "assistant: It."],
        ["user: [video 1.mp4]What is it?", "assistant: It."],
    ]
    return Written([in_lines(folder, "openai.jsonl", rows)], texts, names)


def transformers(folder):
    names = media(folder, "images/1.jpg", "videos/1.mp4", "audios/1.wav")
    parts = [
        {"type": "image", "url": names[0]},
        {"type": "video", "path": names[1]},
        {"type": "audio", "audio": names[2]},
        {"type": "image", "base64": base64.b64encode(png()).decode()},
        {"type": "text", "text": "What is it?"},
    ]
    made = [{"type": "text", "text": "See "}, {"type": "image", "path": names[0], "caption": "a ball"}]
    shown = "[image 1.jpg][video 1.mp4][audio 1.wav][image image within the row]"
    texts = [[f"user: {shown}What is it?", "assistant: See [image: a ball]"]]
    return Written([in_lines(folder, "parts.jsonl", [{"messages": messages(parts, made)}])], texts, names)


def trl(folder):
    """Parquet with a column of messages and a column of images; all parts have all fields."""
    shown = [{"type": "image", "text": None}, {"type": "text", "text": "What is it?"}]
    rows = [
        (messages(shown, [{"type": "text", "text": "A ball."}]), [{"bytes": png(9), "path": "0.png"}]),
        (messages([{"type": "text", "text": "Hi."}], [{"type": "text", "text": "Hello."}]), None),
    ]
    columns = {"messages": [row[0] for row in rows], "images": [row[1] for row in rows]}
    texts = [["user: [image 0.png]What is it?", "assistant: A ball."], ["user: Hi.", "assistant: Hello."]]
    return Written([in_parquet(folder, "train-00000-of-00001.parquet", columns)], texts, [])


#: writer of each published form
MESSAGES = {
    writer.__name__: writer
    for writer in (
        *(sharegpt, sharegpt_items, llamafactory_sharegpt, llamafactory_messages, alpaca, llamafactory_alpaca),
        *(ms_swift, ms_swift_query, openai, transformers, trl),
    )
}
