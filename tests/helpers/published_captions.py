"""Captioned data sets and questions, each written in its published form with a few rows."""

import csv
import json
from pathlib import Path
from typing import Any

from published import Written, in_json, in_lines, in_parquet, in_tar, media

BALL, LAKE = "a red ball on paper", "a quiet lake, at dawn"


def cc3m(folder: Path) -> Written:
    names = media(folder, "images/0.jpg", "images/1.jpg")
    lines = [f"{BALL}\thttp://example.org/a/0.jpg", f"{LAKE}\thttp://example.org/b/1.jpg?size=large"]
    return Written([in_lines(folder, "Train_GCC-training.tsv", lines)], [BALL, LAKE], names)


def cc12m(folder: Path) -> Written:
    names = media(folder, "images/0.jpg", "images/1.jpg")
    lines = [f"http://example.org/0.jpg\t{BALL}", f'http://example.org/1.jpg\t"{LAKE}']
    return Written([in_lines(folder, "cc12m.tsv", lines)], [BALL, f'"{LAKE}'], names)


def img2dataset(folder: Path) -> Written:
    members = {}
    for key, caption in (("000000000", BALL), ("000000001", LAKE)):
        described = {"caption": caption, "url": "http://x.org", "key": key, "status": "success", "error_message": None}
        described |= {
            "width": 16,
            "height": 16,
            "original_width": 16,
            "original_height": 16,
            "exif": "{}",
            "sha256": "",
        }
        (name,) = media(folder, f"made/{key}.jpg")
        members |= {f"{key}.jpg": (folder / name).read_bytes(), f"{key}.json": json.dumps(described).encode()}
        members |= {f"{key}.txt": caption.encode()}
    media_names = ["000000000.jpg", "000000001.jpg"]
    return Written([in_tar(folder, "00000.tar", members)], [BALL, LAKE], media_names)


def video2dataset(folder: Path) -> Written:
    names = media(folder, "made/0.mp4", "made/1.mp4")
    members = {}
    for key, name, caption in zip(("00", "01"), names, (BALL, LAKE), strict=True):
        described = {"caption": caption, "url": "http://x.org", "key": key, "status": "success", "error_message": None}
        described |= {"clips": None, "yt_meta_dict": None}
        members |= {f"{key}.mp4": (folder / name).read_bytes(), f"{key}.json": json.dumps(described).encode()}
    return Written([in_tar(folder, "0.tar", members)], [BALL, LAKE], ["00.mp4", "01.mp4"])


def _downloaded(*keys: str) -> dict[str, list[Any]]:
    """Columns of what img2dataset writes about three images, of which the second one is gone."""
    return {
        "url": ["http://a", "http://b", "http://c"],
        "caption": [BALL, "gone", LAKE],
        "key": list(keys),
        "status": ["success", "failed_to_download", "success"],
        "error_message": [None, "404", None],
        "width": [16, None, 16],
    }


def downloads(folder: Path) -> Written:
    names = media(folder, "00007/000070000.jpg", "00007/000070002.jpg")
    rows = {
        **_downloaded("000070000", "000070001", "000070002"),
        "height": [16, None, 16],
        "sha256": ["", None, ""],
    }
    return Written([in_parquet(folder, "00007.parquet", rows)], [BALL, LAKE], names)


def img2dataset_parquet(folder: Path) -> Written:
    names = media(folder, "made/0.jpg", "made/1.jpg")
    rows = {
        **_downloaded("000000000", "000000001", "000000002"),
        "jpg": [(folder / names[0]).read_bytes(), None, (folder / names[1]).read_bytes()],
    }
    file = in_parquet(folder, "00000.parquet", rows)
    return Written([file], [BALL, LAKE], ["000000000.jpg", "000000002.jpg"])


def webvid(folder: Path) -> Written:
    names = media(folder, "videos/000001_000050/20.mp4", "videos/000001_000050/21.mp4")
    lines = ["videoid,contentUrl,duration,page_dir,name"]
    lines += [f'{20 + n},https://x.org/{n}.mp4,PT00H00M07S,000001_000050,"{c}"' for n, c in enumerate((BALL, LAKE))]
    return Written([in_lines(folder, "results_2M_train.csv", lines)], [BALL, LAKE], names)


def audiocaps(folder: Path) -> Written:
    names = media(folder, "audios/a-b.wav", "audios/cd_30.wav")
    lines = ["audiocap_id,youtube_id,start_time,caption", f"1,a-b,0,{BALL}", f'2,cd,30,"{LAKE}"']
    return Written([in_lines(folder, "train.csv", lines)], [BALL, LAKE], names)


def audiocaps_without_header(folder: Path) -> Written:
    names = media(folder, "audios/a-b.wav", "audios/cd_30.wav")
    lines = [f"1,a-b,0,{BALL}", f'2,cd,30,"{LAKE}"']
    return Written([in_lines(folder, "train.csv", lines)], [BALL, LAKE], names)


def clotho(folder: Path) -> Written:
    (name,) = media(folder, "audios/Hum 0, with comma.wav")
    with (folder / "clotho.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", *(f"caption_{n}" for n in range(1, 6))])
        writer.writerow([Path(name).name, *(f"It hums {n}, again" for n in range(5))])
    return Written(["clotho.csv"], [f"It hums {n}, again" for n in range(5)], [name] * 5)


def wavcaps(folder: Path) -> Written:
    names = media(folder, "audios/2219.flac", "audios/Yab.wav", "audios/deep/own.wav")
    rows = [
        {"id": "2219", "caption": BALL, "audio": "wav_path", "duration": 1.5, "download_link": "x", "title": "t"},
        {"id": "Yab.wav", "caption": LAKE, "duration": 10.0},
        {"id": "3", "caption": "third", "audio": "deep/own.wav", "duration": 10.0},
    ]
    file = in_json(folder, "sb_final.json", {"num_captions_per_audio": 1, "data": rows})
    return Written([file], [BALL, LAKE, "third"], names)


def coco(folder: Path) -> Written:
    names = media(folder, "val2014/COCO_val2014_000000000042.jpg", "val2014/COCO_val2014_000000000043.jpg")
    images = [
        {"id": 42 + n, "file_name": Path(name).name, "license": 1, "height": 16, "width": 16, "date_captured": "x"}
        for n, name in enumerate(names)
    ]
    texts = [(42, BALL), (43, "another"), (42, LAKE)]
    annotations = [{"id": n, "image_id": image, "caption": text} for n, (image, text) in enumerate(texts)]
    content = {"info": {}, "licenses": [], "type": "captions", "images": images, "annotations": annotations}
    file = in_json(folder, "annotations/captions_val2014.json", content)
    options = {"media": {"image": "val2014"}}
    return Written([file], [BALL, LAKE, "another"], [names[0], names[0], names[1]], options)


def karpathy(folder: Path) -> Written:
    names = media(folder, "images/val2014/a.jpg", "images/train2014/b.jpg")
    rows = [
        {
            "filepath": Path(name).parent.name,
            "filename": Path(name).name,
            "imgid": n,
            "cocoid": 100 + n,
            "sentids": [n],
            "split": ("restval", "train")[n],
            "sentences": [{"raw": text, "tokens": text.split(), "sentid": n, "imgid": n}],
        }
        for n, (name, text) in enumerate(zip(names, (BALL, LAKE), strict=True))
    ]
    return Written([in_json(folder, "dataset_coco.json", {"images": rows, "dataset": "coco"})], [BALL, LAKE], names)


def karpathy_flickr30k(folder: Path) -> Written:
    names = media(folder, "images/1.jpg")
    row = {"sentids": [0, 1], "imgid": 0, "filename": "1.jpg", "split": "train"}
    row["sentences"] = [{"raw": text, "tokens": [], "sentid": n, "imgid": 0} for n, text in enumerate((BALL, LAKE))]
    file = in_json(folder, "dataset_flickr30k.json", {"images": [row], "dataset": "flickr30k"})
    return Written([file], [BALL, LAKE], names * 2)


def flickr30k_csv(folder: Path) -> Written:
    names = media(folder, "images/1.jpg")
    lines = ["image_name| comment_number| comment", f"1.jpg| 0| {BALL} .", f"1.jpg| 1| {LAKE} ."]
    return Written([in_lines(folder, "results.csv", lines)], [f"{BALL} .", f"{LAKE} ."], names * 2)


def flickr30k_token(folder: Path) -> Written:
    names = media(folder, "images/1.jpg")
    lines = [f"1.jpg#0\t{BALL} .", f"1.jpg#1\t{LAKE} ."]
    return Written([in_lines(folder, "results_20130124.token", lines)], [f"{BALL} .", f"{LAKE} ."], names * 2)


def _msrvtt_object(split: str) -> dict:
    videos = [
        {
            "video_id": f"video{n}",
            "category": 1,
            "url": "u",
            "start time": 0.5,
            "end time": 2.5,
            "split": split,
            "id": n,
        }
        for n in range(2)
    ]
    texts = [("video0", BALL), ("video1", LAKE)]
    sentences = [{"caption": text, "video_id": video, "sen_id": n} for n, (video, text) in enumerate(texts)]
    return {"info": {}, "videos": videos, "sentences": sentences}


def msrvtt(folder: Path) -> Written:
    names = media(folder, "TrainValVideo/video0.mp4", "TrainValVideo/video1.mp4")
    file = in_json(folder, "train_val_videodatainfo.json", _msrvtt_object("train"))
    return Written([file], [BALL, LAKE], names, {"media": {"video": "TrainValVideo"}})


def msrvtt_jsfusion(folder: Path) -> Written:
    names = media(folder, "videos/video7020.mp4")
    lines = ["key,vid_key,video_id,sentence", f"ret0,msr7020,video7020,{BALL}"]
    return Written([in_lines(folder, "MSRVTT_JSFUSION_test.csv", lines)], [BALL], names)


def metadata_csv(folder: Path) -> Written:
    names = media(folder, "train/0.png", "train/1.png")
    lines = ["file_name,text", f"0.png,{BALL}", f'1.png,"{LAKE}"']
    return Written([in_lines(folder, "train/metadata.csv", lines)], [BALL, LAKE], names)


def metadata_jsonl(folder: Path) -> Written:
    names = media(folder, "train/0.png", "train/1.mp4")
    rows = [{"file_name": "0.png", "text": BALL + "\u2028."}, {"file_name": "1.mp4", "text": LAKE}]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    return Written(
        [in_lines(folder, "train/metadata.jsonl", ["\ufeff" + lines[0], lines[1]])], [BALL + "\u2028.", LAKE], names
    )


def metadata_parquet(folder: Path) -> Written:
    names = media(folder, "train/0.png", "train/1.png")
    rows = {"file_name": ["0.png", "1.png"], "text": [BALL, LAKE]}
    return Written([in_parquet(folder, "train/metadata.parquet", rows)], [BALL, LAKE], names)


def hub_parquet(folder: Path) -> Written:
    names = media(folder, "made/red.png", "made/blue.png")
    images = [{"bytes": (folder / name).read_bytes(), "path": Path(name).name} for name in names]
    rows = {"image": images, "caption": [[BALL, "again"], [LAKE]]}
    file = in_parquet(folder, "train-00000-of-00001.parquet", rows)
    return Written([file], [BALL, "again", LAKE], ["red.png", "red.png", "blue.png"])


def own_columns(folder: Path) -> Written:
    names = media(folder, "p_0/7.jpg", "p_0/8.jpg")
    lines = ["no,page,first,second,licence", f'7,0,{BALL},"{LAKE}",free', "8,0,third,fourth,free"]
    columns = {"image": "p_{page}/{no}.jpg", "caption": ["first", "second"], "key": "no"}
    texts = [BALL, LAKE, "third", "fourth"]
    return Written(
        [in_lines(folder, "own.csv", lines)], texts, [n for n in names for _ in range(2)], {"columns": columns}
    )


def official_pairs(folder: Path) -> Written:
    """The lists of captions and names of the official code's preparation."""
    names = media(folder, "images/000000000.jpg", "images/000000001.jpg")
    rows = [{"caption": c, "image_name": Path(n).name} for n, c in zip(names, (BALL, LAKE), strict=True)]
    return Written([in_json(folder, "cc3m.json", rows)], [BALL, LAKE], names)


def _official(folder: Path, kind: str) -> tuple[list[dict], list[str]]:
    names = media(folder, "videos/0.mp4", "audios/1.wav")
    rows = []
    for name, caption in zip(names, (BALL, LAKE), strict=True):
        modality, reply = (
            Path(name).parent.name.removesuffix("s"),
            caption if kind == "input" else f"<{Path(name).stem}>",
        )
        talk = [{"from": "human", "value": "Please."}, {"from": "gpt", "value": reply}]
        rows.append({f"{kind}_{modality}": Path(name).name, "conversations": talk})
    return rows, names


def official_generation(folder: Path) -> Written:
    rows, names = _official(folder, "output")
    for row, modality, caption in zip(rows, ("video", "audio"), (BALL, LAKE), strict=True):
        row |= {f"{modality}_captions": caption, f"{modality}_caption_embeddings": "0.npy"}
    options = {"layout": "official_pairs", "embeddings": "compute"}
    return Written([in_json(folder, "webvid_generation.json", rows)], [BALL, LAKE], names, options)


def official_comprehension(folder: Path) -> Written:
    rows, names = _official(folder, "input")
    options = {"layout": "official_pairs"}
    return Written([in_json(folder, "audiocap_comprehension.json", rows)], [BALL, LAKE], names, options)


CAPTIONED = {
    write.__name__: write
    for write in (
        *(cc3m, cc12m, img2dataset, img2dataset_parquet, video2dataset, downloads, webvid, audiocaps),
        *(audiocaps_without_header, clotho, official_pairs, official_generation, official_comprehension),
        *(wavcaps, coco, karpathy, karpathy_flickr30k, flickr30k_csv, flickr30k_token, msrvtt, msrvtt_jsfusion),
        *(metadata_csv, metadata_jsonl, metadata_parquet, hub_parquet, own_columns),
    )
}


def msrvtt_qa(folder: Path) -> Written:
    names = media(folder, "videos/video6513.mp4")
    row = {"answer": "couch", "category_id": 14, "id": 158581, "question": "what is a man on?", "video_id": 6513}
    return Written([in_json(folder, "train_qa.json", [row])], [("what is a man on?", "couch")], names)


def msvd_qa(folder: Path) -> Written:
    names = media(folder, "videos/vid1.avi")
    row = {"answer": "someone", "id": 0, "question": "who moves?", "video_id": 1}
    return Written([in_json(folder, "test_qa.json", [row])], [("who moves?", "someone")], names)


def _vqa_questions(folder: Path, subset: str) -> tuple[str, list[str]]:
    names = media(folder, *(f"images/COCO_{subset}_{n:012d}.jpg" for n in (9, 25)))
    questions = [
        {"image_id": 9, "question": "What color?", "question_id": 90},
        {"image_id": 25, "question": "How many?", "question_id": 250},
    ]
    content = {"info": {}, "task_type": "Open-Ended", "data_type": "mscoco", "license": {}, "data_subtype": subset}
    return in_json(folder, "questions.json", {**content, "questions": questions}), names


def vqav2(folder: Path) -> Written:
    file, names = _vqa_questions(folder, "val2014")
    given = {90: ["red", "blue", "red"], 250: ["2", "2", "3"]}
    annotations = [
        {
            "question_id": number,
            "image_id": number // 10,
            "question_type": "what",
            "answer_type": "other",
            "multiple_choice_answer": max(answers, key=answers.count),
            "answers": [{"answer": a, "answer_confidence": "yes", "answer_id": n} for n, a in enumerate(answers, 1)],
        }
        for number, answers in given.items()
    ]
    answers_file = in_json(folder, "annotations.json", {"info": {}, "license": {}, "annotations": annotations})
    texts = [("What color?", "red"), ("How many?", "2")]
    return Written([file], texts, names, {"joins": {"question_id": answers_file}})


def vqav2_test(folder: Path) -> Written:
    file, names = _vqa_questions(folder, "test2015")
    return Written([file], [("What color?", None), ("How many?", None)], names)


def own_questions(folder: Path) -> Written:
    names = media(folder, "sounds/a.wav")
    lines = ["file_name,QuestionText,answer,confidence", "a.wav,Is it loud?,yes,1"]
    columns = {"audio": "sounds/{file_name}", "question": "QuestionText", "answer": "answer"}
    return Written([in_lines(folder, "clotho_aqa.csv", lines)], [("Is it loud?", "yes")], names, {"columns": columns})


QUESTIONS = {write.__name__: write for write in (msrvtt_qa, msvd_qa, vqav2, own_questions)}
