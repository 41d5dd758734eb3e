"""Published datasets that are tables: the required columns of each, and the prompt of one of its rows."""

from functools import partial
from pathlib import Path

from rapo_ray.config.sources import Kind
from rapo_ray.data.files import read_table, split_of
from rapo_ray.data.labels import PATH_LABELS
from rapo_ray.data.multi_turn import MULTI_TURN
from rapo_ray.data.rows import (
    LoadedSource,
    Row,
    RowError,
    columns_of,
    id_of,
    is_missing,
    label_of,
    read_rows,
    require_columns,
    text_of,
)
from rapo_ray.data.suites import SUITES
from rapo_ray.data.table import Columns, Table, ToPrompt
from rapo_ray.errors import DataError
from rapo_ray.types import Prompt

WILDJAILBREAK_TYPES = ("vanilla_harmful", "vanilla_benign", "adversarial_harmful", "adversarial_benign")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def load_table(kind: Kind, name: str, path: Path, max_bad_share: float, harmful: bool | None = None) -> LoadedSource:
    """Read one file of a published dataset; `harmful` labels the rows of one whose files differ in that.

    Without it the file's name and folders say it; raises DataError where they do not, and for a file that is unusable.
    """
    columns, to_prompt = TABLES[kind]
    origin = f"{name} ({path})"
    rows = read_table(path)
    require_columns(origin, rows, columns)
    label = _file_label(kind, name, path) if harmful is None else harmful
    table = Table(name, split_of(path), columns_of(rows), label)
    return read_rows(origin, rows, partial(to_prompt, table), max_bad_share)


def _file_label(kind: Kind, name: str, path: Path) -> bool:
    if kind not in PATH_LABELS:
        return False
    label = PATH_LABELS[kind](path)
    if label is None:
        raise DataError(
            f"{name} ({path}): neither the file's name nor its folder tells if its prompts are harmful; set "
            f"data.sources.{name}.harmful to true or false"
        )
    return label


def _star1(table: Table, number: int, row: Row) -> Prompt:
    """STAR-1: 1,000 harmful questions for safety alignment of reasoning models, without a level.

    Source: UCSC-VLAA/STAR-1, data/STAR-1.json, Apache-2.0. Wang et al., "STAR-1: Safer Alignment of Reasoning LLMs with
    1K Data", arXiv 2504.01903.
    """
    text, category = text_of(row, "question"), label_of(row, "category")
    return Prompt(f"{table.name}/{id_of(number, row)}", text, True, None, table.name, "train", category)


def _star_benign(table: Table, number: int, row: Row) -> Prompt:
    """STAR-benign-915: harmless questions that resemble STAR-1's, to measure over-refusal; level 1 as in the paper.

    Source: UCSC-VLAA/STAR-benign-915, Apache-2.0. Wang et al., arXiv 2504.01903.
    """
    text, category = text_of(row, "question"), label_of(row, "category")
    return Prompt(f"{table.name}/{id_of(number, row)}", text, False, 1, table.name, "train", category)


def _wildjailbreak(table: Table, number: int, row: Row) -> Prompt:
    """WildJailbreak: vanilla (level 1) and adversarial requests, harmful and benign, in tab-separated files.

    Train and eval file are recognised by their columns. The eval file is an evaluation suite: the paper's code trains
    on it, which contaminates its results.

    Source: allenai/wildjailbreak (gated), ODC-BY. Jiang et al., "WildTeaming at Scale", arXiv 2406.18510.
    """
    split = "train" if "vanilla" in table.columns else "eval"
    kind = text_of(row, "data_type").strip()
    if kind not in WILDJAILBREAK_TYPES:
        raise RowError(f"data_type is {kind!r}, not one of {', '.join(WILDJAILBREAK_TYPES)}")
    vanilla = kind.startswith("vanilla")
    text = text_of(row, "vanilla" if vanilla else "adversarial")
    level = 1 if vanilla else None
    return Prompt(f"{table.name}/{split}/{number}", text, kind.endswith("harmful"), level, table.name, split)


def _jailbreakbench(table: Table, number: int, row: Row) -> Prompt:
    """JailbreakBench: 100 harmful and 100 benign behaviours, a CSV file or a folder of parquet each.

    Source: JailbreakBench/JBB-Behaviors, MIT. Chao et al., arXiv 2404.01318.
    """
    split = "harmful" if table.harmful else "benign"
    identity = f"{table.name}/{split}/{id_of(number, row, 'Index')}"
    return Prompt(identity, text_of(row, "Goal"), table.harmful, None, table.name, split, label_of(row, "Category"))


def _harmbench(table: Table, number: int, row: Row) -> Prompt:
    """HarmBench: harmful behaviours, some of which refer to a context, which then comes first.

    Source: centerforaisafety/HarmBench, harmbench_behaviors_text_all.csv, MIT. Mazeika et al., arXiv 2402.04249.
    """
    text = text_of(row, "Behavior")
    if not is_missing(row.get("ContextString")):
        text = f"{text_of(row, 'ContextString')}\n\n{text}"
    category = label_of(row, "SemanticCategory", "FunctionalCategory")
    return Prompt(f"{table.name}/{id_of(number, row, 'BehaviorID')}", text, True, None, table.name, "test", category)


def _strongreject(table: Table, number: int, row: Row) -> Prompt:
    """StrongREJECT: 313 forbidden prompts, all harmful.

    Source: alexandrasouly/strongreject, MIT. Souly et al., arXiv 2402.10260.
    """
    text, category = text_of(row, "forbidden_prompt"), label_of(row, "category")
    return Prompt(f"{table.name}/{number}", text, True, None, table.name, "test", category)


def _xstest(table: Table, number: int, row: Row) -> Prompt:
    """XSTest: safe prompts that look unsafe, and unsafe prompts in contrast to them.

    Source: paul-rottger/xstest, xstest_prompts.csv, CC-BY-4.0. Röttger et al., arXiv 2308.01263.
    """
    label = text_of(row, "label").strip().lower()
    if label not in ("safe", "unsafe"):
        raise RowError(f"label is {label!r}, not safe or unsafe")
    identity = f"{table.name}/{id_of(number, row)}"
    kind = label_of(row, "type")
    return Prompt(identity, text_of(row, "prompt"), label == "unsafe", None, table.name, "test", kind)


def _or_bench(table: Table, number: int, row: Row) -> Prompt:
    """OR-Bench: harmless prompts that look harmful (80k, hard-1k), and toxic ones, told apart by file or folder.

    Source: bench-llm/or-bench, CC-BY-4.0. Cui et al., arXiv 2405.20947.
    """
    category = label_of(row, "category")
    return Prompt(f"{table.name}/{number}", text_of(row, "prompt"), table.harmful, None, table.name, "test", category)


def _math500(table: Table, number: int, row: Row) -> Prompt:
    """MATH-500: benign reasoning problems, without a level, as `level` is their difficulty.

    Source: MATH-500.jsonl as in UCSC-VLAA/STAR-1, benchmark/ (Apache-2.0 repository; MATH itself is MIT). Lightman et
    al., "Let's Verify Step by Step", arXiv 2305.20050; Hendrycks et al., arXiv 2103.03874.
    """
    identity = f"{table.name}/{id_of(number, row, 'unique_id')}"
    subject, answer = label_of(row, "subject"), label_of(row, "answer")
    return Prompt(identity, text_of(row, "problem"), False, None, table.name, "test", subject, answer)


def _gsm8k(table: Table, number: int, row: Row) -> Prompt:
    """GSM8K: benign arithmetic problems.

    Source: openai/gsm8k, MIT. Cobbe et al., arXiv 2110.14168.
    """
    worked = label_of(row, "answer") or ""  # the solution, then `#### ` and the number
    _, mark, number_only = worked.rpartition("####")
    expected = number_only.strip() if mark else None
    text = text_of(row, "question")
    return Prompt(f"{table.name}/{number}", text, False, None, table.name, table.split, None, expected)


def _mmlu_pro(table: Table, number: int, row: Row) -> Prompt:
    """MMLU-Pro: benign questions on many subjects with up to ten options, which are lettered.

    Source: TIGER-Lab/MMLU-Pro, MIT. Wang et al., arXiv 2406.01574.
    """
    options = row.get("options")
    if not isinstance(options, list) or not all(isinstance(option, str) for option in options):
        raise RowError("options is not a list of texts")
    lettered = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))
    text = f"{text_of(row, 'question')}\n{lettered}"
    identity = f"{table.name}/{id_of(number, row, 'question_id')}"
    category, answer = label_of(row, "category"), label_of(row, "answer")
    return Prompt(identity, text, False, None, table.name, table.split, category, answer)


TABLES: dict[Kind, tuple[Columns, ToPrompt]] = {
    "star1": (["question"], _star1),
    "star-benign": (["question"], _star_benign),
    "wildjailbreak": (["adversarial", "data_type"], _wildjailbreak),
    "jailbreakbench": (["Goal"], _jailbreakbench),
    "harmbench": (["Behavior"], _harmbench),
    "strongreject": (["forbidden_prompt"], _strongreject),
    "xstest": (["prompt", "label"], _xstest),
    "or-bench": (["prompt"], _or_bench),
    "math500": (["problem"], _math500),
    "gsm8k": (["question"], _gsm8k),
    "mmlu-pro": (["question", "options"], _mmlu_pro),
    **SUITES,
    **MULTI_TURN,
}
