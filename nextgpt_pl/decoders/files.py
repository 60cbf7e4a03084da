"""Files of a pipeline's parts: in its folder, in other folders, on the hub, or stored in this package."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nextgpt_pl import published
from nextgpt_pl.errors import UserError, nearest
from nextgpt_pl.utils.paths import resolve

#: extras of this package by the packages that some classes of diffusers need
_EXTRAS = {"torchsde": "sde"}
# libraries whose classes a pipeline's folder may name, beside the modules of diffusers.pipelines
_LIBRARIES = ("diffusers", "transformers")


@dataclass
class PipelineFiles:
    """The files of one pipeline of the diffusers library.

    Attributes:
        pipeline: class name in diffusers.
        path: hub id, folder, or ``pocket:NAME``.
        parts: parts from another pipeline's folder, by name.

    """

    pipeline: str
    path: str
    parts: Mapping[str, str] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict, init=False, repr=False)

    def source(self, part: str | None = None) -> str:
        """The configured name of the folder or repository of a part, or of the pipeline."""
        return self.parts.get(part, self.path) if part else self.path

    def folder(self, part: str | None = None) -> Path:
        """The folder of the pipeline, or of one part; a hub id is downloaded unless it is in the local cache."""
        name = self.source(part)
        path = Path(resolve(name))
        if not path.is_dir():
            from huggingface_hub import snapshot_download

            patterns = ["*.json", f"{part}/*" if part else "text_encoder*/*"]
            try:
                path = Path(snapshot_download(name, allow_patterns=patterns))
            except Exception as error:
                raise UserError(f"decoder path={name!r}: no such folder, and its download failed") from error
        return path / part if part else path

    def json(self, file: str, part: str | None = None) -> dict[str, Any]:
        """A JSON file of the pipeline, or of one part; from this package for published models whose files it contains.

        Raises:
            UserError: there is no such file.

        """
        name = self.source(part)
        relative = f"{part}/{file}" if part else file
        known = published.read(name, relative)
        if known is not None:
            return known
        location = self.folder(part) / file
        if not location.is_file():
            raise UserError(f"decoder path={name!r} has no {relative}: is it a {self.pipeline} folder?")
        return dict(json.loads(location.read_text()))

    def config(self, part: str) -> dict[str, Any]:
        """The configuration of a network of diffusers; values that its file lacks are the defaults of its class."""
        parameters = inspect.signature(self.part_class(part).__init__).parameters
        defaults = {name: p.default for name, p in parameters.items() if p.default is not p.empty}
        return {**defaults, **self.json("config.json", part)}

    def index(self) -> dict[str, tuple[str, str]]:
        """The pipeline's parts: name to library and class.

        Raises:
            UserError: ``parts`` has a key that is not one of its parts, or a class is of another library: diffusers
                would import it, whatever it is.

        """
        entries = self.json("model_index.json")
        parts = {name: (v[0], v[-1]) for name, v in entries.items() if isinstance(v, list) and v and v[0] is not None}
        for name, (library, class_name) in parts.items():
            self._check_class(name, library, class_name)
        unknown = set(self.parts) - set(parts)
        if unknown:
            raise UserError(f"decoder parts: {self.pipeline} has no part {', '.join(sorted(unknown))}")
        return parts

    def _check_class(self, part: str, library: Any, name: Any) -> None:
        known = library in _LIBRARIES or (
            str(library).isidentifier() and importlib.util.find_spec(f"diffusers.pipelines.{library}") is not None
        )
        if not known or not str(name).isidentifier() or str(name).endswith("Pipeline"):
            reason = f"a class of {' or '.join(_LIBRARIES)} is expected"
            raise UserError(
                f"decoder path={self.path!r}: model_index.json: {part}: '{library}.{name}' is refused: {reason}"
            )

    def part_class(self, part: str) -> Any:
        """The class of a part.

        Raises:
            UserError: a package that it needs is not installed.

        """
        library, name = self.index()[part]
        module = library if library in _LIBRARIES else f"diffusers.pipelines.{library}"
        return _usable(getattr(importlib.import_module(module), name), f"decoder path={self.path!r}: its {part} {name}")

    def pipeline_class(self) -> Any:
        """The class of the pipeline.

        Raises:
            UserError: diffusers has no pipeline of this name, or ``parts`` has a key that is not one of its parts.

        """
        target = diffusers_class(self.pipeline, "pipeline", "DiffusionPipeline")
        known = [name for name in inspect.signature(target.__init__).parameters if name != "self"]
        for part in self.parts:
            if part not in known:
                raise UserError(f"decoder parts: {self.pipeline} has no part {part}{nearest(part, known)}")
        return target

    def empty_part(self, part: str) -> nn.Module | None:
        """A part without weights, on the meta device; ``None`` if it is not a network."""
        part_class = self.part_class(part)
        if not issubclass(part_class, nn.Module):
            return None
        config = self.json("config.json", part)
        with torch.device("meta"):
            if hasattr(
                part_class, "config_class"
            ):  # transformers; diffusers' models build themselves from a dictionary
                network = part_class(part_class.config_class.from_dict(config))
            else:
                network = part_class.from_config(config)
        assert isinstance(network, nn.Module)
        return network

    def parameter_counts(self) -> dict[str, int]:
        """Parameters of every part that is a network; reads no weights."""
        if not self._counts:
            networks = {part: self.empty_part(part) for part in self.index()}
            self._counts = {p: sum(x.numel() for x in n.parameters()) for p, n in networks.items() if n is not None}
        return dict(self._counts)


def _usable(target: Any, what: str) -> Any:
    """A class, unless it stands for one whose packages are not installed; ``what`` names it in the error."""
    packages = getattr(target, "_backends", ())
    missing = [name for name in packages if name in _EXTRAS]
    if missing:
        raise UserError(f"{what} needs {missing[0]}: pip install 'nextgpt-pl[{_EXTRAS[missing[0]]}]'")
    return target


def diffusers_class(name: str, key: str, base: str) -> Any:
    """A class of diffusers by its name.

    Args:
        name: name of the class.
        key: key in the YAML, ``pipeline`` or ``scheduler``.
        base: name of the diffusers class that it must derive from.

    Raises:
        UserError: diffusers has no such class, or a package that it needs is not installed.

    """
    diffusers = importlib.import_module("diffusers")
    try:
        target = getattr(diffusers, str(name), None)
    except (ImportError, RuntimeError) as error:  # dependencies of the class are not installed
        raise UserError(f"decoder {key}={name!r}: {str(error).strip().splitlines()[-1]}") from error
    target = _usable(target, f"decoder {key}={name!r}")
    if inspect.isclass(target) and issubclass(target, getattr(diffusers, base)):
        return target
    example = {"pipeline": "StableDiffusionPipeline", "scheduler": "DDIMScheduler"}[key]
    kind = base.removeprefix("Diffusion").removesuffix("Mixin")
    known = [other for other in dir(diffusers) if other.endswith(kind) and other != base]
    hint = nearest(str(name), known)
    if not hint.startswith("; did you mean"):  # no close match, and hundreds of names to list
        hint = f"; give the name of a class, such as {example}"
    raise UserError(f"decoder {key}={name!r}: diffusers has no such {key}{hint}")
