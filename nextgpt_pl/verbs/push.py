"""``push``: upload a run to the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nextgpt_pl.errors import UserError
from nextgpt_pl.verbs.command import call


def push(run: Path, repo: str, out: Path | None = None, private: bool = False) -> Path:
    """Upload a run's adapter, configuration and model card, for ``AnyToAny.from_pretrained`` and transformers.

    Args:
        run: folder of a run or of an import.
        repo: name on the hub, ``user/name``.
        out: write the files to this folder and upload nothing.
        private: create a private repository, if it does not exist yet.

    Returns:
        The folder that was, or would have been, uploaded.

    Raises:
        UserError: the run is incomplete, or the upload fails.

    """
    from nextgpt_pl.verbs.hub_folder import write_folder

    if repo.count("/") != 1 or not all(repo.split("/")):
        raise UserError(f"--repo {repo}: expected user/name")
    folder = out or run / "hub"
    write_folder(run, folder, repo)
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {', '.join(files)}")
    if out is None:
        print(_upload(folder, repo, private, f"Adapter of {run.name}"))
    return folder


def _upload(folder: Path, repo: str, private: bool, message: str) -> str:
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        api.create_repo(repo, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message))
    except OSError as error:  # the base class of the hub's errors, such as a missing login or network
        raise UserError(f"--repo {repo}: {str(error).splitlines()[0]} (the files to upload are in {folder})") from error


def main(argv: Sequence[str]) -> int:
    """Parse and run ``push``."""
    call(push, argv, positional=["run"])
    return 0
