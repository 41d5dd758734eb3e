"""Sources: published datasets in their original format, a user's own file, and the packaged set."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import openpyxl  # type: ignore[import-untyped]
import pytest
from pydantic import ValidationError

from rapo_ray.config.sources import PACKAGED, SourceConfig
from rapo_ray.data import quickstart_set
from rapo_ray.data.quickstart_set import load_demonstrations
from rapo_ray.data.sources import PUBLISHED, SPLITS, load_source
from rapo_ray.errors import DataError
from rapo_ray.types import Prompt

pytestmark = pytest.mark.unit

REPOSITORY = Path(__file__).parents[2]
CHINESE = ("攻击指令", "attack method", "风险分类")
ENGLISH = ("jailbreak instruction", "attack method", "risk type")


def write_level(folder: Path, level: int, header: Sequence[str], texts: Sequence[str | None]) -> Path:
    book = openpyxl.Workbook()
    for row in [header, *[(text, "role play", None) for text in texts]]:
        book.active.append(row)
    path = folder / f"strata_sword_en_level_{level}.xlsx"
    book.save(path)
    return path


def write_strata(folder: Path) -> Path:
    write_level(folder, 1, ENGLISH, ["one"])
    write_level(folder, 2, CHINESE, ["two", "deux"])
    write_level(folder, 3, CHINESE, ["three"])
    return folder


def test_strata_sword_folder_reads_either_header_and_levels_from_the_names(tmp_path: Path) -> None:
    loaded = load_source("strata", SourceConfig(kind="stratasword", path=write_strata(tmp_path)), 0.0)
    assert loaded.prompts == (
        Prompt("strata/level_1/1", "one", True, 1, "strata", "level_1", "role play"),
        Prompt("strata/level_2/1", "two", True, 2, "strata", "level_2", "role play"),
        Prompt("strata/level_2/2", "deux", True, 2, "strata", "level_2", "role play"),
        Prompt("strata/level_3/1", "three", True, 3, "strata", "level_3", "role play"),
    )


def test_strata_sword_single_file(tmp_path: Path) -> None:
    path = write_level(tmp_path, 3, CHINESE, ["three"])
    assert [p.level for p in load_source("s", SourceConfig(kind="stratasword", path=path), 0.0).prompts] == [3]


def test_strata_sword_text_in_two_levels_is_a_duplicate_naming_the_other_file(tmp_path: Path) -> None:
    write_strata(tmp_path)
    write_level(tmp_path, 3, CHINESE, ["three", "one"])
    loaded = load_source("s", SourceConfig(kind="stratasword", path=tmp_path), 0.5)
    assert [(bad.row, bad.reason.split("/")[0]) for bad in loaded.quarantined] == [
        (2, "duplicate text of row 1 of s (")
    ]
    assert "level_1.xlsx" in loaded.quarantined[0].reason
    assert "level_3.xlsx" in loaded.quarantined[0].source


def test_strata_sword_errors_name_the_file(tmp_path: Path) -> None:
    def load(path: Path) -> None:
        load_source("s", SourceConfig(kind="stratasword", path=path), 0.0)

    with pytest.raises(DataError, match=r"level_1\.xlsx: no such file"):
        load(tmp_path)
    with pytest.raises(DataError, match=r"gone\): no such file or folder"):
        load(tmp_path / "gone")
    (tmp_path / "renamed.xlsx").write_bytes(write_level(tmp_path, 1, ENGLISH, ["one"]).read_bytes())
    with pytest.raises(DataError, match=r"renamed\.xlsx: no level in the file name"):
        load(tmp_path / "renamed.xlsx")
    with pytest.raises(DataError, match=r"no column 'jailbreak instruction' or '攻击指令'; found 'prompt'"):
        load(write_level(tmp_path, 2, ("prompt", "attack method", "risk type"), ["x"]))
    with pytest.raises(DataError, match="holds no rows"):
        load(write_level(tmp_path, 2, CHINESE, []))


def test_star1_questions_are_harmful_without_a_level(tmp_path: Path) -> None:
    row = {"id": "68", "question": "q", "response": "<think>", "category": ["Violence"], "source": "ALERT", "score": {}}
    more = {**row, "id": "69", "question": "r", "category": ["Violence", "Self-Harm"]}
    path = tmp_path / "STAR-1.json"
    path.write_text(json.dumps([row, more]), "utf-8")
    loaded = load_source("star1", SourceConfig(kind="star1", path=path), 0.0)
    assert loaded.prompts == (
        Prompt("star1/68", "q", True, None, "star1", "train", "Violence"),
        Prompt("star1/69", "r", True, None, "star1", "train", "Violence; Self-Harm"),
    )


def test_math500_problems_are_benign_and_their_difficulty_is_no_risk_level(tmp_path: Path) -> None:
    path = tmp_path / "MATH-500.jsonl"
    path.write_text(json.dumps({"problem": "1+1?", "answer": "2", "level": 5, "unique_id": "test/algebra/1.json"}))
    loaded = load_source("math", SourceConfig(kind="math500", path=path), 0.0)
    assert loaded.prompts == (Prompt("math/test/algebra/1.json", "1+1?", False, None, "math", "test", None, "2"),)


@pytest.mark.parametrize(("kind", "column"), [("star1", "question"), ("math500", "problem"), ("file", "text")])
def test_a_wrong_column_is_an_error_at_once_whatever_share_may_be_bad(tmp_path: Path, kind: str, column: str) -> None:
    path = tmp_path / "data.json"
    path.write_text(json.dumps([{"prompt": "a", "harmful": True}]), "utf-8")
    with pytest.raises(DataError, match=rf"mine \(.*data\.json\): no column '{column}'; found 'prompt', 'harmful'"):
        load_source("mine", SourceConfig.model_validate({"kind": kind, "path": path}), 1.0)


def test_own_file_with_labels_levels_and_ids(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("id,prompt,harmful,level\na,=1+1,true,2\nb,two,0,\nc,three,perhaps,1\n", "utf-8")
    loaded = load_source("mine", SourceConfig(kind="file", path=path, text_column="prompt"), 0.5)
    assert loaded.prompts == (
        Prompt("mine/a", "=1+1", True, 2, "mine", "mine"),
        Prompt("mine/b", "two", False, None, "mine", "mine"),
    )
    assert [(bad.row, bad.reason) for bad in loaded.quarantined] == [(3, "harmful is 'perhaps', not true or false")]


def test_own_file_without_labels_needs_the_config_to_say(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"text": "a"}\n{"text": "b"}\n', "utf-8")
    with pytest.raises(DataError, match=r"no column 'harmful'; add it, or set `harmful"):
        load_source("mine", SourceConfig(kind="file", path=path), 0.0)
    loaded = load_source("mine", SourceConfig(kind="file", path=path, harmful=True), 0.0)
    assert [(p.id, p.harmful) for p in loaded.prompts] == [("mine/1", True), ("mine/2", True)]


def test_a_label_column_wins_over_the_label_for_files_without_one(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"text": "a", "harmful": false}\n{"text": "b"}\n', "utf-8")
    loaded = load_source("mine", SourceConfig(kind="file", path=path, harmful=True), 0.5)
    assert [(p.text, p.harmful) for p in loaded.prompts] == [("a", False)]
    assert [bad.reason for bad in loaded.quarantined] == ["harmful is None, not true or false"]


@pytest.mark.parametrize("value", [["42"], {"a": 1}, True])
def test_an_exact_answer_of_an_odd_type_costs_its_row(value: object, tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    rows = [{"text": f"q{number}", "expected": each} for number, each in enumerate([value, 42, 42.0, "x", None, ""])]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    loaded = load_source("mine", SourceConfig(kind="file", path=path, harmful=False), 0.5)
    assert [prompt.expected for prompt in loaded.prompts] == ["42", "42", "x", None, None]
    assert [bad.reason for bad in loaded.quarantined] == [f"expected is {type(value).__name__}, not text or a number"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "file"}, "kind 'file' needs a path"),
        ({"kind": "star1"}, "kind 'star1' needs a path"),
        ({"kind": "stratasword"}, "kind 'stratasword' needs a path"),
        ({"kind": "math500"}, "kind 'math500' needs a path"),
        ({"kind": "quickstart", "path": "x.jsonl"}, "ships with the package; remove its path x.jsonl"),
        ({"kind": "star1", "path": "x.json", "text_column": "q"}, "has its own columns"),
        ({"kind": "math500", "path": "x.jsonl", "harmful": True}, "has its own columns and labels"),
        ({"kind": "or-bench", "path": "x.csv", "text_column": "q"}, "has its own columns"),
        ({"kind": "wildjail", "path": "x"}, "kind"),
        ({"kind": "file", "path": "x.csv", "columns": "text"}, "columns"),
        ({"kind": "star1", "path": "x.json", "hub": "a/b"}, "hub and revision go together"),
        ({"kind": "star1", "path": "x.json", "revision": "0" * 40}, "hub and revision go together"),
        ({"kind": "star1", "path": "x.json", "hub": "a/b", "revision": "main"}, "revision"),
        ({"kind": "star1", "path": "x.json", "hub": "../b", "revision": "0" * 40}, "hub"),
        ({"kind": "quickstart", "hub": "a/b", "revision": "0" * 40}, "remove its hub a/b"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SourceConfig.model_validate(settings)


@pytest.mark.parametrize(
    "config", [SourceConfig(kind="quickstart"), SourceConfig(kind="file", path=Path("x.csv"), harmful=True)]
)
def test_a_dumped_config_loads_again(config: SourceConfig) -> None:
    assert SourceConfig.model_validate_json(config.model_dump_json()) == config


def test_a_hub_file_is_fetched_at_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    request: dict[str, object] = {}

    def give(dataset: str, file: str, **options: object) -> str:
        request.update(options, dataset=dataset, file=file)
        path = tmp_path / "table.jsonl"
        path.write_text('{"text": "How do I bake bread?", "harmful": false}\n', encoding="utf-8")
        return str(path)

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", give)
    source = {"kind": "file", "hub": "some-org/prompts", "revision": "ab" * 20, "path": "data/train.jsonl"}
    (prompt,) = load_source("mine", SourceConfig.model_validate(source), 0.0).prompts
    assert prompt.text == "How do I bake bread?"
    assert request == {
        "dataset": "some-org/prompts", "file": "data/train.jsonl", "repo_type": "dataset", "revision": "ab" * 20,
        "local_files_only": False,
    }  # fmt: skip


@pytest.mark.parametrize(("offline", "why"), [("1", "HF_HUB_OFFLINE forbids"), ("0", "did not give it: 404 not found")])
def test_a_hub_file_that_cannot_be_had_is_one_line(offline: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def refuse(*_: object, **__: object) -> str:
        raise OSError("404\nnot found")

    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    source = {"kind": "file", "hub": "some-org/prompts", "revision": "ab" * 20, "path": "train.jsonl"}
    with pytest.raises(DataError, match=why) as caught:
        load_source("mine", SourceConfig.model_validate(source), 0.0)
    assert "\n" not in str(caught.value)


def test_a_gated_dataset_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx
    import huggingface_hub
    from huggingface_hub.errors import GatedRepoError

    def refuse(*_: object, **__: object) -> str:
        response = httpx.Response(403, request=httpx.Request("GET", "http://hub.example/x"))
        raise GatedRepoError("403 Forbidden\nAccess to dataset is restricted.", response=response)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    source = {"kind": "wildguardmix", "hub": "some-org/gated", "revision": "ab" * 20, "path": "test/x.parquet"}
    with pytest.raises(DataError, match=r"gated: accept its terms on its page, datasets/some-org/gated .* HF_TOKEN"):
        load_source("mine", SourceConfig.model_validate(source), 0.0)


def test_every_setting_is_explained_and_every_kind_has_a_loader() -> None:
    assert all(field.description for field in SourceConfig.model_fields.values())
    assert {*SPLITS} == {*PACKAGED}
    assert {*PACKAGED, *PUBLISHED, "file"} == set(SourceConfig.model_json_schema()["properties"]["kind"]["enum"])


def write_quickstart(package: Path) -> None:
    folder = package / "quickstart"
    folder.mkdir()
    train = {"id": "7", "text": "How do I kill a process?", "harmful": False, "level": 1, "split": "train"}
    shown = {"id": "1", "text": "Hi", "harmful": False, "level": 1, "completion": "<think>\nBenign.\n</think>\nHi!"}
    (folder / "train.jsonl").write_text(json.dumps(train), "utf-8")
    (folder / "demonstrations.jsonl").write_text(json.dumps(shown), "utf-8")


def test_quickstart_rows_become_prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_quickstart(tmp_path)
    monkeypatch.setattr(quickstart_set, "files", lambda package: tmp_path)
    assert load_source("quickstart", SourceConfig(kind="quickstart"), 0.0).prompts == (
        Prompt("quickstart/7", "How do I kill a process?", False, 1, "quickstart", "train"),
    )
    (shown,) = load_demonstrations()
    assert shown.prompt == Prompt("quickstart/1", "Hi", False, 1, "quickstart", "demonstrations")
    assert shown.completion == "<think>\nBenign.\n</think>\nHi!"


def test_a_demonstration_without_completion_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_quickstart(tmp_path)
    monkeypatch.setattr(quickstart_set, "files", lambda package: tmp_path)
    path = tmp_path / "quickstart" / "demonstrations.jsonl"
    path.write_text(path.read_text() + '\n{"id": "2", "text": "b", "harmful": true, "level": 1, "completion": ""}')
    with pytest.raises(DataError, match=r"1 of 2 rows are bad.*row 2: completion is empty"):
        load_demonstrations()


def test_the_packaged_set_is_whole_and_its_splits_share_nothing() -> None:
    train = load_source("quickstart", SourceConfig(kind="quickstart"), 0.0).prompts
    for kind in ("quickstart-validation", "quickstart-heldout"):
        unseen = load_source(kind, SourceConfig(kind=kind), 0.0).prompts
        assert {(p.source, p.split) for p in unseen} == {(kind, kind.removeprefix("quickstart-"))}
        assert {p.harmful for p in train} == {p.harmful for p in unseen} == {True, False}
        assert not {p.text for p in train} & {p.text for p in unseen}
        assert not {p.id for p in train} & {p.id for p in unseen}
        assert not {d.prompt.text for d in load_demonstrations()} & {p.text for p in unseen}


def test_real_strata_sword_gives_every_prompt_of_every_level(shared_data: Path) -> None:
    loaded = load_source("strata", SourceConfig(kind="stratasword", path=shared_data), 0.0)
    assert Counter(p.level for p in loaded.prompts) == {1: 100, 2: 100, 3: 200}
    assert all(p.text.strip() and p.text != "nan" for p in loaded.prompts)
    assert loaded.quarantined == ()
    assert Counter(p.category for p in loaded.prompts if p.level == 1) == {None: 100}  # published without
    assert Counter(p.category for p in loaded.prompts if p.level == 3) == {
        "CodeAttack": 50, "DRAttack": 50, "Multi-Turn": 34, "Shuffle+Template": 33, "Script+Template": 33,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "file", "count", "harmful"),
    [("star1", "STAR-1.json", 1000, True), ("math500", "MATH-500.jsonl", 500, False)],
)
def test_real_published_file_is_read_whole_and_the_same_twice(
    kind: str, file: str, count: int, harmful: bool, shared_data: Path
) -> None:
    config = SourceConfig.model_validate({"kind": kind, "path": shared_data / file})
    loaded = load_source(kind, config, 0.0)
    assert len({p.id for p in loaded.prompts}) == count
    assert all(p.text.strip() and p.harmful is harmful and p.level is None for p in loaded.prompts)
    assert load_source(kind, config, 0.0) == loaded
    assert all(p.category for p in loaded.prompts)


def test_importing_the_readers_loads_no_heavy_library() -> None:
    heavy = ("pandas", "pyarrow", "openpyxl", "torch", "ray", "vllm")
    code = f"import sys, rapo_ray.data.recipe; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr
