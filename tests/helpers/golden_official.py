"""The official code's golden data in little space: ``python tests/helpers/golden_official.py RECORDED``.

``tests/golden/official`` holds what the parity tests read of a recorded folder (some 16 MB). Four kinds of tensors:

- inputs and untrained weights follow from a seed by a formula: only seed, scale, shape and dtype are kept;
- trained weights are kept as their distance from the formula's, in steps of their own 16-bit floating point type;
- large outputs are sampled: some rows and some columns in full (see :func:`samples`);
- everything else is kept as it is.
"""

import gzip
import json
import lzma
import sys
from collections import OrderedDict
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

FOLDER = Path(__file__).parent.parent / "golden" / "official"
LARGE = 6144  # elements; larger outputs are sampled
LEGACY, PROJECTIONS = "legacy_stage2_loss", "legacy_output_projection_transformer"
V2, V2_PROJECTIONS = "v2_losses", "v2_projectors"
BATCH = ("input_ids", "wrapped.targets", "wrapped.attention_mask", "last_hidden", "imagebind", "caption")
# of each file, the tensors whose name contains one of these words
READ = {
    f"{LEGACY}/stage1_io": (*BATCH, "grad"),
    f"{LEGACY}/stage2_io": (
        "input_ids",
        "wrapped.targets",
        "wrapped.attention_mask",
        "caption",
        "last",
        "grad",
        "proj",
    ),
    f"{LEGACY}/stage3_io": (
        "input_ids",
        "wrapped.targets",
        "wrapped.attention_mask",
        "caption",
        "last",
        "image",
        "proj",
    ),
    f"{LEGACY}/generation_io": ("",),
    f"{PROJECTIONS}/io_tiny": ("",),
    f"{PROJECTIONS}/io_full_size_procedural": ("",),
    f"{V2}/io": ("input_ids", "labels", "attention_mask", "last", "signal", "caption", "media_", "direct"),
    f"{V2_PROJECTIONS}/io_tiny": ("",),
    f"{V2_PROJECTIONS}/io_full_size_procedural": ("",),
    "imagebind_tiny/outputs_legacy_pooled": ("",),
    "imagebind_tiny/outputs_new_tokens": ("",),
}
FORMULA = [
    "imagebind_tiny/weights",
    f"{LEGACY}/stage3_lora",
    *(f"{V2_PROJECTIONS}/{name}" for name in ("mm_input_projector_linear", "mm_input_projector_mlp")),
    f"{V2_PROJECTIONS}/mm_output_img_projector_qformer",
]
TRAINED = {
    f"{LEGACY}/tiny_llama": ("llama_model.", torch.float16),
    f"{LEGACY}/tiny_projections": ("", torch.float16),
    f"{V2}/tiny_model": ("", torch.bfloat16),
}
TEXTS = {
    f"{LEGACY}/expected.json": None,
    f"{LEGACY}/generation_expected.json": None,
    f"{V2}/expected.json": None,
    f"{PROJECTIONS}/meta.json": ("full_size", "procedural_probe"),
    f"{V2_PROJECTIONS}/meta.json": ("full_size", "procedural_probe", "cases"),
    "layout.json": None,
}


def uniform(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Pseudo-random float64 numbers in [-1, 1), the same bit for bit on every machine."""
    with np.errstate(over="ignore"):
        x = (np.uint64(seed) << np.uint64(32)) + np.arange(np.prod(shape), dtype=np.uint64)
        x += np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return (2 * ((x >> np.uint64(11)).astype(np.float64) / 2**53) - 1).reshape(shape)


def made_input(name: str | int, shape: tuple[int, ...], scale: float = 1.0) -> Tensor:
    """The golden input of a name (or of its checksum)."""
    seed = crc32(name.encode()) if isinstance(name, str) else name
    return torch.from_numpy((scale * uniform(seed, tuple(shape))).astype(np.float32))


def made_parameter(name: str, shape: tuple[int, ...]) -> Tensor:
    """The golden weight of a checkpoint's key; the only one without axes is ImageBind's scale of audio, 20."""
    if not len(shape):
        return torch.tensor(20.0).log()
    values = uniform(crc32(name.encode()), tuple(shape))
    if len(shape) == 3 and any(part in name for part in ("query_embs", "query_tokens", "group_token")):
        pass
    elif len(shape) == 1:
        values = 1 + 0.1 * values if name.endswith("weight") else 0.05 * values
    else:
        values = np.sqrt(3 / shape[-1]) * values
    return torch.from_numpy(values.astype(np.float32))


def samples(tensor: Tensor) -> dict[str, Tensor]:
    """Of an output (..., rows, columns): every row at some columns, every column at some rows, and the sum of the rows.

    The projections end in a linear layer, so that a wrong row (a query, a token) shows in the kept columns and a wrong
    column (a row of the last layer's weight) in the kept rows.
    """
    return {
        "columns": tensor[..., 3::32].contiguous(),
        "rows": tensor[..., 3::64, :].contiguous(),
        "sum": tensor.double().sum(-2).float(),
    }


def sampled_states(tensor: Tensor) -> Tensor:
    """Of hidden states (rows, positions, width): a quarter of the columns; the others have a part in their norm."""
    return tensor[..., 3::4].contiguous()


def assert_golden(ours: Tensor, numbers: dict[str, Tensor], name: str, valid=..., *, rtol: float, atol: float) -> None:
    """Compares an output with the recorded one, or with the samples that are kept of it.

    Args:
        valid: Mask of the positions to compare, for hidden states.
    """
    close = torch.testing.assert_close
    if name in numbers:
        close(ours[valid], numbers[name][valid], rtol=rtol, atol=atol)
    elif f"{name}#states" in numbers:
        close(sampled_states(ours)[valid], numbers[f"{name}#states"][valid], rtol=rtol, atol=atol)
    else:
        for kind, values in samples(ours).items():
            bound = atol * ours.shape[-2] ** 0.5 if kind == "sum" else atol
            close(values, numbers[f"{name}#{kind}"], rtol=rtol, atol=bound)


def _planes(values: np.ndarray) -> np.ndarray:
    """Bytes of equal weight side by side: they compress better."""
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).reshape(-1, values.dtype.itemsize).T.copy()


def _from_planes(planes: np.ndarray, dtype: str) -> np.ndarray:
    return np.ascontiguousarray(planes.T).view(dtype).reshape(-1)


def _ordered(tensor: Tensor) -> np.ndarray:
    """16-bit floating point numbers as integers of the same order."""
    bits = tensor.view(torch.int16).numpy()
    return np.where(bits < 0, np.int16(-32768) - bits, bits).astype(np.int16)


def _unordered(integers: np.ndarray, dtype: torch.dtype) -> Tensor:
    bits = np.where(integers < 0, np.int16(-32768) - integers, integers).astype(np.int16)
    return torch.from_numpy(bits).view(dtype)


def _seeded(entry: dict) -> Tensor:
    """The input of one seed, or of one seed per row."""
    if "seeds" in entry:
        rows = [made_input(seed, entry["shape"][1:], entry["scale"]) for seed in entry["seeds"]]
        return torch.stack(rows).to(getattr(torch, entry["dtype"]))
    return made_input(entry["seed"], entry["shape"], entry["scale"]).to(getattr(torch, entry["dtype"]))


def _lora(name: str, shape) -> Tensor:
    return (0.5 * made_parameter(name, shape)).half().float()


def _write_json(path: Path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(json.dumps(content, separators=(",", ":")).encode(), mtime=0))


def _read_json(path: Path):
    return json.loads(gzip.decompress(path.read_bytes()))


def _pack_outputs(recorded: Path, folder: Path, seeds: dict) -> None:
    for file, words in READ.items():
        kept = {}
        for name, tensor in load_file(recorded / f"{file}.safetensors").items():
            if f"{file}:{name}" in seeds:
                assert torch.equal(tensor, _seeded(seeds[f"{file}:{name}"])), name
            elif not any(word in name for word in words):
                continue
            elif name.endswith("last_hidden_state"):
                kept[f"{name}#states"] = sampled_states(tensor)
            elif tensor.is_floating_point() and tensor.numel() > LARGE and "grad." not in name and "prompt" not in name:
                kept |= {f"{name}#{kind}": part for kind, part in samples(tensor).items()}
            else:
                kept[name] = tensor
        arrays = {}
        for name, tensor in kept.items():
            values = tensor.to(torch.int32) if tensor.dtype == torch.int64 else tensor
            kind = str(tensor.dtype).removeprefix("torch.")
            arrays[f"{kind} {','.join(map(str, tensor.shape))} {name}"] = _planes(values.numpy())
        path = folder / f"{file}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, **arrays)


def _unpack_outputs(folder: Path, target: Path, seeds: dict) -> None:
    for file in READ:
        tensors = {key.split(":")[1]: _seeded(entry) for key, entry in seeds.items() if key.startswith(f"{file}:")}
        with np.load(folder / f"{file}.npz", allow_pickle=False) as arrays:
            for key, planes in arrays.items():
                kind, shape, name = key.split(" ", 2)
                values = _from_planes(planes, "int32" if kind.startswith("int") else kind).copy()
                shape = [int(side) for side in shape.split(",")]
                tensors[name] = torch.from_numpy(values).reshape(shape).to(getattr(torch, kind))
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, target / f"{file}.safetensors")


def _pack_weights(recorded: Path, folder: Path) -> None:
    shapes = {}
    for file in FORMULA:
        weights = load_file(recorded / f"{file}.safetensors")
        make = _lora if file.endswith("lora") else made_parameter
        shapes[file] = {name: list(tensor.shape) for name, tensor in weights.items()}
        assert all(torch.equal(tensor, make(name, tensor.shape)) for name, tensor in weights.items()), file
    for file, (prefix, dtype) in TRAINED.items():
        weights = load_file(recorded / f"{file}.safetensors")
        shapes[file] = {name: list(tensor.shape) for name, tensor in weights.items()}
        steps = [
            _ordered(tensor.to(dtype)) - _ordered(made_parameter(prefix + name, tensor.shape).to(dtype))
            for name, tensor in weights.items()
        ]
        planes = _planes(np.concatenate([step.reshape(-1) for step in steps]))
        (folder / f"{file}.xz").write_bytes(lzma.compress(planes.tobytes(), preset=9))
    _write_json(folder / "shapes.json.gz", shapes)


def _weights(folder: Path) -> dict[str, dict[str, Tensor]]:
    """By file; trained ones in their 16-bit type."""
    shapes = _read_json(folder / "shapes.json.gz")
    found = {}
    for file in FORMULA:
        make = _lora if file.endswith("lora") else made_parameter
        found[file] = {name: make(name, shape) for name, shape in shapes[file].items()}
    for file, (prefix, dtype) in TRAINED.items():
        planes = np.frombuffer(lzma.decompress((folder / f"{file}.xz").read_bytes()), np.uint8).reshape(2, -1)
        steps = _from_planes(planes, "int16")
        found[file], start = {}, 0
        for name, shape in shapes[file].items():
            begin = _ordered(made_parameter(prefix + name, shape).to(dtype)).reshape(-1)
            values = begin + steps[start : start + len(begin)]
            found[file][name] = _unordered(values, dtype).reshape(shape).clone()
            start += len(begin)
    return found


def _unpack_weights(folder: Path, target: Path) -> None:
    files = _weights(folder)
    llama, projections = files[f"{LEGACY}/tiny_llama"], files.pop(f"{LEGACY}/tiny_projections")
    lora = {name: tensor.half() for name, tensor in files.pop(f"{LEGACY}/stage3_lora").items()}
    for stage, prefix in ((2, "llama_model."), (3, "llama_model.base_model.model.")):
        vocabulary = {prefix + name: llama[name] for name in ("model.embed_tokens.weight", "lm_head.weight")}
        files[f"{PROJECTIONS}/checkpoint_stage{stage}_fp16"] = {
            **vocabulary,
            **projections,
            **(lora if stage == 3 else {}),
        }
    files[f"{LEGACY}/tiny_llama"] = {name: tensor.float() for name, tensor in llama.items()}
    model = files[f"{V2}/tiny_model"]
    for name, part in (("input", "mm_input_projector"), ("output", "mm_output_")):
        kept = {k: v for k, v in model.items() if part in k or k in ("model.embed_tokens.weight", "lm_head.weight")}
        files[f"{V2_PROJECTIONS}/mm_{name}_projector_bf16"] = kept
    for file, tensors in files.items():
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.clone() for name, tensor in tensors.items()}, target / f"{file}.safetensors")
    stage_3 = files[f"{PROJECTIONS}/checkpoint_stage3_fp16"]
    torch.save(
        OrderedDict((name, nn.Parameter(tensor)) for name, tensor in stage_3.items()),
        target / PROJECTIONS / "pytorch_model_stage3_fp16.pt",
    )


def pack(recorded: Path, folder: Path = FOLDER) -> None:
    """Writes the small files from the recorded folder; ``seeds.json`` in the folder names the inputs' seeds."""
    _pack_outputs(recorded, folder, json.loads((folder / "seeds.json").read_text()))
    _pack_weights(recorded, folder)
    for name, keys in TEXTS.items():
        content = json.loads((recorded / name).read_text())
        _write_json(folder / f"{name}.gz", {k: v for k, v in content.items() if keys is None or k in keys})


def unpack(target: Path, folder: Path = FOLDER) -> Path:
    """Writes files of the recorded folder's names and layout, with samples (``name#kind``) for large outputs."""
    _unpack_outputs(folder, target, json.loads((folder / "seeds.json").read_text()))
    _unpack_weights(folder, target)
    for name in TEXTS:
        (target / name).write_text(json.dumps(_read_json(folder / f"{name}.gz")))
    return target


if __name__ == "__main__":
    pack(Path(sys.argv[1]))
