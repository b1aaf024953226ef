"""Published models: a folder on disk or an id of the Hugging Face hub, checked by sha256."""

from __future__ import annotations

import hashlib
import importlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from condense_ros.errors import CheckpointError, EnvironmentProblem

#: what is fetched of a model; no pickles, because loading one runs code
_PATTERNS = ("*.json", "*.safetensors", "*.txt", "*.model")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class ModelFolder:
    """A model on disk.

    Attributes:
        path: folder with config.json and *.safetensors.
        name: as it was asked for.
        sha256: of its weights.
        revision: commit of the hub it comes from; empty for a folder.
    """

    path: Path
    name: str
    sha256: str
    revision: str = ""

    @property
    def config(self) -> dict[str, Any]:
        """config.json.

        Raises:
            CheckpointError: missing or no JSON.
        """
        try:
            content = json.loads((self.path / "config.json").read_text())
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"{self.path} has no readable config.json ({error})",
                "give the folder of a model in the layout of transformers",
            ) from None
        return dict(content)

    @property
    def identity(self) -> dict[str, str]:
        """What labels depend on: the weights, wherever they lie."""
        return {"model": str(self.config.get("model_type", "")), "sha256": self.sha256}


def find_model(source: str, *, sha256: str = "", revision: str = "main") -> ModelFolder:
    """A model's folder, downloaded first where `source` is an id of the hub.

    Args:
        source: folder, or an id like "IDEA-Research/grounding-dino-tiny".
        sha256: of the weights, checked where it is not empty.
        revision: branch, tag or commit of the hub; the commit is what is recorded.

    Raises:
        CheckpointError: nothing there, not reachable, no *.safetensors, or another sha256.
        EnvironmentProblem: an id, and huggingface_hub is not installed.
    """
    folder = Path(source)
    found_revision = ""
    if not folder.is_dir():
        folder, found_revision = _download(source, revision)
    digest = _weights_hash(folder)
    check_hash(source, digest, sha256)
    return ModelFolder(folder, source, digest, found_revision)


def check_hash(name: str, digest: str, expected: str) -> None:
    """Refuses weights whose sha256 is not the expected one; nothing is expected of an empty one.

    Raises:
        CheckpointError: another sha256.
    """
    if expected and digest != expected.lower():
        raise CheckpointError(
            f"the weights of {name} have the sha256 {digest}, not {expected}",
            "fetch the model again, or correct the expected sha256",
        )


def _weights_hash(folder: Path) -> str:
    """sha256 of the weights file; of several parts, that of "hash  name" lines in order."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise CheckpointError(
            f"{folder} holds no *.safetensors",
            "give a folder with safetensors weights; pickled ones (.bin, .pth) may run code and "
            "are not loaded",
        )
    digests = [(file_hash(file), file.name) for file in files]
    if len(digests) == 1:
        return digests[0][0]
    lines = "".join(f"{digest}  {name}\n" for digest, name in digests)
    return hashlib.sha256(lines.encode()).hexdigest()


def file_hash(path: Path) -> str:
    """sha256 of a file, 64 hex digits."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _download(source: str, revision: str) -> tuple[Path, str]:
    if not _HUB_ID.fullmatch(source):
        raise CheckpointError(
            f"{source!r} is neither a folder nor an id of the hub",
            "give a folder with config.json and *.safetensors, or an id like owner/name",
        )
    try:
        hub: Any = importlib.import_module("huggingface_hub")
    except ImportError:
        raise EnvironmentProblem(
            f"{source!r} is an id of the hub, and huggingface_hub is not installed",
            "pip install 'condense_ros[labels]', or give a folder",
        ) from None
    try:
        folder = Path(hub.snapshot_download(source, revision=revision, allow_patterns=_PATTERNS))
    except Exception as error:  # many kinds: offline, unknown, gated, interrupted
        reason = str(error).strip().splitlines()
        raise CheckpointError(
            f"{source} cannot be fetched from the hub ({reason[0] if reason else error!r})",
            "check the connection, the name and `hf auth login` for models with a licence to "
            "accept; or copy the model's folder here and give its path",
        ) from error
    # a snapshot's folder is named by its commit
    return folder, folder.name


def load(loader: Any, folder: ModelFolder, **options: Any) -> Any:
    """`from_pretrained` of a folder, without network, pickles or remote code.

    Args:
        loader: a class of transformers.

    Raises:
        CheckpointError: what is in the folder does not make such a model; a weight the model needs
            is missing counts too.
    """
    try:
        loaded = loader.from_pretrained(folder.path, local_files_only=True, **options)
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise CheckpointError(
            f"{folder.name} cannot be loaded as {loader.__name__} "
            f"({type(error).__name__}: {reason[0] if reason else ''})",
            "use a model of the kind that the documentation names",
        ) from error
    return loaded


def load_network(loader: Any, folder: ModelFolder, device: str, dtype: Any) -> Any:
    """A network in eval mode, with every weight from the file.

    Raises:
        CheckpointError: as `load`, and where weights are missing and would stay random.
    """
    network, report = load(
        loader,
        folder,
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
        dtype=dtype,
    )
    missing = sorted(report.get("missing_keys", ()))
    if missing:
        raise CheckpointError(
            f"{folder.name} lacks {len(missing)} weights of {type(network).__name__}, "
            f"for example {missing[0]}",
            "use weights of this very architecture",
        )
    return network.to(device).eval()
