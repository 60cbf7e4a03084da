"""A run's folder whose network draws audio alone, with a small projection."""

import torch
import yaml

from nextgpt_pl.adapter import save_adapter
from nextgpt_pl.saved_network import network_of

NETWORK = {
    "class_path": "nextgpt_pl.model.NextGPT",
    "init_args": {
        "llm": {"class_path": "nextgpt_pl.llm.CausalLM", "init_args": {"path": "pocket:llm"}},
        "decoders": {
            "audio": {
                "class_path": "nextgpt_pl.decoders.AudioLDMDecoder",
                "init_args": {"pipeline": "AudioLDMPipeline", "path": "pocket:audio"},
            }
        },
        "output_projection": {
            "class_path": "nextgpt_pl.projections.TransformerOutputProjection",
            "init_args": {"width": 16, "layers": 1},
        },
    },
}


def save_audio_run(folder):
    """Write a run with a changed adapter, a table of values, and the machine's paths in its configuration."""
    folder.mkdir()
    stage = {
        "class_path": "nextgpt_pl.stages.DecoderAlignment",
        "init_args": {"network": NETWORK, "lr": 0.1, "init_from": "/home/me/outputs/x/adapter"},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": stage, "run": {"root": "/home/me"}}))
    (folder / "metrics.csv").write_text(
        "epoch,step,train/loss,val/loss,test/cosine\n0,1,9.0,,\n0,2,,0.75,\n1,4,,0.5,\n1,4,,,0.25\n"
    )
    network = network_of({"model": stage})
    network.load()
    keys = [name for name, p in network.named_parameters() if name.startswith("output") or name.endswith(".rows")]
    with torch.no_grad():
        network.llm.model.get_input_embeddings().rows.fill_(0.5)
    save_adapter(folder / "adapter", network, keys, stage="DecoderAlignment")
    return folder
