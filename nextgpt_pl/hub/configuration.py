"""The configuration class, and the files by which transformers finds the classes of a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from transformers import PreTrainedConfig

from nextgpt_pl.errors import UserError, nearest
from nextgpt_pl.saved_network import local_folder, network_of, saved_config

#: the code in a pushed folder: a copy of this file
CODE = Path(__file__).with_name("remote_code.py")
MODEL_TYPE = "nextgpt_pl"

#: arguments of ``from_pretrained`` that concern the download of a folder
_DOWNLOAD = ("revision", "token", "cache_dir", "force_download", "local_files_only")
#: further arguments that transformers' auto classes and ``pipeline`` pass on to a model and a processor
_PASSED_ON = ("adapter_kwargs", "code_revision", "device_map", "dtype", "torch_dtype", "trust_remote_code")


class NextGPTConfig(PreTrainedConfig):
    """Marks a folder as a run. What its parts are is in ``config.yaml``, beside ``config.json``."""

    model_type = MODEL_TYPE

    @classmethod
    def from_pretrained(cls, name: str | Path, *, trust: Sequence[str] = (), **options: Any) -> Any:
        """Read ``config.json``, and check ``config.yaml`` before anything else is loaded.

        Args:
            name: a folder, or ``user/name`` on the hub.
            trust: dotted names of classes outside this package that ``config.yaml`` may name.
            options: of transformers; ``trust`` is among those that it returns as unused.

        Raises:
            UserError: the folder is not a run, or names classes that are not trusted.

        """
        network_of(saved_config(folder_of(name, options)), trust)
        found = super().from_pretrained(name, **options)
        if options.get("return_unused_kwargs"):
            config, unused = found
            return config, {**unused, "trust": trust}
        return found


def auto_files() -> dict[str, dict[str, Any]]:
    """The files by which transformers finds the classes of a folder, with their content."""

    def place(name: str) -> str:
        return f"{CODE.stem}.{name}"

    models = dict.fromkeys(("AutoModel", "AutoModelForMultimodalLM"), place("NextGPTModel"))
    processor = {"AutoProcessor": place("NextGPTProcessor")}
    return {
        "config.json": {
            "model_type": MODEL_TYPE,
            "architectures": ["NextGPTModel"],
            "auto_map": {"AutoConfig": place("NextGPTConfig"), **models, **processor},
            "custom_pipelines": {"any-to-any": {"impl": place("NextGPTPipeline"), "pt": ["AutoModel"]}},
        },
        "processor_config.json": {"processor_class": "NextGPTProcessor", "auto_map": processor},
    }


def folder_of(name: str | Path, options: Mapping[str, Any]) -> Path:
    """The folder of a run, downloaded with the arguments of ``from_pretrained`` that concern downloads.

    Raises:
        UserError: there is no such folder or repository.

    """
    return local_folder(name, **{key: options[key] for key in _DOWNLOAD if options.get(key) is not None})


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse arguments of ``from_pretrained`` that would have no effect.

    Raises:
        UserError: an argument is unknown.

    """
    known = (*_DOWNLOAD, *_PASSED_ON)
    for name in options:
        if name not in known and not name.startswith("_"):
            raise UserError(f"{name}: no such argument of from_pretrained here{nearest(name, (*known, 'trust'))}")


class ReadOnly:
    """A class that reads a pushed folder and does not write one."""

    def save_pretrained(self, *_: Any, **__: Any) -> NoReturn:
        """Not supported.

        Raises:
            UserError: always.

        """
        raise UserError(
            "a loaded folder is not written again; copy the folder, or write one of a run with"
            " python -m nextgpt_pl push RUN --repo USER/NAME --out FOLDER"
        )

    push_to_hub = save_pretrained
