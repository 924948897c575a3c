"""Where a model may come from, and what is refused."""

from __future__ import annotations

import hashlib
import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from whet.config import DEFAULT_MODEL
from whet.errors import ModelError, PathError
from whet.models.reference import PINNED, find_model


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def package(parent: Path, name: str, model: Path, inside: str = "weights") -> Path:
    """An importable package that carries a model."""
    folder = parent / name
    shutil.copytree(model, folder / inside)
    (folder / "__init__.py").write_text("")
    importlib.invalidate_caches()
    return folder / inside


def test_a_folder(tiny_bert: Path) -> None:
    found = find_model(str(tiny_bert))
    assert found.folder == tiny_bert
    assert found.reference == str(tiny_bert)
    assert found.sha256 == sha256(tiny_bert / "model.safetensors")
    assert found.pooling is None


def test_a_run_folder_stands_for_its_model(tiny_bert: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_bert, tmp_path / "run" / "model")
    assert find_model(str(tmp_path / "run")).folder == tmp_path / "run" / "model"


def test_an_installed_package(tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = package(tmp_path, "carries_a_model", tiny_bert)
    monkeypatch.syspath_prepend(tmp_path)
    assert find_model("carries-a-model").folder == place
    assert find_model("carries_a_model").sha256 == sha256(tiny_bert / "model.safetensors")


def test_weights_in_several_files_count_all(tiny_bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_bert, folder)
    shutil.copy(folder / "model.safetensors", folder / "model-00002.safetensors")
    before = find_model(str(folder)).sha256
    with (folder / "model-00002.safetensors").open("r+b") as handle:
        handle.seek(-1, os.SEEK_END)
        handle.write(b"\x7f")
    assert find_model(str(folder)).sha256 != before


def test_the_embedded_default_is_the_pinned_one() -> None:
    found = find_model(DEFAULT_MODEL)
    assert found.sha256 == PINNED[DEFAULT_MODEL]["sha256"]
    assert found.licence is not None
    assert "Apache-2.0" in found.licence
    assert found.pooling == "mean"


def test_other_weights_under_the_default_name_are_refused(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(tmp_path, DEFAULT_MODEL.replace("-", "_"), tiny_bert)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError, match="is not the pinned one") as caught:
        find_model(DEFAULT_MODEL)
    assert f"pip install --force-reinstall {DEFAULT_MODEL}==" in str(caught.value)
    assert sha256(tiny_bert / "model.safetensors")[:12] in str(caught.value)


HUB = """
from whet.errors import PathError
from whet.models.reference import find_model

print(find_model("hub:owner/name").folder)
for missing in ("hub:owner/other", "hub:no name at all"):
    try:
        find_model(missing)
    except PathError as error:
        print(error)
"""


def test_hub_models_come_from_the_local_cache(tiny_bert: Path, tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    cached = tmp_path / "models--owner--name"
    shutil.copytree(tiny_bert, cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    told = {**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    made = subprocess.run([sys.executable, "-c", HUB], env=told, capture_output=True, text=True, check=True)
    folder, *errors = made.stdout.splitlines()
    assert Path(folder) == cached / "snapshots" / commit
    assert len(errors) == 2
    for name, error in zip(("hub:owner/other", "hub:no name at all"), errors, strict=True):
        assert error.startswith(f"cannot get {name} (")
        assert error.endswith("Without a network, copy the model into a folder and give that")


@pytest.mark.parametrize("reference", ["owner/name", "no-such-package", "json", "yaml", "os.path", "../nowhere"])
def test_anything_else_is_refused_naming_the_three_forms(reference: str) -> None:
    with pytest.raises(PathError) as caught:
        find_model(reference)
    text = str(caught.value)
    assert repr(reference) in text
    for form in ("a folder", "an installed package", "hub:owner/name"):
        assert form in text.replace("the name of an", "an")


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PathError, match=r"holds no model: it has no config\.json"):
        find_model(str(tmp_path))


def test_weights_that_can_run_code_are_refused(tiny_bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "old"
    shutil.copytree(tiny_bert, folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"holds no \*\.safetensors") as caught:
        find_model(str(folder))
    assert "save_pretrained(folder)" in str(caught.value)


@pytest.mark.parametrize(
    ("key", "pooling"),
    [
        ("pooling_mode_mean_tokens", "mean"),
        ("pooling_mode_cls_token", "cls"),
        ("pooling_mode_max_tokens", "max"),
        ("pooling_mode_lasttoken", "last"),
    ],
)
def test_the_pooling_that_a_model_was_made_for(key: str, pooling: str, tiny_bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_bert, folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(f'{{"word_embedding_dimension": 32, "{key}": true}}')
    assert find_model(str(folder)).pooling == pooling
