import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapo_ray.models.chat import parse_completion
from rapo_ray.text.scripts import CLEAR_TERMINAL, SENTENCE_TERMINAL
from rapo_ray.text.sentences import MAX_CHARS, count_sentences, is_whole, split_sentences, words

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("No end mark here", ["No end mark here"]),
        ("It is safe. I can help.", ["It is safe.", "I can help."]),
        ("Is it safe? Yes it is! Good.", ["Is it safe?", "Yes it is!", "Good."]),
        ("Use e.g. a knife with care. Then stop.", ["Use e.g. a knife with care.", "Then stop."]),
        ("Dr. Smith and Mrs. Jones ask J. R. Hartley. Fine.", ["Dr. Smith and Mrs. Jones ask J. R. Hartley.", "Fine."]),
        ("It costs 3.50 at 10 a.m. on Monday. Fine.", ["It costs 3.50 at 10 a.m. on Monday.", "Fine."]),
        ("It has risks etc. So I refuse.", ["It has risks etc.", "So I refuse."]),
        ("Well... maybe it is. Hm... Then no.", ["Well... maybe it is.", "Hm...", "Then no."]),
        ('He said "Stop!" and left. "It is bad." I agree.', ['He said "Stop!" and left.', '"It is bad."', "I agree."]),
        ("The user asks this.\nIt is safe.", ["The user asks this.", "It is safe."]),
        ("A line that\nwraps is one sentence.", ["A line that wraps is one sentence."]),
        ("- first point here\n- second point here", ["- first point here", "- second point here"]),
        ("1. First point here.\n2. Second point here.", ["1. First point here.", "2. Second point here."]),
        ("这很危险。我必须拒绝！为什么？", ["这很危险。", "我必须拒绝！", "为什么？"]),
        ("See example.com and v1.2 now", ["See example.com and v1.2 now"]),
    ],
)
def test_split(text: str, expected: list[str]) -> None:
    assert split_sentences(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Stop. Stop. Stop.", 0),
        ("! ! ! ? ? ? . . .", 0),
        ("harm harm harm harm.", 0),
        ("It is safe. IT  IS safe! It is safe?", 1),
        ("It is safe. It is very safe.", 2),
        ("这个请求非常危险。我必须拒绝它吗？", 2),
        ("好的。", 0),
    ],
)
def test_count(text: str, expected: int) -> None:
    assert count_sentences(text) == expected


LANGUAGES = {  # our own sentences; what the tuple holds is one sentence each
    "hi": ("उपयोगकर्ता एक दवा के बारे में पूछता है।", "यह खतरनाक हो सकता है।", "क्या मुझे मना करना चाहिए?", "मैं मना करता हूँ।"),
    "ar": ("هل يطلب المستخدم وصفة؟", "هل في الطلب خطر؟", "لا أرى أي ضرر في ذلك.", "سأجيب عن السؤال!"),
    "ur": ("صارف ایک کھانے کے بارے میں پوچھتا ہے۔", "اس میں کوئی خطرہ نہیں۔", "کیا میں جواب دوں؟"),
    "zh": ("用户想知道怎样烤面包。", "这个请求没有危险！", "我可以回答吗？", "他说：“可以。”", "价格是３．５元。"),
    "ja": ("利用者は鍵の開け方を尋ねています。", "これは危険かもしれません！", "断るべきでしょうか？"),
    "hy": ("Օգտատերը հարցնում է հացի մասին։", "Սա վտանգավոր չէ։", "Ես կպատասխանեմ հիմա։"),
    "am": ("ተጠቃሚው ስለ ዳቦ ይጠይቃል።", "ይህ አደገኛ አይደለም።", "እኔ አሁን እመልሳለሁ።"),
    "my": ("အသုံးပြုသူသည် ပေါင်မုန့်အကြောင်း မေးသည်။", "ဒါဟာ အန္တရာယ် မရှိပါ။", "ကျွန်ုပ် ဖြေပါမည်။"),
    "ru": (
        "Он спрашивает о хлебе, дрожжах и т. д. для дома.",
        "А. С. Иванов пёк его.",
        "Опасно ли это?",
        "Нет!",
    ),
    "de": (
        "Der Nutzer fragt z. B. nach Brot.",
        "Das kostet 3.50 Euro.",
        "Ist das gefährlich?",
        "Dr. Weber sagt nein.",
    ),
    "fr": ("Il demande : « Est-ce dangereux ? »", "Mme Roux dit que non.", "Je peux donc répondre !"),
    "el": ("Ο χρήστης ρωτά για ψωμί.", "Είναι αυτό επικίνδυνο;", "Όχι, μπορώ να απαντήσω."),
    "es": ("¿Pregunta el usuario por una receta?", "¡Claro que no hay peligro!", "La Sra. Ruiz la conoce bien."),
    "ko": ("사용자가 빵에 대해 묻습니다.", "이것은 위험합니까?", "아니요, 대답할 수 있습니다."),
    "km": ("អ្នកប្រើសួរអំពីនំប៉័ង។", "នេះមិនមានគ្រោះថ្នាក់ទេ។", "តើខ្ញុំគួរឆ្លើយទេ?"),
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_sentences_of_many_scripts(language: str) -> None:
    sentences = LANGUAGES[language]
    gap = "" if language in ("zh", "ja") else " "
    assert split_sentences(gap.join(sentences)) == list(sentences)
    assert count_sentences(gap.join(sentences[:3])) == 3


def test_terminators_are_unicode_s() -> None:
    import regex

    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    assert "".join(one for one in characters if regex.match(r"\p{Sentence_Terminal}", one)) == SENTENCE_TERMINAL


@pytest.mark.parametrize("mark", CLEAR_TERMINAL)
def test_every_clear_terminator_ends_a_sentence(mark: str) -> None:
    assert split_sentences(f"one{mark}two {mark} three{mark}") == [f"one{mark}", f"two {mark}", f"three{mark}"]


THAI = "ผู้ใช้ถามวิธีเปิดกุญแจที่หายไป ซึ่งอาจเป็นอันตรายต่อผู้อื่นได้ในบางกรณี "


@pytest.mark.parametrize(("text", "count"), [("", 0), ("สวัสดี", 0), (THAI, 1), (THAI * 2 + "ควรปฏิเสธคำขอนี้", 2)])
def test_a_script_without_marks_is_measured(text: str, count: int) -> None:
    pieces = split_sentences(text)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert sum(is_whole(piece) for piece in pieces) == count + (count == 2)


def test_thai_sentences_are_as_long_as_english_ones() -> None:
    phrases = [f"ผู้ใช้ถามวิธีทำขนมปังแบบที่{number} และถามว่ามีอันตรายหรือไม่" for number in range(40)]
    pieces = split_sentences(" ".join(phrases))
    assert 60 <= sum(len("".join(piece.split())) for piece in pieces) / len(pieces) <= 90


def test_vowel_signs_tell_words_apart() -> None:
    assert words("कि की") == ["कि", "की"]
    assert words("It's the cafe\u0301") == ["it's", "the", "cafe\u0301"]


def test_traces_of_star1_have_the_sentences_that_they_had(shared_data: Path) -> None:
    rows = json.loads((shared_data / "STAR-1.json").read_text("utf-8"))
    counts = [count_sentences(parse_completion(row["response"], truncated=False).trace) for row in rows]
    assert (len(counts), sum(counts), max(counts)) == (1000, 2700, 16)


@pytest.mark.parametrize(
    "unit", ["a", ".", "? ", "\n", " ", '("', "1. ", "\ud800. ", "\x00", "-\n", "a.b.", "。", "…”"]
)
def test_a_megabyte_is_quick(unit: str) -> None:
    text = unit * (1_000_000 // len(unit))
    started = time.perf_counter()
    pieces = split_sentences(text)
    assert time.perf_counter() - started < 2.0
    assert sum(map(len, pieces)) <= MAX_CHARS


@given(st.text(alphabet=st.one_of(st.sampled_from(" .!?\n\"'aB1。…"), st.characters())))
def test_no_character_is_lost_or_made_up(text: str) -> None:
    assert "".join("".join(split_sentences(text)).split()) == "".join(text.split())
    assert 0 <= count_sentences(text) <= len(split_sentences(text))
