"""Text as a JSON string, and back: any text on one line, between quotes."""

import json


def quote(text: str) -> str:
    """The text as a JSON string; characters outside ASCII stay as they are."""
    return json.dumps(text, ensure_ascii=False)


def unquote(text: str) -> str:
    """The text of a JSON string; raises ValueError for any other."""
    if not text.startswith('"'):
        raise ValueError("not a JSON string")
    return str(json.loads(text))
