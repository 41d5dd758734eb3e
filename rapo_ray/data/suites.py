"""Published suites that are for measuring: the required columns of each, and the prompt of one of its rows."""

from rapo_ray.config.sources import Kind
from rapo_ray.data.rows import EmptyRow, Row, RowError, flag_of, id_of, is_missing, label_of, text_of
from rapo_ray.data.table import Columns, Table, ToPrompt
from rapo_ray.types import Prompt

HARM_LABELS = {"harmful": True, "unharmful": False}
SAFETY = "Requests with safety concerns"  # the category of COCONOT that asks for harm


def _sorry_bench(table: Table, number: int, row: Row) -> Prompt:
    """SORRY-Bench: unsafe instructions of 44 categories, plain and in twenty altered styles; the first turn of each.

    The style is the column `prompt_style`, or in the file's name, `question_STYLE.jsonl`; five styles are translations.

    Source: sorry-bench/sorry-bench-202503 (gated), its own licence. Xie et al., arXiv 2406.14598.
    """
    turns = row.get("turns")
    if isinstance(turns, str) and turns.lstrip().startswith(("['", '["')):
        raise RowError("turns is a list written as text; give the dataset's jsonl file")
    text = text_of({"turns": turns[0] if isinstance(turns, list) and turns else turns}, "turns")
    style = label_of(row, "prompt_style") or _style_of(table.split)
    identity = "/".join(filter(None, (table.name, id_of(number, row, "question_id"), style)))
    category = label_of(row, "category")
    language = None if style is None else style.removeprefix("translate-") if "translate-" in style else "en"
    return Prompt(identity, text, True, None, table.name, "test", category, style=style, language=language)


def _style_of(file: str) -> str | None:
    """The style in a file's name without its kind; None where there is none."""
    return "base" if file == "question" else file.partition("question_")[2] or None


def _advbench(table: Table, number: int, row: Row) -> Prompt:
    """AdvBench: 520 harmful behaviours; its harmful strings are no requests, and are refused.

    Source: llm-attacks/llm-attacks, data/advbench/harmful_behaviors.csv, MIT. Zou et al., arXiv 2307.15043.
    """
    return Prompt(f"{table.name}/{number}", text_of(row, "goal"), True, None, table.name, "test", language="en")


def _malicious_instruct(table: Table, number: int, row: Row) -> Prompt:
    """MaliciousInstruct: 100 malicious questions, one a line.

    Source: Princeton-SysML/Jailbreak_LLM, data/MaliciousInstruct.txt, no licence given. Huang et al., arXiv 2310.06987.
    """
    return Prompt(f"{table.name}/{number}", text_of(row, "text"), True, None, table.name, "test", language="en")


def _do_not_answer(table: Table, number: int, row: Row) -> Prompt:
    """Do-Not-Answer: 939 questions that a responsible model does not answer, by type of harm.

    Source: LibrAI/do-not-answer, data_en.csv, CC-BY-NC-SA-4.0. Wang et al., arXiv 2308.13387.
    """
    identity, kind = f"{table.name}/{id_of(number, row)}", label_of(row, "types_of_harm")
    return Prompt(identity, text_of(row, "question"), True, None, table.name, "test", kind, language="en")


def _air_bench(table: Table, number: int, row: Row) -> Prompt:
    """AIR-Bench 2024: 5,694 harmful prompts, by the 45 risks of its third level.

    Source: stanford-crfm/air-bench-2024, CC-BY-4.0. Zeng et al., arXiv 2407.17436.
    """
    identity, risk = f"{table.name}/{number}", label_of(row, "l3-name")
    return Prompt(identity, text_of(row, "prompt"), True, None, table.name, "test", risk, language="en")


def _wildguardmix(table: Table, number: int, row: Row) -> Prompt:
    """WildGuardMix: harmful and harmless prompts, vanilla (level 1) and adversarial; unlabelled ones are left out.

    Train and test file are recognised by their columns: the annotators' agreement is in the test file alone.

    Source: allenai/wildguardmix (gated), ODC-BY. Han et al., arXiv 2406.18495.
    """
    split = "test" if "prompt_harm_agreement" in table.columns else "train"
    if is_missing(row.get("prompt_harm_label")):
        raise EmptyRow("no prompt_harm_label: the annotators came to none")
    adversarial = flag_of(row, "adversarial")
    return Prompt(
        f"{table.name}/{split}/{number}", text_of(row, "prompt"), harm_of(row, "prompt_harm_label"),
        None if adversarial else 1, table.name, split, label_of(row, "subcategory"),
        style="adversarial" if adversarial else "vanilla", language="en",
    )  # fmt: skip


def harm_of(row: Row, column: str) -> bool:
    """True for `harmful`, False for `unharmful`; raises RowError for anything else."""
    word = text_of(row, column).strip().lower()
    if word not in HARM_LABELS:
        raise RowError(f"{column} is {word!r}, not harmful or unharmful")
    return HARM_LABELS[word]


def _false_reject(table: Table, number: int, row: Row) -> Prompt:
    """FalseReject: harmless prompts that look harmful, 14,624 to train on and 1,187 to test on.

    Train and test file are recognised by their columns: only prompts to train on have responses.

    Source: AmazonScience/FalseReject, CC-BY-NC-4.0. Zhang et al., arXiv 2505.08054.
    """
    split = "train" if {"instruct_response", "cot_response"} & set(table.columns) else "test"
    identity, category = f"{table.name}/{split}/{number}", label_of(row, "category_text", "category")
    return Prompt(identity, text_of(row, "prompt"), False, None, table.name, split, category, language="en")


def _coconot(table: Table, number: int, row: Row) -> Prompt:
    """COCONOT: requests not to comply with, and a contrast set of ones to comply with (test, and preferences to train).

    Of the first only those with safety concerns are harmful. The others, such as incomplete ones, neither do harm nor
    can be answered in full: they are left out.

    Source: allenai/coconot; allenai/noncompliance, data/, MIT. Brahman et al., arXiv 2407.12043.
    """
    split = "train" if "chosen" in table.columns else _coconot_split(table.split)
    category = text_of(row, "category").strip()
    if table.harmful and category != SAFETY:
        raise EmptyRow(f"category is {category!r}: neither harmful nor to be answered in full")
    identity, kind = f"{table.name}/{split}/{id_of(number, row)}", label_of(row, "subcategory", "category")
    return Prompt(identity, text_of(row, "prompt"), table.harmful, None, table.name, split, kind, language="en")


def _coconot_split(file: str) -> str:
    """The split in a file's name without its kind; all that is not called `train` may be a test."""
    return "train" if "train" in file.lower() else "test"


SUITES: dict[Kind, tuple[Columns, ToPrompt]] = {
    "sorry-bench": (["turns"], _sorry_bench),
    "advbench": (["goal"], _advbench),
    "malicious-instruct": (["text"], _malicious_instruct),
    "do-not-answer": (["question", "types_of_harm"], _do_not_answer),
    "air-bench": (["prompt", "l3-name"], _air_bench),
    "wildguardmix": (["prompt", "adversarial", "prompt_harm_label"], _wildguardmix),
    "false-reject": (["prompt", "category_text"], _false_reject),
    "coconot": (["prompt", "category"], _coconot),
}
