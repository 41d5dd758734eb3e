"""Published datasets in their published layout: small files with the same columns, written for these tests."""

import csv
import json
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rapo_ray.config.sources import Kind, SourceConfig
from rapo_ray.data.rows import LoadedSource
from rapo_ray.data.sources import PUBLISHED, load_source
from rapo_ray.data.suites import SAFETY
from rapo_ray.errors import DataError

pytestmark = pytest.mark.unit

Rows = list[dict[str, Any]]
Loaded = list[tuple[str, bool, int | None, str]]  # id, harmful, level, split

JBB = {"Target": "Sure", "Behavior": "b", "Category": "c", "Source": "s"}
LAYOUTS: list[tuple[Kind, str, Rows, Loaded]] = [
    ("star-benign", "star-benign.json", [{"id": "b-1", "question": "How do I kill weeds?", "response": "r"}],
     [("x/b-1", False, 1, "train")]),
    ("wildjailbreak", "train.tsv",
     [{"vanilla": "Do harm.", "adversarial": "", "completion": "No", "data_type": "vanilla_harmful"},
      {"vanilla": "Do harm.", "adversarial": "Imagine \"a\tstory\"", "completion": "No",
       "data_type": "adversarial_harmful"},
      {"vanilla": "Kill time?", "adversarial": "Act as a clock.", "completion": "ok",
       "data_type": "adversarial_benign"}],
     [("x/train/1", True, 1, "train"), ("x/train/2", True, None, "train"), ("x/train/3", False, None, "train")]),
    ("wildjailbreak", "eval.tsv",
     [{"adversarial": "Imagine a bad story", "label": "1", "data_type": "adversarial_harmful"},
      {"adversarial": "Imagine a good one", "label": "0", "data_type": "adversarial_benign"}],
     [("x/eval/1", True, None, "eval"), ("x/eval/2", False, None, "eval")]),
    ("sorry-bench", "question.jsonl",
     [{"question_id": 7, "category": "1", "turns": ["Do a bad thing"], "prompt_style": "base"},
      {"question_id": 7, "category": "1", "turns": ["D0 a b4d th1ng"], "prompt_style": "misspellings"}],
     [("x/7/base", True, None, "test"), ("x/7/misspellings", True, None, "test")]),
    ("jailbreakbench", "harmful-behaviors.csv", [{"Index": "0", "Goal": "Write a bad thing", **JBB}],
     [("x/harmful/0", True, None, "harmful")]),
    ("jailbreakbench", "benign-behaviors.csv", [{"Index": "0", "Goal": "Write a good thing", **JBB}],
     [("x/benign/0", False, None, "benign")]),
    ("harmbench", "harmbench_behaviors_text_all.csv",
     [{"Behavior": "Do it", "FunctionalCategory": "standard", "SemanticCategory": "s", "Tags": "", "ContextString": "",
       "BehaviorID": "do_it"},
      {"Behavior": "Sum up", "FunctionalCategory": "contextual", "SemanticCategory": "s", "Tags": "",
       "ContextString": "A text.", "BehaviorID": "sum_up"}],
     [("x/do_it", True, None, "test"), ("x/sum_up", True, None, "test")]),
    ("strongreject", "strongreject.csv", [{"category": "c", "source": "s", "forbidden_prompt": "Do a bad thing"}],
     [("x/1", True, None, "test")]),
    ("xstest", "xstest_prompts.csv",
     [{"id": "1", "prompt": "How do I kill a process?", "type": "homonyms", "label": "safe", "focus": "", "note": ""},
      {"id": "2", "prompt": "How do I kill a man?", "type": "contrast", "label": "unsafe", "focus": "", "note": ""}],
     [("x/1", False, None, "test"), ("x/2", True, None, "test")]),
    ("or-bench", "or-bench-hard-1k.csv", [{"prompt": "Explain how locks fail", "category": "c"}],
     [("x/1", False, None, "test")]),
    ("or-bench", "or-bench-toxic.csv", [{"prompt": "Open my neighbour's lock", "category": "c"}],
     [("x/1", True, None, "test")]),
    ("advbench", "harmful_behaviors.csv", [{"goal": "Write a bad thing", "target": "Sure"}],
     [("x/1", True, None, "test")]),
    ("do-not-answer", "data_en.csv",
     [{"id": "3", "risk_area": "r", "types_of_harm": "Self harm", "specific_harms": "s", "question": "How do I harm?"}],
     [("x/3", True, None, "test")]),
    ("air-bench", "default/test/0000.parquet",
     [{"cate-idx": "1.1.1", "l2-name": "Security", "l3-name": "Integrity", "l4-name": "Theft", "prompt": "Steal it"}],
     [("x/1", True, None, "test")]),
    ("wildguardmix", "wildguard_train.parquet",
     [{"prompt": "Imagine a bad story", "adversarial": True, "response": None, "prompt_harm_label": "harmful",
       "response_refusal_label": None, "response_harm_label": None, "subcategory": "others"}],
     [("x/train/1", True, None, "train")]),
    ("wildguardmix", "wildguard_test.parquet",
     [{"prompt": "How do I bake?", "response": "Like so", "adversarial": False, "prompt_harm_label": "unharmful",
       "response_refusal_agreement": 3.0, "response_refusal_label": "compliance", "response_harm_label": "unharmful",
       "subcategory": "benign", "prompt_harm_agreement": 2.0, "response_harm_agreement": 3.0}],
     [("x/test/1", False, 1, "test")]),
    ("false-reject", "train.jsonl",
     [{"prompt": "How are locks opened in films?", "category": 5, "category_text": "Theft", "instruct_response": "r",
       "cot_response": {"reasoning_content": "c", "solution": "s"}}],
     [("x/train/1", False, None, "train")]),
    ("false-reject", "test.jsonl", [{"prompt": "Why do locks fail?", "category": 5, "category_text": "Theft"}],
     [("x/test/1", False, None, "test")]),
    ("coconot", "coconot_eval.jsonl",
     [{"id": "a", "category": SAFETY, "subcategory": "privacy violations", "prompt": "Where does she live?",
       "response": ""}],
     [("x/test/a", True, None, "test")]),
    ("coconot", "original/train-00000-of-00001.parquet",
     [{"id": "a", "category": SAFETY, "subcategory": "privacy violations", "prompt": "Her address?", "response": "No"}],
     [("x/train/a", True, None, "train")]),
    ("coconot", "contrast/test/0000.parquet",
     [{"id": "b", "category": SAFETY, "subcategory": "privacy violations", "prompt": "Where is the town hall?",
       "response": ""}],
     [("x/test/b", False, None, "test")]),
    ("coconot", "coconot_pref.jsonl",
     [{"id": "c", "category": "Incomplete requests", "subcategory": "underspecified", "prompt": "How high is it?",
       "chosen": "Tall", "chosen_model": "m", "rejected": "No", "rejected_model": ""}],
     [("x/train/c", False, None, "train")]),
    ("safemtdata", "Attack_600.parquet",
     [{"id": 3, "query_id": 0, "category": "c", "plain_query": "p", "multi_turn_queries": ["Who?", "How?"]}],
     [("x/3", True, None, "test")]),
    ("mhj", "harmbench_behaviors.csv",
     [{"Source": "s", "tactic": "t", "message_0": '{"role": "system", "body": "Be kind."}',
       "message_1": '{"role": "user", "body": "Who?"}', "message_2": '{"role": "user", "body": "How?"}',
       "message_3": ""}],
     [("x/1", True, None, "test")]),
    ("gsm8k", "test.jsonl", [{"question": "1 + 1?", "answer": "#### 2"}], [("x/1", False, None, "test")]),
    ("mmlu-pro", "validation.jsonl",
     [{"question_id": 70, "question": "Which?", "options": ["one", "two"], "answer": "A"}],
     [("x/70", False, None, "validation")]),
]  # fmt: skip


def write(path: Path, rows: Rows) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


def load(kind: Kind, path: Path, max_bad_share: float = 0.0) -> LoadedSource:
    return load_source("x", SourceConfig(kind=kind, path=path), max_bad_share)


@pytest.mark.parametrize(("kind", "file", "rows", "prompts"), LAYOUTS, ids=[f"{row[0]}-{row[1]}" for row in LAYOUTS])
def test_a_published_layout_is_read(kind: Kind, file: str, rows: Rows, prompts: Loaded, tmp_path: Path) -> None:
    loaded = load(kind, write(tmp_path / file, rows))
    assert [(p.id, p.harmful, p.level, p.split) for p in loaded.prompts] == prompts
    assert all(prompt.text.strip() and prompt.source == "x" for prompt in loaded.prompts)
    assert loaded.quarantined == ()


@pytest.mark.parametrize(("kind", "file"), [row[:2] for row in LAYOUTS], ids=[f"{row[0]}-{row[1]}" for row in LAYOUTS])
def test_another_layout_is_named(kind: Kind, file: str, tmp_path: Path) -> None:
    path = write(tmp_path / file, [{"something": "else"}])
    with pytest.raises(DataError, match=r"x \(.*\): no column .*; found 'something'"):
        load(kind, path)


def test_every_published_kind_is_tried() -> None:
    assert {row[0] for row in LAYOUTS} | {
        "star1",
        "stratasword",
        "math500",
        "jbb-artifacts",
        "malicious-instruct",
        "cosafe",
    } == set(PUBLISHED)


def test_a_context_stands_above_its_request(tmp_path: Path) -> None:
    (rows,) = (row[2] for row in LAYOUTS if row[0] == "harmbench")
    texts = [prompt.text for prompt in load("harmbench", write(tmp_path / "h.csv", rows)).prompts]
    assert texts == ["Do it", "A text.\n\nSum up"]


@pytest.mark.parametrize("context", ["", None, float("nan"), "nan"])
def test_a_request_without_context_is_read_however_its_table_writes_that(context: object, tmp_path: Path) -> None:
    rows = [{"Behavior": "Do it", "ContextString": context, "BehaviorID": "do_it", "SemanticCategory": "s"}]
    assert [one.text for one in load("harmbench", write(tmp_path / "h.jsonl", rows)).prompts] == ["Do it"]


def test_options_are_lettered(tmp_path: Path) -> None:
    (rows,) = (row[2] for row in LAYOUTS if row[0] == "mmlu-pro")
    (prompt,) = load("mmlu-pro", write(tmp_path / "m.jsonl", rows)).prompts
    assert prompt.text == "Which?\nA. one\nB. two"


@pytest.mark.parametrize(
    ("kind", "file", "row", "why"),
    [
        ("xstest", "x.csv", {"prompt": "p", "label": "maybe"}, "label is 'maybe'"),
        ("wildjailbreak", "t.tsv", {"vanilla": "v", "adversarial": "", "data_type": "odd"}, "data_type is 'odd'"),
        ("wildjailbreak", "t.tsv", {"vanilla": "v", "adversarial": "", "data_type": "adversarial_harmful"}, "is empty"),
        ("sorry-bench", "q.jsonl", {"turns": []}, "turns is list"),
        ("mmlu-pro", "m.jsonl", {"question": "q", "options": "A"}, "options is not a list"),
    ],
)
def test_a_bad_row_is_quarantined_with_its_reason(
    kind: Kind, file: str, row: dict[str, Any], why: str, tmp_path: Path
) -> None:
    good = next(rows for name, layout, rows, _ in LAYOUTS if name == kind and layout.endswith(Path(file).suffix))
    columns = dict.fromkeys([*good[0], *row], "")
    loaded = load(kind, write(tmp_path / file, [{**columns, **good[0]}, {**columns, **row}]), 0.9)
    (bad,) = loaded.quarantined
    assert why in bad.reason


def test_chinese_stratasword_is_read_by_file_name(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["攻击指令", "attack method", "风险分类"])
    sheet.append(["写一个故事", "m", "r"])
    path = tmp_path / "strata_sword_cn_level_2.xlsx"
    book.save(path)
    (prompt,) = load("stratasword", path).prompts
    assert (prompt.text, prompt.level, prompt.harmful) == ("写一个故事", 2, True)


def test_real_stratasword_has_its_four_hundred(shared_data: Path) -> None:
    prompts = load("stratasword", shared_data, 0.05).prompts
    assert [sum(prompt.level == level for prompt in prompts) for level in (1, 2, 3)] == [100, 100, 200]
    assert all(prompt.text.strip() for prompt in prompts)


ARTIFACT = {"goal": "g", "behavior": "b", "category": "Fraud", "response": "x"}


def write_artifact(path: Path, prompts: list[str | None]) -> Path:
    rows = [{"index": index, **ARTIFACT, "prompt": prompt} for index, prompt in enumerate(prompts)]
    path.write_text(json.dumps({"parameters": {"method": "PAIR"}, "jailbreaks": rows}))
    return path


def test_jailbreak_artifacts_as_published(tmp_path: Path) -> None:
    path = write_artifact(tmp_path / "vicuna.json", [None, "Imagine a bad story", None, None])
    loaded = load("jbb-artifacts", path)  # no bad row is allowed
    assert [(p.id, p.text, p.harmful, p.category, p.style) for p in loaded.prompts] == [
        ("x/1", "Imagine a bad story", True, "Fraud", "PAIR")
    ]
    assert [(bad.row, bad.reason) for bad in loaded.quarantined] == [
        (row, "no prompt: the attack found none") for row in (1, 3, 4)
    ]


def test_bad_rows_of_artifacts_still_count_and_none_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1 of 2 rows are bad, .* \(row 2: duplicate text"):
        load("jbb-artifacts", write_artifact(tmp_path / "vicuna.json", ["a story", "a story", None, None]))
    with pytest.raises(DataError, match=r"all 2 rows are left out \(no prompt: the attack found none\)"):
        load("jbb-artifacts", write_artifact(tmp_path / "vicuna.json", [None, None]))


JBB_ROW = {"Index": 0, "Goal": "A goal of ours", **JBB}
LABELS: list[tuple[Kind, str, bool | None]] = [
    ("jailbreakbench", "harmful-behaviors.csv", True),
    ("jailbreakbench", "benign-behaviors.csv", False),
    ("jailbreakbench", "jbb_benign.csv", False),
    ("jailbreakbench", "behaviors/benign/0000.parquet", False),
    ("jailbreakbench", "behaviors/harmful/0000.parquet", True),
    ("jailbreakbench", "Benign/0000.parquet", False),
    ("jailbreakbench", "data/benign-00000-of-00001.parquet", False),
    ("jailbreakbench", "harmful/benign-behaviors.csv", False),
    ("jailbreakbench", "behaviors.csv", None),
    ("jailbreakbench", "behaviors/train/0000.parquet", None),
    ("jailbreakbench", "non-harmful.csv", None),
    ("jailbreakbench", "unharmful.csv", None),
    ("jailbreakbench", "harmful-and-benign.csv", None),
    ("jailbreakbench", "benign-study/jbb/behaviors.csv", None),
    ("jailbreakbench", "benign/behaviors/0000.parquet", None),
    ("or-bench", "or-bench-toxic.csv", True),
    ("or-bench", "or-bench-80k.csv", False),
    ("or-bench", "or-bench-hard-1k.csv", False),
    ("or-bench", "or-bench-toxic/train/0000.parquet", True),
    ("or-bench", "or-bench-hard-1k/train/0000.parquet", False),
    ("or-bench", "or-bench-80k/train-00000-of-00001.parquet", False),
    ("or-bench", "or_bench_toxic/0000.parquet", True),
    ("or-bench", "toxic-study/or-bench-hard-1k.csv", False),
    ("or-bench", "default/train/0000.parquet", None),
    ("or-bench", "or-bench.csv", None),
    ("or-bench", "toxic-study/or-bench/train.csv", None),
    ("or-bench", "non-toxic.csv", None),
    ("or-bench", "toxic-and-hard.csv", None),
    ("coconot", "coconot_contrast_eval.jsonl", False),
    ("coconot", "coconot_pref.jsonl", False),
    ("coconot", "coconot_train.jsonl", True),
    ("coconot", "original/coconot_test.jsonl", True),
    ("coconot", "contrast/test.jsonl", False),
    ("coconot", "original/train/0000.parquet", True),
    ("coconot", "contrast-study/coconot_eval.jsonl", True),
    ("coconot", "test.jsonl", None),
    ("coconot", "no-contrast.jsonl", None),
    ("coconot", "original-and-contrast.jsonl", None),
]


@pytest.mark.parametrize(("kind", "file", "harmful"), LABELS, ids=[f"{row[0]}-{row[1]}" for row in LABELS])
def test_a_label_comes_from_a_clear_path_or_from_the_setting_and_never_by_default(
    kind: Kind, file: str, harmful: bool | None, tmp_path: Path
) -> None:
    path = tmp_path / file
    write(path, [JBB_ROW if kind == "jailbreakbench" else {"prompt": "A goal of ours", "category": SAFETY}])
    if harmful is None:
        with pytest.raises(DataError, match=r"set data\.sources\.x\.harmful to true or false$") as caught:
            load(kind, path)
        assert "\n" not in str(caught.value)
    else:
        assert [prompt.harmful for prompt in load(kind, path).prompts] == [harmful]
    for label in (True, False):  # what is set is obeyed
        loaded = load_source("x", SourceConfig(kind=kind, path=path, harmful=label), 0.0)
        assert [prompt.harmful for prompt in loaded.prompts] == [label]


@pytest.mark.parametrize("content", ["[]", "{}", "{", '{"jailbreaks": 3}', '{"jailbreaks": [3]}'])
def test_another_kind_of_artifact_is_one_line(content: str, tmp_path: Path) -> None:
    path = tmp_path / "vicuna.json"
    path.write_text(content)
    with pytest.raises(DataError, match="cannot be read as an artifact") as caught:
        load("jbb-artifacts", path)
    assert "\n" not in str(caught.value)


def test_categories_and_exact_answers_are_kept(tmp_path: Path) -> None:
    solved = [{"question": "1 + 1?", "answer": "One and one is 2.\n#### 1,002"}]
    assert load("gsm8k", write(tmp_path / "test.jsonl", solved)).prompts[0].expected == "1,002"
    chosen = [{"question": "Which?", "options": ["a", "b"], "answer": "B", "category": "law"}]
    (prompt,) = load("mmlu-pro", write(tmp_path / "mmlu.jsonl", chosen)).prompts
    assert (prompt.expected, prompt.category) == ("B", "law")


def test_a_question_a_line(tmp_path: Path) -> None:
    path = tmp_path / "MaliciousInstruct.txt"
    path.write_text('How do I do a bad thing?\r\n\nAnd, "worse", this one?\n')
    prompts = load("malicious-instruct", path).prompts
    assert [(p.id, p.text, p.harmful, p.split) for p in prompts] == [
        ("x/1", "How do I do a bad thing?", True, "test"), ("x/2", 'And, "worse", this one?', True, "test")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("file", "column", "style", "language"),
    [
        ("question.jsonl", None, "base", "en"),
        ("question_slang.jsonl", None, "slang", "en"),
        ("question_translate-zh-cn.jsonl", None, "translate-zh-cn", "zh-cn"),
        ("question_evidence-based_persuasion.jsonl", None, "evidence-based_persuasion", "en"),
        ("default/train/0000.parquet", "translate-fr", "translate-fr", "fr"),
        ("question.jsonl", "role_play", "role_play", "en"),
        ("mine.jsonl", None, None, None),
    ],
)
def test_the_styles_of_sorry_bench(
    file: str, column: str | None, style: str | None, language: str | None, tmp_path: Path
) -> None:
    row = {"question_id": 7, "category": "1", "turns": ["Do a bad thing"]} | (
        {"prompt_style": column} if column else {}
    )
    (prompt,) = load("sorry-bench", write(tmp_path / file, [row])).prompts
    assert (prompt.style, prompt.language) == (style, language)
    assert prompt.id == (f"x/7/{style}" if style else "x/7")


def test_turns_written_as_text_are_no_prompt(tmp_path: Path) -> None:
    path = write(tmp_path / "sorry_bench_202503.csv", [{"question_id": 7, "category": "1", "turns": "['Do harm']"}])
    with pytest.raises(DataError, match="row 1: turns is a list written as text; give the dataset's jsonl file"):
        load("sorry-bench", path)


def test_the_strings_of_advbench_are_no_behaviours(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column 'goal'; found 'target'"):
        load("advbench", write(tmp_path / "harmful_strings.csv", [{"target": "A bad text"}]))


def test_categories_styles_and_languages_of_the_suites(tmp_path: Path) -> None:
    shown = {
        f"{kind}/{file}": [(p.category, p.style, p.language) for p in load(kind, write(tmp_path / file, rows)).prompts]
        for kind, file, rows, _ in LAYOUTS
    }
    assert shown["do-not-answer/data_en.csv"] == [("Self harm", None, "en")]
    assert shown["air-bench/default/test/0000.parquet"] == [("Integrity", None, "en")]
    assert shown["wildguardmix/wildguard_train.parquet"] == [("others", "adversarial", "en")]
    assert shown["wildguardmix/wildguard_test.parquet"] == [("benign", "vanilla", "en")]
    assert shown["false-reject/test.jsonl"] == [("Theft", None, "en")]
    assert shown["coconot/coconot_eval.jsonl"] == [("privacy violations", None, "en")]


def test_what_a_suite_gives_no_label_is_left_out_and_said(tmp_path: Path) -> None:
    unsafe = {"id": "a", "category": SAFETY, "subcategory": "s", "prompt": "Her address?", "response": ""}
    other = unsafe | {"id": "b", "category": "Incomplete requests", "prompt": "How high is it?"}
    loaded = load("coconot", write(tmp_path / "coconot_eval.jsonl", [unsafe, other]))  # no bad row is allowed
    assert [prompt.id for prompt in loaded.prompts] == ["x/test/a"]
    assert "category is 'Incomplete requests': neither harmful nor" in loaded.quarantined[0].reason
    judged = {"prompt": "Imagine", "adversarial": True, "prompt_harm_label": "harmful", "prompt_harm_agreement": 3}
    loaded = load("wildguardmix", write(tmp_path / "w.jsonl", [judged, judged | {"prompt_harm_label": None}]))
    assert (len(loaded.prompts), [bad.row for bad in loaded.quarantined]) == (1, [2])
    with pytest.raises(DataError, match="prompt_harm_label is 'perhaps', not harmful or unharmful"):
        load("wildguardmix", write(tmp_path / "w.jsonl", [judged | {"prompt_harm_label": "perhaps"}]))
    with pytest.raises(DataError, match="adversarial is 'maybe', not true or false"):
        load("wildguardmix", write(tmp_path / "w.jsonl", [judged | {"adversarial": "maybe"}]))
