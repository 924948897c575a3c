"""An adapter on the disk, as peft loads it, and the model that it stands beside, found again and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from torch import nn

from whet.errors import ModelError, PathError
from whet.models.adapters import FAILURES, NAME, Adapted, Prompted, first_line, transformer_of
from whet.models.heads import Pooled
from whet.models.quiet import quiet_libraries
from whet.models.reference import ModelFolder, find_model
from whet.plan.base import Value
from whet.plan.edits import QuantizeBody

WEIGHTS = "adapter_model.safetensors"


class Base(Value):
    """The pretrained model that an adapter belongs to: how it is named, the SHA-256 of its weights, and how its body
    was rounded, if it was."""

    reference: str
    sha256: str
    quantized: QuantizeBody | None = None

    @staticmethod
    def of(source: ModelFolder, quantized: QuantizeBody | None) -> Base:
        """A folder is named by its absolute path: the adapter may be used from elsewhere."""
        path = Path(source.reference)
        reference = str(path.resolve()) if path.exists() else source.reference
        return Base(reference=reference, sha256=source.sha256, quantized=quantized)

    def find(self, folder: Path) -> ModelFolder:
        """The model, as it was. Raises `ModelError` where it is gone or another; `folder` is the adapter's."""
        own = f"{folder} holds an adapter of the model {self.reference}"
        try:
            found = find_model(self.reference)
        except PathError as error:
            raise ModelError(
                f"{own}, which is not there any more ({error}). Put it back in its place; a result that needs no other "
                "model is made with lora(merge=True)"
            ) from error
        if found.sha256 != self.sha256:
            raise ModelError(
                f"{own} with weights {self.sha256[:12]}, but those there now are {found.sha256[:12]}: the adapter was "
                "not trained on them. Put the right ones back"
            )
        return found


def base_of(facts: dict[str, Any], folder: Path) -> Base | None:
    """The base that head.json names; None for a result that stands alone. Raises `ModelError` where it is torn."""
    if "base" not in facts:
        return None
    try:
        return Base.model_validate(facts.pop("base"))
    except ValidationError as error:
        raise ModelError(f"{folder / 'head.json'} does not say which model its adapter belongs to: {error}") from error


def save_adapter(adapted: Adapted, source: ModelFolder, folder: Path) -> None:
    """Write adapter_config.json and adapter_model.safetensors, as peft does."""
    config = adapted.peft.peft_config[NAME]
    # A model of the hub goes by its name there, any other by the folder that it was loaded from.
    hub = source.reference.startswith("hub:")
    config.base_model_name_or_path = source.reference.removeprefix("hub:") if hub else str(source.folder.resolve())
    if not config.is_prompt_learning:
        # peft shortens the names to endings that suit this model; a plain one may hold more layers that end so.
        config.target_modules = sorted(adapted.peft.base_model.targeted_module_names)
    with quiet_libraries():
        adapted.peft.save_pretrained(folder, save_embedding_layers=False)


def load_adapter(model: nn.Module, folder: Path) -> nn.Module:
    """The model with the adapter that `save_adapter` wrote, a native head included.

    Raises `ModelError` where the files do not fit the model, or lack a weight.
    """
    from peft import PeftModel, get_peft_model_state_dict

    try:
        with quiet_libraries():
            wrapper = PeftModel.from_pretrained(transformer_of(model), folder)
            needed = set(get_peft_model_state_dict(wrapper, save_embedding_layers=False))
        with safe_open(folder / WEIGHTS, "pt") as file:
            found = set(file.keys())
    except (OSError, SafetensorError, *FAILURES) as error:
        raise ModelError(f"cannot load the adapter in {folder}: {first_line(error)}") from error
    if needed != found:
        wrong = sorted(needed ^ found)
        raise ModelError(f"the adapter in {folder} does not fit its model: {', '.join(wrong[:3])} is on one side alone")
    if wrapper.peft_config[NAME].is_prompt_learning:
        assert isinstance(model, Pooled)
        return Prompted(model, wrapper)
    return model
