"""`rapo train --dry-run` prints the chat format of the model's folder, or one line that says why it cannot be told."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from rapo_ray.__main__ import main
from tests import chat_tokenizers as families
from tests.chat_tokenizers import Family, family, write_folder

pytestmark = pytest.mark.unit

PAPER = ("train", "--config", "paper", "--dry-run")
FORMATS = {
    "qwen3": ("'<think>' .. '</think>', opened by the model; off by enable_thinking=False", "ends in '<|im_end|>'"),
    "deepseek_r1_distill": (
        "'<think>' .. '</think>', opened by the prompt; no switch",
        "ends in '<｜end▁of▁sentence｜>'",
    ),
    "gptoss": ("'<|channel|>analysis<|message|>' .. '<|end|>", "ends in '<|return|>'", "marks are special tokens"),
    "magistral": ("'[THINK]' .. '[/THINK]', opened by the model", "ends in '</s>'", "marks are special tokens"),
    "glm_4_7": ("'<think>' .. '</think>', opened by the prompt; off by", "ends in '<|user|>'"),
    "granite_3_3": ("on by thinking=True; off by default; answer in '<response>' .. '</response>'",),
    "nemotron_nano_v2": ("off by '/no_think' in the system turn",),
    "gemma": ("'<think>' .. '</think>' (not in the template: a warm-up teaches them)", "no system turn"),
}


@pytest.fixture(autouse=True)
def _same_signals_after() -> Iterator[None]:
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def dry_run(model: Family, folder: Path, capsys: pytest.CaptureFixture[str], *settings: str) -> tuple[str, list[str]]:
    """Output and error lines of a dry run of the paper's recipe, whose data are not there."""
    assert main([*PAPER, f"model.path={write_folder(model, folder)}", *settings]) == 1
    shown = capsys.readouterr()
    return shown.out, shown.err.splitlines()


@pytest.mark.parametrize("name", FORMATS)
def test_the_format_is_printed(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = () if name != "gemma" else ("warmup.source=demonstrations", "warmup.recipe=null")
    out, error = dry_run(family(name), tmp_path, capsys, *settings)
    (line,) = [line for line in out.splitlines() if line.startswith("chat format: ")]
    for part in FORMATS[name]:
        assert part in line
    assert f"no memory plan: {tmp_path} has no config.json" in out
    assert len(error) == 1 and "no such file" in error[0], "the recipe's data, read last, are not there"


def test_experts_have_a_format_and_no_memory_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"num_local_experts": 32, "hidden_size": 64}), encoding="utf-8")
    out, error = dry_run(family("gptoss"), tmp_path, capsys)
    assert "chat format: thinking '<|channel|>analysis" in out
    (line,) = [line for line in out.splitlines() if line.startswith("no memory plan: ")]
    assert "mixtures of experts are not counted yet" in line
    assert len(error) == 1


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (families.BASE, "the tokenizer has no chat template (a base model)"),
        (families.REFUSING, "its chat template refuses a user's turn: no turn is right"),
        (families.UNKNOWN_CLOSING, "set model.thinking.open and model.thinking.close"),
        (families.CLOSED, "set model.thinking.template_kwargs to what opens it"),
        (families.family("chatml"), "warmup.source=synthesis teaches it nothing: warm up with demonstrations, or set"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_format_that_cannot_be_told_is_one_line(
    model: Family, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, error = dry_run(model, tmp_path, capsys)
    assert len(error) == 1
    assert error[0].startswith(f"error: {tmp_path}: ")
    assert words in error[0]


def test_settings_take_the_place_of_what_a_template_does_not_show(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    marks = ("model.thinking.open=<ponder>", "model.thinking.close=</ponder>")
    out, error = dry_run(families.UNKNOWN_CLOSING, tmp_path, capsys, *marks)
    assert "chat format: thinking '<ponder>' .. '</ponder>', opened by the prompt" in out
    assert len(error) == 1 and "no such file" in error[0]


def test_a_folder_without_a_tokenizer_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PAPER, f"model.path={tmp_path}"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: the tokenizer in {tmp_path} cannot be read: ")
