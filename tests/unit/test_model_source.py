"""Models resolved on the node that loads them: a folder, a snapshot of the hub, or one clear line."""

import socket
from pathlib import Path

import pytest
from huggingface_hub import constants

from rapo_ray.errors import ModelError
from rapo_ray.models.source import ModelSource

pytestmark = pytest.mark.unit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = ("config.json", "model.safetensors", "tokenizer.json")


def fill(folder: Path, names: tuple[str, ...] = FILES) -> Path:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text("{}")
    return folder


def snapshot(cache: Path, names: tuple[str, ...] = FILES) -> Path:
    """A snapshot of org/name as the hub's client lays it out: links to files that are named by content."""
    blobs = fill(cache / "models--org--name" / "blobs", names)
    folder = cache / "models--org--name" / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).symlink_to(blobs / name)
    return folder


def problem(source: ModelSource) -> str:
    with pytest.raises(ModelError) as caught:
        source.on_this_node()
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(f"node {socket.gethostname()}: model ")
    assert text.endswith("; put the model on storage that all nodes share")
    return text


def test_a_folder_that_is_here_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    source = ModelSource.of(Path("model"))
    monkeypatch.chdir("/")  # as an actor elsewhere
    assert source.on_this_node() == tmp_path / "model"
    assert (source.hub_id, source.commit) == (None, None)


def test_a_folder_that_is_elsewhere_or_not_whole_is_one_line(tmp_path: Path) -> None:
    source = ModelSource.of(fill(tmp_path / "model"))
    (tmp_path / "model" / "model.safetensors").unlink()
    assert f"model {tmp_path / 'model'} is not whole" in problem(source)
    (tmp_path / "model").rename(tmp_path / "moved")
    assert f"model {tmp_path / 'model'} is not whole" in problem(source)


def test_a_hub_model_is_taken_from_this_nodes_own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    source = ModelSource.of(snapshot(tmp_path / "driver"))
    assert (source.hub_id, source.commit, source.offline) == ("org/name", COMMIT, True)
    assert source.on_this_node() == tmp_path / "driver" / "models--org--name" / "snapshots" / COMMIT
    (tmp_path / "driver").rename(tmp_path / "gone")
    own = snapshot(tmp_path / "own")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "own"))
    assert source.on_this_node() == own


@pytest.mark.parametrize("names", [None, ("config.json", "tokenizer.json")])
def test_a_hub_model_that_an_offline_node_has_not_or_in_part_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...] | None
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    source = ModelSource.of(snapshot(tmp_path / "driver"))
    (tmp_path / "driver").rename(tmp_path / "gone")
    if names:
        snapshot(tmp_path / "own", names)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "own"))
    assert "model" in problem(source)


def test_files_that_no_node_fetches_need_not_be_elsewhere(tmp_path: Path) -> None:
    folder = snapshot(tmp_path / "hub", (*FILES, "README.md", ".gitattributes"))
    assert ModelSource.of(folder).files == FILES
