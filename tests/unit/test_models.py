import dataclasses
import hashlib
import multiprocessing
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from rapo_ray.errors import ModelError
from rapo_ray.models import embedded as models
from rapo_ray.models.embedded import EMBEDDED, Embedded
from rapo_ray.models.resolve import cache_root, local_model, resolve_model

pytestmark = pytest.mark.unit

NAME = "smollm2-135m"
SPEC = f"embedded:{NAME}"


def fill(folder: Path, *, but: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if name != but:
            (folder / name).write_text("{}")
    return folder


def message(spec: str, **options: object) -> str:
    with pytest.raises(ModelError) as caught:
        resolve_model(spec, **options)  # type: ignore[arg-type]
    text = str(caught.value)
    assert "\n" not in text
    return text


# --- folders and hub ids


def test_whole_folder_is_returned(tmp_path: Path) -> None:
    assert resolve_model(str(fill(tmp_path / "model"))) == tmp_path / "model"


def run_with_model(folder: Path) -> Path:
    """A run's folder, as far as a model's name is concerned."""
    fill(folder / "model")
    (folder / "config.yaml").write_text("name: X\n")
    return folder


def test_a_run_stands_for_its_model(tmp_path: Path) -> None:
    run = run_with_model(tmp_path / "X")
    assert resolve_model(str(run)) == local_model(str(run)) == run / "model"
    shutil.rmtree(run / "model")
    assert "this run has no model yet; finish it" in message(str(run))


@pytest.mark.parametrize("place", ["checkpoints", "checkpoints/round-000004", "checkpoints/round-000004/policy"])
def test_a_checkpoint_is_told_from_a_model(place: str, tmp_path: Path) -> None:
    run = run_with_model(tmp_path / "X")
    (run / place).mkdir(parents=True)
    assert f"a checkpoint only resumes its run; give the run's folder {run}" in message(str(run / place))


@pytest.mark.parametrize("spec", ["gone", "./gone", "/gone/too", "a/b/c", "~nobody/x"])
def test_a_model_that_is_nowhere_is_refused_by_a_dry_run_too(spec: str) -> None:
    assert "no such folder" in message(spec)
    with pytest.raises(ModelError, match="no such folder"):
        local_model(spec)


@pytest.mark.parametrize(
    ("but", "named"),
    [("config.json", "config.json"), ("model.safetensors", "*.safetensors"), ("tokenizer.json", "tokenizer")],
)
def test_folder_names_what_is_missing(tmp_path: Path, but: str, named: str) -> None:
    text = message(str(fill(tmp_path / "model", but=but)))
    assert str(tmp_path / "model") in text
    assert named in text.split("missing ", 1)[1]


@pytest.mark.parametrize("spec", ["/no/such/folder", "./nothing", "bare-name", "", "../a/b/c", "a/b/c"])
def test_neither_folder_nor_hub_id(spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path / "")
    if spec:
        assert "no such folder" in message(spec)
    else:
        assert "missing" in message(spec)  # the current folder, which is empty


def test_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "weights.gguf").write_text("x")
    assert "no such folder" in message(str(tmp_path / "weights.gguf"))


def test_hub_id_offline_and_not_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    text = message("some-org/no-such-model", revision="abc")
    assert "some-org/no-such-model" in text
    assert "abc" in text
    assert "HF_HUB_OFFLINE" in text


def test_hub_failure_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def refuse(*_: object, **__: object) -> str:
        raise RuntimeError("\n404 not found\nsecond line")

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    assert message("some-org/model").endswith("the hub did not give it: 404 not found")


def test_hub_snapshot_is_checked_and_asks_for_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    request: dict[str, object] = {}

    def give(repo: str, **options: object) -> str:
        request.update(options, repo=repo)
        return str(tmp_path / "snapshot")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", give)
    fill(tmp_path / "snapshot", but="model.safetensors")
    assert "*.safetensors" in message("some-org/model")
    fill(tmp_path / "snapshot")
    assert resolve_model("some-org/model", revision="v2") == tmp_path / "snapshot"
    assert (request["repo"], request["revision"]) == ("some-org/model", "v2")
    patterns = request["allow_patterns"]
    assert isinstance(patterns, list)
    assert not any("py" in pattern or "bin" in pattern for pattern in patterns)


@pytest.mark.parametrize("spec", [SPEC, "."])
def test_revision_only_for_hub_ids(spec: str) -> None:
    assert "revision 'main'" in message(spec, revision="main")


# --- embedded, with the download and the conversion replaced


def test_unknown_embedded_names_the_known(tmp_path: Path) -> None:
    text = message("embedded:nothing", cache_dir=tmp_path)
    assert "embedded:nothing" in text
    assert SPEC in text
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Embedded:
    """Make `embedded:smollm2-135m` a wheel written by this test and converted by `fill`."""
    wheel = tmp_path / "index" / "fake-1-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("pkg/model.gguf", b"GGUF")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    entry = dataclasses.replace(EMBEDDED[NAME], wheel_sha256=digest, member="pkg/model.gguf")

    def download(_: Embedded, folder: Path) -> Path:
        folder.mkdir(parents=True)
        return wheel.rename(folder / wheel.name) if not (folder / wheel.name).exists() else folder / wheel.name

    def convert(_: str, gguf: Path, out: Path) -> None:
        assert gguf.read_bytes() == b"GGUF"
        fill(out)

    monkeypatch.setattr(models, "EMBEDDED", {NAME: entry})
    monkeypatch.setattr(models, "_download_wheel", download)
    monkeypatch.setattr(models, "_convert_in_subprocess", convert)
    return entry


def published(cache: Path) -> list[str]:
    return [path.name for path in (cache / "models").iterdir() if path.suffix != ".lock"]


def test_embedded_is_published_once(fake: Embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    folder = resolve_model(SPEC, cache_dir=cache)
    assert published(cache) == [f"{NAME}-{fake.wheel_sha256[:12]}"]
    assert (folder / models.MARKER).is_file()
    monkeypatch.setattr(models, "_build", lambda *_: pytest.fail("built twice"))
    assert resolve_model(SPEC, cache_dir=cache) == folder


def test_folder_without_marker_or_cut_short_is_rebuilt(
    fake: Embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = resolve_model(SPEC, cache_dir=tmp_path)
    (folder / "model.safetensors").write_text("")  # shorter than the marker says
    built: list[str] = []
    monkeypatch.setattr(models, "_build", lambda name, *_: built.append(name))
    resolve_model(SPEC, cache_dir=tmp_path)
    (folder / models.MARKER).unlink()
    resolve_model(SPEC, cache_dir=tmp_path)
    assert built == [NAME, NAME]


@pytest.mark.parametrize("change", [{"wheel_sha256": "0" * 64}, {"member": "../outside.gguf"}, {"member": "pkg/other"}])
def test_wrong_wheel_leaves_nothing(
    change: dict[str, str], fake: Embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "EMBEDDED", {NAME: dataclasses.replace(fake, **change)})  # type: ignore[arg-type]
    text = message(SPEC, cache_dir=tmp_path / "cache")
    assert ("sha256" if "wheel_sha256" in change else "cannot read") in text
    assert published(tmp_path / "cache") == []


def test_failed_conversion_leaves_nothing(fake: Embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_convert_in_subprocess", lambda _n, _g, out: fill(out, but="config.json"))
    assert "config.json" in message(SPEC, cache_dir=tmp_path)
    assert published(tmp_path) == []


def test_left_over_of_a_killed_process_is_cleared(fake: Embedded, tmp_path: Path) -> None:
    fill(tmp_path / "models" / f".{NAME}-{fake.wheel_sha256[:12]}.partial" / "model")
    assert resolve_model(SPEC, cache_dir=tmp_path).is_dir()
    assert published(tmp_path) == [f"{NAME}-{fake.wheel_sha256[:12]}"]


def test_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file in the way")
    assert "cannot write" in message(SPEC, cache_dir=tmp_path)


def test_failed_download_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess(
        ["pip"], 1, "", "WARNING: x\nERROR: No matching distribution\n\n[notice] new pip\n"
    )
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    assert "ERROR: No matching distribution" in message(SPEC, cache_dir=tmp_path)
    assert published(tmp_path) == []


def _hold(path: str, ready: object) -> None:
    with models._locked(Path(path)):
        ready.set()  # type: ignore[attr-defined]
        time.sleep(1.0)


def test_lock_keeps_the_second_process_waiting(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    path = tmp_path / "lock"
    other = context.Process(target=_hold, args=(str(path), ready))
    other.start()
    assert ready.wait(10)
    started = time.monotonic()
    with models._locked(path):
        waited = time.monotonic() - started
    other.join()
    assert waited > 0.5


# --- the rest


def test_cache_root_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAPO_CACHE", "/own")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_root() == Path("/own")
    monkeypatch.delenv("RAPO_CACHE")
    assert cache_root() == Path("/xdg/rapo_ray")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_root() == Path.home() / ".cache" / "rapo_ray"


def test_import_and_cached_call_load_nothing_heavy(tmp_path: Path) -> None:
    fill(tmp_path / "model")
    code = (
        "import sys; from rapo_ray.models.resolve import resolve_model; resolve_model(sys.argv[1]); "
        "print([m for m in ('torch', 'transformers', 'huggingface_hub', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model")], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
