"""Where model files are: a folder on this machine, or a model on the Hugging Face hub, fetched into its client's cache.

``HF_HUB_OFFLINE``, ``HF_HOME`` and ``HF_TOKEN`` work as everywhere; nothing is fetched that is not asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from melody.errors import MelodyError

EVERYTHING = ("*.safetensors", "*.json", "*.md")
"""What a whole pipeline needs of a repository."""


def local_folder(
    source: str | Path,
    patterns: Sequence[str] = EVERYTHING,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
) -> Path:
    """The folder ``source``, or the local copy of the hub's model ``OWNER/NAME`` or ``OWNER/NAME@REVISION``.

    Args:
        patterns: which files of the repository are fetched.
        revision: branch, tag or commit; token, cache_dir, force_download, local_files_only: as ``snapshot_download``
            of huggingface_hub takes them.
    Raises:
        MelodyError: no such folder or model, no access to it, or no network.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise MelodyError(
            f"{path} is a file, expected a folder with model files (a checkpoint of training: melody export {path})"
        )
    repository, _, inline = str(source).partition("@")
    if not _is_repository(repository):
        raise MelodyError(f"there is no folder {source}; expected a folder with model files, or a hub id OWNER/NAME")
    import huggingface_hub

    wanted = revision or inline or None
    try:
        return Path(
            huggingface_hub.snapshot_download(
                repository,
                revision=wanted,
                token=token,
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only,
                allow_patterns=list(patterns),
                library_name="melody-toolkit",
            )
        )
    except Exception as error:  # the hub's and its transport's own classes, which share no base
        reason = _reason(error, wanted, local_files_only)
        raise MelodyError(f"no folder {repository!r} is here, and from the hub it cannot be had: {reason}") from None


def _is_repository(text: str) -> bool:
    """Whether it is spelt as ``OWNER/NAME``: a name alone is rather a folder that is missing."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(text)
    except HFValidationError:
        return False
    return text.count("/") == 1


def _reason(error: Exception, revision: str | None, local_files_only: bool) -> str:
    from huggingface_hub import constants, errors

    if isinstance(error, errors.GatedRepoError):
        return "its owner must grant you access first, then log in (hf auth login) or give a token"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "there is no such model, or it is private: log in (hf auth login) or give a token"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"it has no revision {revision!r}"
    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        if local_files_only or constants.HF_HUB_OFFLINE:
            cause = "local_files_only" if local_files_only else "HF_HUB_OFFLINE"
            return f"it is not in the local cache, and {cause} forbids the network"
        return "the hub cannot be reached, and it is not in the local cache; look at the network"
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
