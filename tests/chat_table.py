"""The table of chat formats in docs/chat-formats.md, from what the reader finds in each family's template.

python -m tests.chat_table
"""

import sys
from html import escape

from rapo_ray.models.chat import ChatFormat
from tests.chat_tokenizers import FAMILIES, Family, format_of, rendered_by

HEADINGS = ("models", "thinking", "opened by", "answer in", "off", "a turn ends in", "trained", "judged", "served")


def main() -> int:
    """Print the table."""
    print(table())
    return 0


def table() -> str:
    """The table in Markdown: families of one format share a line."""
    models: dict[tuple[str, ...], list[str]] = {}
    for family in FAMILIES:
        models.setdefault(_cells(family), []).append(family.models)
    lines = [
        HEADINGS,
        ("---",) * len(HEADINGS),
        *((", ".join(dict.fromkeys(names)), *cells) for cells, names in models.items()),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(family: Family) -> tuple[str, ...]:
    chat = format_of(family)
    wrap = [_code(text.strip()) for text in (chat.answer_start, chat.answer_end) if text.strip()]
    return (
        f"{_code(chat.open_mark)} .. {_code(chat.close_mark)}",
        "the prompt" if chat.opened else "the model",
        " .. ".join(wrap),
        _off(chat),
        _code(chat.end) if chat.shown else "its template's end",
        _trained(family, chat),
        _judged(chat),
        _served(chat),
    )


def _off(chat: ChatFormat) -> str:
    if chat.off is None:
        return _code(chat.off_word) if chat.off_word else ""
    return ", ".join(_code(f"{name}={value}") for name, value in chat.off.items()) or "by default"


def _trained(family: Family, chat: ChatFormat) -> str:
    if not chat.shown:
        return "the warm-up teaches the marks"
    rendered = rendered_by(family, "Bread?", "One thought.", "One answer.")
    return f"as rendered from {_code(rendered)}" if rendered else "as the model writes; the template drops thinking"


def _judged(chat: ChatFormat) -> str:
    if chat.off is not None or chat.off_word or not chat.shown:
        return "by the template"
    return f"behind {_code(chat.skipping.strip())}"


def _served(chat: ChatFormat) -> str:
    apart = "apart from the first token" if chat.opened else "apart from its mark"
    return f"{apart}, special tokens kept" if chat.mark_ids else apart


def _code(text: str) -> str:
    """Text as code in a table, for GitHub and for the site."""
    text = " ".join(text.split())
    text = escape(text, quote=False)
    for character in "|[":  # which would end a cell, or begin a link
        text = text.replace(character, f"&#{ord(character)};")
    return f"<code>{text}</code>" if text else ""


if __name__ == "__main__":
    sys.exit(main())
