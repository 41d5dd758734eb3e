"""Characters by script: what ends a sentence, what belongs to a word, and which scripts mark neither."""

import re
import unicodedata
from typing import Final

# Sentence_Terminal of Unicode 17.0.0 (PropList.txt), as hexadecimal code points and ranges; a test holds it against the
# property as the regex package has it.
_SENTENCE_TERMINAL = """
0021 002E 003F 0589 061D-061F 06D4 0700-0702 07F9 0837 0839 083D-083E 0964-0965 104A-104B 1362 1367-1368 166E 1735-1736
17D4-17D5 1803 1809 1944-1945 1AA8-1AAB 1B4E-1B4F 1B5A-1B5B 1B5E-1B5F 1B7D-1B7F 1C3B-1C3C 1C7E-1C7F 2024 203C-203D
2047-2049 2CF9-2CFB 2E2E 2E3C 2E53-2E54 2E60-2E61 3002 A4FF A60E-A60F A6F3 A6F7 A876-A877 A8CE-A8CF A92F A9C8-A9C9
AA5D-AA5F AAF0-AAF1 ABEB FE12 FE15-FE16 FE52 FE56-FE57 FF01 FF0E FF1F FF61 10A56-10A57 10F55-10F59 10F86-10F89
11047-11048 110BE-110C1 11141-11143 111C5-111C6 111CD 111DE-111DF 11238-11239 1123B-1123C 112A9 113D4-113D5 1144B-1144C
115C2-115C3 115C9-115D7 11641-11642 1173C-1173E 11944 11946 11A42-11A43 11A9B-11A9C 11C41-11C42 11EF7-11EF8 11F43-11F44
16A6E-16A6F 16AF5 16B37-16B38 16B44 16D6E-16D6F 16E98 1BC9F 1DA88
"""
_LAST_MARK = 0x1E950  # beyond it only variation selectors combine


def _characters(ranges: str) -> str:
    """The characters of hexadecimal code points and ranges."""
    pairs = (one.partition("-") for one in ranges.split())
    return "".join(chr(code) for low, _, high in pairs for code in range(int(low, 16), int(high or low, 16) + 1))


SENTENCE_TERMINAL: Final = _characters(_SENTENCE_TERMINAL)
DOTS: Final = ".!?\u2024"  # those that also stand inside words, numbers and abbreviations
CLEAR_TERMINAL: Final = "".join(one for one in SENTENCE_TERMINAL if one not in DOTS)
# Vowel signs and accents belong to the word that they stand in; Python's \w leaves most of them out.
MARKS: Final = "".join(
    chr(code) for code in range(0x300, _LAST_MARK) if unicodedata.category(chr(code)).startswith("M")
)
UNMARKED: Final = "\u0e00-\u0eff\u0f00-\u0fff\u1780-\u17ff"  # Thai, Lao, Tibetan, Khmer: no mark, or none in most text
_UNSPACED = (  # scripts without spaces between words: these, Burmese and other South East Asian ones, Han and kana
    f"{UNMARKED}\u1000-\u109f\u1950-\u19df\u1a20-\u1aaf\uaa60-\uaadf\u3005-\u3007\u3031-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
UNSPACED: Final = re.compile(f"[{_UNSPACED}]")
# Where words are not told apart, a letter with its vowels and accents, which is a character of Han and kana.
CLUSTERS: Final = re.compile(
    f"[\u0e40-\u0e44\u0ec0-\u0ec4]?[{_UNSPACED}](?:[{MARKS}\u0e30\u0e32\u0e45\u0eb0\u0eb2]|\u17d2.)*|[^{_UNSPACED}]+"
)
