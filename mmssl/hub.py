"""The Hugging Face hub, for who is online: an exported folder there, and back. Nothing here runs unless it is called.

Only text, JSON, YAML and safetensors come back: a pickle can run code as it is read, and so can a `torch.export` program.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mmssl.exported import foreign, is_exported
from mmssl.types import InputError

# What `push` sends and what `pull` fetches; a .pt2 is sent for others, never fetched.
READ = ("*.json", "*.yaml", "*.md", "*.txt", "*.safetensors", "*.onnx", "*.onnx.data", "LICENSE*")
SENT = (*READ, "*.pt2")


def push(
    folder: Path | str, repo_id: str, *, private: bool = True, revision: str | None = None, message: str | None = None
) -> str:
    """Send an exported folder to the hub and return its address. Makes the repository where there is none.

    Args:
        folder: what `mmssl export` wrote. Files of other kinds in it are refused, so that nothing goes out unseen.
        repo_id: "user/name".
        private: only for a repository that is made now; one that exists stays as it is.
        revision: branch; None: the main one.
        message: of the commit.

    Raises:
        InputError: no exported folder, a file that does not belong there, offline, or the hub refuses (no token, no right).
    """
    folder = Path(folder)
    if not is_exported(folder):
        raise InputError(f"{folder} is no exported model; `mmssl export RUN {folder}` makes one")
    strange = [p.relative_to(folder) for p in sorted(folder.rglob("*")) if p.is_file() and not any(map(p.match, SENT))]
    if strange:
        raise InputError(f"{folder} holds {', '.join(map(str, strange[:3]))}, which `mmssl export` did not write; move it away")
    from huggingface_hub import HfApi

    with _reasons(f"{folder} cannot be sent to {repo_id}", "`hf auth login` gives a token that may write"):
        api = HfApi()
        made = api.create_repo(repo_id, private=private, exist_ok=True, repo_type="model")
        api.upload_folder(
            folder_path=folder,
            repo_id=made.repo_id,
            revision=revision,
            commit_message=message or "Export of mmssl",
            allow_patterns=list(SENT),
        )
        return str(made)


def pull(repo_id: str, *, revision: str | None = None, modules: Sequence[str] = ()) -> Path:
    """Fetch an exported model from the hub (or find it in the hub's cache) and return its folder, for `mmssl.from_pretrained`.

    Args:
        repo_id: "user/name".
        revision: branch, tag or commit; None: the main branch. A commit is the only name whose content cannot change.
        modules: packages of your own whose encoders and objectives the model may name. Any other is refused, because to load the
            model would import it.

    Raises:
        InputError: offline and not in the cache, no such model, no exported model, or one that asks for more than mmssl.
    """
    from huggingface_hub import snapshot_download

    with _reasons(f"{repo_id} cannot be fetched", "check the name; a private one needs `hf auth login`"):
        folder = Path(snapshot_download(repo_id, revision=revision, allow_patterns=list(READ)))
    if not is_exported(folder):
        raise InputError(
            f"{repo_id} is no model that `mmssl export` wrote: it has no export.json; load it with the library that made it"
        )
    more = foreign(folder, modules)
    if more:
        raise InputError(
            f"{repo_id} asks for {', '.join(more)}, which is no part of mmssl; look at it first, then name the package in modules=(...), "
            f"or load the folder {folder} itself"
        )
    return folder


@contextmanager
def _reasons(what: str, otherwise: str) -> Iterator[None]:
    """What the hub's library raises, as one sentence with the next move."""
    import httpx
    from huggingface_hub import is_offline_mode
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        yield
    except (OfflineModeIsEnabled, LocalEntryNotFoundError, ConnectionError, TimeoutError, httpx.TransportError) as error:
        move = "unset HF_HUB_OFFLINE, which forbids it" if is_offline_mode() else "go online"
        raise InputError(f"{what}: the hub is out of reach; {move}, or use a folder on this machine") from error
    except (HfHubHTTPError, OSError) as error:
        raise InputError(f"{what} ({_first(error)}); {otherwise}") from error
    except ValueError as error:  # a name that is none
        raise InputError(f"{what}: {_first(error)}") from error


def _first(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
