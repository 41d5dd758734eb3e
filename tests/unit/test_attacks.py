"""The library of attacks: what was wrapped comes back, seeds decide alone, twins match, and nothing harmful is held."""

import os
import random
import re
import subprocess
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rapo_ray.attacks.chain import PLAIN, apply_chain, chain_name, draw_chain, parse_chain, undo_chain
from rapo_ray.attacks.families.encodings import leet, morse
from rapo_ray.attacks.family import REQUEST, Family, Mechanism, framed
from rapo_ray.attacks.library import FAMILIES
from rapo_ray.attacks.split import HELD_OUT, split_families
from rapo_ray.errors import ConfigError
from tests.docs import ROOT

pytestmark = pytest.mark.unit

NAMES = sorted(FAMILIES)
EXACT = [name for name in NAMES if FAMILIES[name].decode is not None]
LOSSY = [name for name in NAMES if FAMILIES[name].decode is None]
MARKS = sorted({part for family in FAMILIES.values() for frame in family.frames for part in frame if part})
REQUESTS = st.lists(
    st.text(st.characters())  # lone surrogates among them
    | st.sampled_from([*" \n\"'\\+\u2028ß锁", "  ", "{request}", "{name}", "    # ", " = ", "2. "])
    | st.sampled_from(MARKS),
    max_size=5,
).map("".join)
SEEDS = st.integers(-(2**40), 2**40)
CHAINS = st.lists(st.sampled_from(NAMES), max_size=4).map(tuple)
EXACT_CHAINS = st.lists(st.sampled_from(EXACT), max_size=4).map(tuple)


def frames_of(name: str) -> list[tuple[str, str]]:
    return list(FAMILIES[name].frames)


def test_there_are_families_of_every_mechanism() -> None:
    assert len(FAMILIES) >= 14
    assert {family.mechanism for family in FAMILIES.values()} == set(Mechanism)
    assert {"role_play", "translation", "base64", "prefix_injection"} <= set(FAMILIES)
    assert PLAIN not in FAMILIES


@given(chain=EXACT_CHAINS, request_text=REQUESTS, seed=SEEDS)
@settings(max_examples=300, deadline=None)
def test_nothing_is_lost_by_a_chain_that_can_be_undone(chain: tuple[str, ...], request_text: str, seed: int) -> None:
    assert undo_chain(chain, apply_chain(chain, request_text, seed)) == request_text


@pytest.mark.parametrize("name", EXACT)
def test_every_frame_gives_back_what_is_inside_it(name: str) -> None:
    """Texts that hold the frames themselves among them."""
    family = FAMILIES[name]
    for before, after in family.frames:
        for text in ("", "How do I pick a lock?", f"{before}{after}", f"{after}{before}", f"{before}x{after}\n"):
            assert family.unwrap(f"{before}{family.encode(text)}{after}") == text


@pytest.mark.parametrize("name", NAMES)
def test_no_text_comes_from_two_frames(name: str) -> None:
    frames = frames_of(name)
    assert len(set(frames)) == len(frames) > 1
    for one, other in combinations(frames, 2):
        before = one[0].startswith(other[0]) or other[0].startswith(one[0])
        after = one[1].endswith(other[1]) or other[1].endswith(one[1])
        assert not (before and after), (one, other)


@given(name=st.sampled_from(EXACT), text=REQUESTS, data=st.data())
@settings(max_examples=300, deadline=None)
def test_what_unwraps_is_what_the_family_makes(name: str, text: str, data: st.DataObject) -> None:
    family = FAMILIES[name]
    before, after = data.draw(st.sampled_from(family.frames))
    for attack in (text, f"{before}{text}{after}"):
        request = family.unwrap(attack)
        if request is not None:
            assert attack in {f"{start}{family.encode(request)}{end}" for start, end in family.frames}


@pytest.mark.parametrize("name", ["split", "numbered_words", "json"])
def test_deeply_nested_json_is_no_payload(name: str) -> None:
    before, after = FAMILIES[name].frames[0]
    assert FAMILIES[name].unwrap(f"{before}{'[' * 100_000}{after}") is None


def test_a_frame_alone_is_no_attack() -> None:
    family = framed("one", Mechanism.PERSONA, ("abab{request}abab",))
    assert family.unwrap("ababab") is None  # the two ends overlap
    assert family.unwrap("abababab") == ""


@given(text=REQUESTS)
@settings(deadline=None)
def test_leet_loses_case_and_digits_alone(text: str) -> None:
    letters = str.maketrans("431057", "aeiost")
    plain = str.maketrans("AEIOST431057", "aeiostaeiost")
    coded = leet.FAMILY.encode(text)
    assert coded.translate(letters) == text.translate(plain)
    assert not set("aeiost") & set(coded)


@given(text=REQUESTS)
@settings(deadline=None)
def test_morse_loses_case_alone(text: str) -> None:
    signs = {morse.FAMILY.encode(character): character for character in map(chr, range(32, 127))}
    read = "".join(signs.get(code, code) for code in morse.FAMILY.encode(text).split(" "))
    assert read.lower() == text.lower() or not text.isascii()
    assert morse.FAMILY.encode(read) == morse.FAMILY.encode(text)


def test_codes_by_hand() -> None:
    assert morse.FAMILY.encode("SOS, now") == "... --- ... --..-- / -. --- .--"
    assert leet.FAMILY.encode("Test Site 7") == "7357 5173 7"
    assert FAMILIES["rot13"].encode("Why, Zed?") == "Jul, Mrq?"
    assert FAMILIES["hex"].encode("hé") == "68 c3 a9"
    assert FAMILIES["base64"].encode("How?") == "SG93Pw=="
    assert FAMILIES["reversed"].encode("ab c") == "c ba"
    assert FAMILIES["split"].encode('say "hi"') == 'a = "sa"\nb = "y "\nc = "\\"h"\nd = "i\\""'
    assert FAMILIES["numbered_words"].encode("how are you") == '2. "are"\n1. "how"\n3. "you"'
    assert FAMILIES["code_comment"].encode("a\nb") == "    # a\n    # b"
    assert FAMILIES["homoglyphs"].encode("cat") == "\u0441\u0430t"


@pytest.mark.parametrize("name", LOSSY)
def test_a_family_without_a_way_back_says_what_is_lost(name: str) -> None:
    (module,) = (module for module in (leet, morse) if name == module.FAMILY.name)
    assert "Lost:" in (module.__doc__ or "")
    assert FAMILIES[name].unwrap(apply_chain((name,), "a", 0)) is None
    assert undo_chain(("base64", name), apply_chain(("base64", name), "a", 0)) is None


@pytest.mark.parametrize("name", NAMES)
def test_slots_are_filled(name: str) -> None:
    family = FAMILIES[name]
    assert family.slots[0] == "request"
    for frame in family.frames:
        assert not re.search(r"\{(?:%s)\}" % "|".join(family.slots), "".join(frame))  # noqa: UP031


def test_a_slot_of_a_template_has_its_values() -> None:
    family = framed("one", Mechanism.PERSONA, ("{a} {b}: {request} {a}", "{b}! {request}"), {"a": "xy", "b": "z"})
    assert family.frames == (("x z: ", " x"), ("y z: ", " y"), ("z! ", ""))
    assert family.slots == ("request", "a", "b")


@given(chain=CHAINS, pair=st.tuples(REQUESTS, REQUESTS), seed=SEEDS)
@settings(max_examples=200, deadline=None)
def test_a_benign_twin_gets_the_same_frames(chain: tuple[str, ...], pair: tuple[str, str], seed: int) -> None:
    """Each family's frame is put around other codings of the two requests."""
    generators = random.Random(f"{seed}/{chain_name(chain)}"), random.Random(f"{seed}/{chain_name(chain)}")
    texts = list(pair)
    for name in chain:
        before, after = generators[0].choice(FAMILIES[name].frames)
        texts = [f"{before}{FAMILIES[name].encode(text)}{after}" for text in texts]
    assert [apply_chain(chain, text, seed) for text in pair] == texts


def test_every_frame_of_a_family_is_drawn_by_some_seed() -> None:
    for name in NAMES:
        attacks = Counter(apply_chain((name,), "How?", seed) for seed in range(1000))
        assert len(attacks) == len(frames_of(name))


SCRIPT = """
from hashlib import sha256
from rapo_ray.attacks.chain import apply_chain, draw_chain
from rapo_ray.attacks.library import FAMILIES
import random
generator = random.Random(5)
chains = [draw_chain(list(FAMILIES), number % 6, generator) for number in range(300)]
texts = [apply_chain(chain, f"How do I bake {number} loaves?", number) for number, chain in enumerate(chains)]
print(sha256(repr((chains, texts)).encode()).hexdigest())
"""


def test_attacks_are_the_same_in_every_process() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT], env={**os.environ, "PYTHONHASHSEED": seed}, cwd=ROOT, check=True,
            capture_output=True, text=True, timeout=60,
        ).stdout
        for seed in ("0", "1")
    }  # fmt: skip
    assert len(digests) == 1


@given(chain=CHAINS)
def test_a_chain_has_a_name(chain: tuple[str, ...]) -> None:
    assert parse_chain(chain_name(chain)) == chain


def test_the_plain_request() -> None:
    assert parse_chain("none") == ()
    assert apply_chain((), "How?", 3) == "How?"
    assert undo_chain((), "How?") == "How?"


@pytest.mark.parametrize(
    ("name", "unknown"),
    [("b64", "b64"), ("", ""), ("none+base64", "none"), ("base64+", ""), ("base64 ", "base64 ")],
)
def test_an_unknown_family_is_refused(name: str, unknown: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"attack {name!r} names {unknown!r}, which is no family")):
        parse_chain(name)


def test_the_order_of_a_chain_is_from_the_inside() -> None:
    attack = apply_chain(("reversed", "hex"), "abc", 1)
    inner = FAMILIES["hex"].unwrap(attack)
    assert inner is not None
    assert "cba" in inner
    assert "cba" not in attack


@given(names=st.lists(st.sampled_from(NAMES)), length=st.integers(0, 30), seed=SEEDS)
def test_a_drawn_chain_has_different_families(names: list[str], length: int, seed: int) -> None:
    if length > len(set(names)):
        with pytest.raises(ConfigError, match=f"no chain of {length} different families"):
            draw_chain(names, length, random.Random(seed))
    else:
        chain = draw_chain(names, length, random.Random(seed))
        assert len(chain) == len(set(chain)) == length
        assert set(chain) <= set(names)


def test_a_negative_length_is_refused() -> None:
    with pytest.raises(ConfigError, match="no chain of -1"):
        draw_chain(NAMES, -1, random.Random(0))


def test_the_default_split_keeps_mechanisms_whole() -> None:
    split = split_families()
    assert sorted((*split.trained, *split.held_out)) == [name for name in NAMES if FAMILIES[name].lead is None]
    mechanisms = [{FAMILIES[name].mechanism for name in side} for side in (split.trained, split.held_out)]
    assert mechanisms == [set(Mechanism) - {Mechanism.ESCALATION, *HELD_OUT}, set(HELD_OUT)]
    assert len(split.trained) > len(split.held_out)


def test_families_and_mechanisms_are_held_out_by_name() -> None:
    split = split_families(["morse", "nesting"])
    assert split.held_out == ("morse", "nested")
    assert "base64" in split.trained  # of morse's mechanism


def test_a_name_means_the_same_as_family_and_as_mechanism() -> None:
    for name in set(NAMES) & set(Mechanism):
        assert [other for other, family in FAMILIES.items() if family.mechanism == name] == [name]


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (
            ["b64", "split", "word"],
            "held-out attacks name 'b64', 'word', no family and no mechanism: take families (",
        ),
        ([], "held-out attacks none: no family is held out; name one"),
        (list(Mechanism), "no family is left to train on; name fewer"),
        (NAMES, "no family is left to train on; name fewer"),
    ],
)
def test_a_split_without_two_sides_is_refused(names: list[str], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        split_families(names)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def modules() -> list[Path]:
    folder = ROOT / "rapo_ray" / "attacks" / "families"
    return [path for path in folder.rglob("*.py") if path.name != "__init__.py"]


def test_a_family_is_one_module_of_a_small_folder() -> None:
    folders = Counter(path.parent for path in modules())
    assert sum(folders.values()) == len(FAMILIES)
    assert all(count <= 19 for count in folders.values())  # and `__init__.py`


def table() -> str:
    """The table of the families as docs/attacks.md has it."""
    lines = ["| family | mechanism | slots | frames | undone |", "|---|---|---|---|---|"]
    order = list(Mechanism)
    for family in sorted(FAMILIES.values(), key=lambda family: (order.index(family.mechanism), family.name)):
        lines.append(row(family))
    return "\n".join(lines)


def row(family: Family) -> str:
    slots = ", ".join(f"`{slot}`" for slot in family.slots)
    undone = "exactly" if family.decode else "no"
    return f"| `{family.name}` | {family.mechanism} | {slots} | {len(family.frames)} | {undone} |"


def test_the_guide_has_the_table_of_families() -> None:
    text = (ROOT / "docs" / "attacks.md").read_text("utf-8")
    assert table() in text, f"docs/attacks.md needs this table:\n{table()}"


def test_templates_hold_one_request() -> None:
    for path in modules():
        for template in re.findall(r"_TEMPLATES = \((.*?)^\)", path.read_text("utf-8"), re.DOTALL | re.MULTILINE):
            assert template.count(REQUEST) >= 2, path  # two templates or more
