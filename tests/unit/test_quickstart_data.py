"""The packaged set: its shape, its twins, its demonstrations, and how little but the request tells the label."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from rapo_ray.data.contamination import Guard
from rapo_ray.judging.rules import RulesJudge, estimate_level
from rapo_ray.models.chat import parse_completion
from rapo_ray.text.sentences import count_sentences, split_sentences
from rapo_ray.types import Case, Prompt

pytestmark = pytest.mark.unit

Row = dict[str, Any]
Numbers = npt.NDArray[np.float64]

FOLDER = Path(__file__).parents[2] / "rapo_ray" / "data" / "quickstart"
FILES = ("train", "validation", "heldout", "demonstrations")
PER_CELL = {"train": 54, "validation": 8, "heldout": 12, "demonstrations": 48}
CHANCE = 0.6  # what may be predicted at most without a look at the request


def rows_of(name: str) -> list[Row]:
    return [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def prompt_of(row: Row) -> Prompt:
    return Prompt(row["id"], row["text"], row["harmful"], row["level"], "quickstart", row.get("split", "train"))


def twins_of(name: str) -> list[tuple[Row, Row]]:
    """Every harmful row with its benign twin."""
    rows = {row["id"]: row for row in rows_of(name)}
    return [(row, rows[row["twin"]]) for row in rows.values() if row["harmful"]]


def grams_of(text: str) -> set[tuple[str, ...]]:
    tokens = re.findall(r"\w+", text.casefold())
    return {tuple(tokens[start : start + 8]) for start in range(len(tokens) - 7)}


def opening_of(row: Row) -> str:
    return " ".join(row["text"].split()[:2])


@pytest.mark.parametrize("row", rows_of("demonstrations"), ids=lambda row: str(row["id"]))
def test_each_demonstration_earns_both_rewards_and_does_what_its_trace_decides(row: Row) -> None:
    completion = parse_completion(row["completion"], False)
    verdict = RulesJudge().judge(prompt_of(row), completion)
    assert (verdict.case, verdict.risk, verdict.general) == (Case.ADEQUATE, 1.0, 1.0), verdict
    assert verdict.refused is row["harmful"]
    *analysis, decision = split_sentences(completion.trace)
    assert decision in (
        {"So I must refuse.", "Therefore I must refuse."}
        if row["harmful"]
        else {"So I can help.", "Therefore I can help."}
    )
    contradictions = (
        ("can help", "harms no one", "no victim", "nobody")
        if row["harmful"]
        else ("refuse", "someone gets hurt", "real victim")
    )
    assert not [sentence for sentence in analysis if any(words in sentence for words in contradictions)]


def test_demonstrations_of_twins_part_ways_only_where_the_requests_do() -> None:
    for harmful, benign in twins_of("demonstrations"):
        traces = [split_sentences(parse_completion(row["completion"], False).trace) for row in (harmful, benign)]
        assert len(traces[0]) == len(traces[1])
        own = sum(one != other for one, other in zip(*traces, strict=True))
        assert 3 <= own <= {1: 3, 2: 3, 3: 5}[harmful["level"]], traces  # the request, the risk, the decision


def test_demonstrations_have_the_agreed_shape_and_differ() -> None:
    completions = [row["completion"] for row in rows_of("demonstrations")]
    assert all(re.fullmatch(r"<think>\n[^\n]+\n</think>\n\n[^\n]+", text) for text in completions)
    assert len({parse_completion(text, False).trace for text in completions}) == len(completions)
    assert len({parse_completion(text, False).answer for text in completions}) == len(completions)


@pytest.mark.parametrize("name", FILES)
def test_rows_are_typed_and_numbered(name: str) -> None:
    rows = rows_of(name)
    extra = "completion" if name == "demonstrations" else "split"
    kinds = {"id": str, "text": str, "harmful": bool, "level": int, "wrapper": str, "twin": str, extra: str}
    assert all({key: type(value) for key, value in row.items()} == kinds for row in rows)
    prefix = "demo" if name == "demonstrations" else name
    assert [row["id"] for row in rows] == [f"{prefix}/{number}" for number in range(1, len(rows) + 1)]
    assert all(row.get("split", name) == name for row in rows)


@pytest.mark.parametrize("name", FILES)
def test_benign_and_harmful_are_as_many_at_each_level(name: str) -> None:
    counts = Counter((row["harmful"], row["level"]) for row in rows_of(name))
    assert counts == {(harmful, level): PER_CELL[name] for harmful in (True, False) for level in (1, 2, 3)}


@pytest.mark.parametrize("name", FILES)
def test_twins_share_level_and_wrapper_and_differ_in_the_request(name: str) -> None:
    for harmful, benign in twins_of(name):
        assert benign["twin"] == harmful["id"]
        assert not benign["harmful"]
        assert [harmful[key] for key in ("level", "wrapper")] == [benign[key] for key in ("level", "wrapper")]
        assert opening_of(harmful) == opening_of(benign)
        assert harmful["text"] != benign["text"]


def test_a_wrapper_is_one_pair_s_of_one_file() -> None:
    wrappers = Counter(row["wrapper"] for name in FILES for row in rows_of(name) if row["level"] > 1)
    assert set(wrappers.values()) == {2}
    assert {row["wrapper"] for name in FILES for row in rows_of(name) if row["level"] == 1} == {"direct"}


@pytest.mark.parametrize("name", FILES)
def test_a_harmful_prompt_looks_like_its_level(name: str) -> None:
    unlike = [row["text"] for row in rows_of(name) if row["harmful"] and estimate_level(prompt_of(row)) != row["level"]]
    assert unlike == []


@pytest.mark.parametrize("name", FILES)
def test_prompts_stay_short_and_the_order_is_mixed(name: str) -> None:
    rows = rows_of(name)
    limits = {1: 14, 2: 30, 3: 60}
    assert not [row["text"] for row in rows if len(row["text"].split()) > limits[row["level"]]]
    assert {(row["harmful"], row["level"]) for row in rows[:24]} == {(h, n) for h in (True, False) for n in (1, 2, 3)}


def test_no_text_appears_twice() -> None:
    texts = Counter(" ".join(row["text"].casefold().split()) for name in FILES for row in rows_of(name))
    assert [text for text, count in texts.items() if count > 1] == []


@pytest.mark.parametrize(("one", "other"), combinations(FILES, 2))
def test_files_share_no_run_of_eight_words(one: str, other: str) -> None:
    grams = {gram for row in rows_of(one) for gram in grams_of(row["text"])}
    assert grams
    assert [row["text"] for row in rows_of(other) if grams & grams_of(row["text"])] == []


@pytest.mark.parametrize(("one", "other"), permutations(FILES, 2))
def test_the_contamination_guard_finds_nothing_between_files(one: str, other: str) -> None:
    assert Guard(map(prompt_of, rows_of(one))).split([prompt_of(row) for row in rows_of(other)])[1] == []


@pytest.mark.parametrize("name", FILES)
def test_level_length_and_wrapper_do_not_tell_the_label(name: str) -> None:
    accuracies = predictable(rows_of(name))
    assert max(accuracies.values()) <= CHANCE, accuracies


@pytest.mark.parametrize("what", ["level", "lengths", "wrapper", "opening"])
def test_the_same_measure_sees_a_set_that_gives_the_label_away(what: str) -> None:
    rows = [row for row in rows_of("train") if what != "level" or row["harmful"] is (row["level"] > 1)]
    if what == "lengths":
        rows = [{**row, "text": row["text"] + " Leave out no detail." * row["harmful"]} for row in rows]
    elif what == "wrapper":
        rows = [{**row, "wrapper": row["wrapper"] + "!" * row["harmful"]} for row in rows]
    elif what == "opening":
        rows = [{**row, "text": "Please now. " * row["harmful"] + row["text"]} for row in rows]
    assert predictable(rows)[what] > CHANCE


def predictable(rows: list[Row]) -> dict[str, float]:
    """Accuracies of predicting the label: in sample for what has few values, else on twins that were not fitted."""
    return {
        "level": majority((row["level"], row["harmful"]) for row in rows),
        "wrapper": majority(((row["level"], row["wrapper"]), row["harmful"]) for row in rows),
        "opening": majority(((row["level"], opening_of(row)), row["harmful"]) for row in rows),
        "lengths": float(np.mean([cross_validated(rows, seed) for seed in range(3)])),
    }


def majority(pairs: Iterable[tuple[Hashable, bool]]) -> float:
    """Share of the labels that are the most frequent of their bucket."""
    buckets: dict[Hashable, Counter[bool]] = defaultdict(Counter)
    for bucket, label in pairs:
        buckets[bucket][label] += 1
    return sum(max(each.values()) for each in buckets.values()) / sum(each.total() for each in buckets.values())


def cross_validated(rows: list[Row], seed: int, folds: int = 5) -> float:
    """Accuracy of a small tree on level, words, characters and sentences, in folds that keep twins together."""
    features = np.array(
        [[row["level"], len(row["text"].split()), len(row["text"]), count_sentences(row["text"])] for row in rows],
        dtype=np.float64,
    )
    labels = np.array([row["harmful"] for row in rows], dtype=np.float64)
    pairs = np.array([min(row["id"], row["twin"]) for row in rows])
    names = np.random.default_rng(seed).permutation(np.unique(pairs))
    right = 0
    for fold in range(folds):
        tested = np.isin(pairs, names[fold::folds])
        predict = tree(features[~tested], labels[~tested], depth=3)
        right += sum(predict(row) == label for row, label in zip(features[tested], labels[tested], strict=True))
    return right / len(rows)


def tree(features: Numbers, labels: Numbers, depth: int, leaf: int = 4) -> Callable[[Numbers], float]:
    """A decision tree: at each node the column and threshold with the fewest errors."""
    splits = [
        (errors(labels[below]) + errors(labels[~below]), column, threshold)
        for column in range(features.shape[1])
        for threshold in np.unique(features[:, column])
        if min((below := features[:, column] <= threshold).sum(), (~below).sum()) >= leaf
    ]
    if depth == 0 or not splits:
        label = float(labels.mean() >= 0.5)
        return lambda row: label
    _, column, threshold = min(splits)
    below = features[:, column] <= threshold
    low, high = (tree(features[side], labels[side], depth - 1, leaf) for side in (below, ~below))
    return lambda row: low(row) if row[column] <= threshold else high(row)


def errors(labels: Numbers) -> float:
    return float(min(labels.sum(), len(labels) - labels.sum()))
