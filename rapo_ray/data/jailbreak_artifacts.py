"""JailbreakBench's artifacts: jailbreak prompts of published attacks (PAIR, GCG, JBC, random search, DSN).

Source: JailbreakBench/artifacts, attack-artifacts/METHOD/.../MODEL.json, MIT. Chao et al., arXiv 2404.01318.
"""

import json
from pathlib import Path

from rapo_ray.data.files import read_text, split_of
from rapo_ray.data.rows import EmptyRow, LoadedSource, Row, id_of, is_missing, label_of, read_rows, text_of
from rapo_ray.errors import DataError
from rapo_ray.types import Prompt


def load_jailbreak_artifacts(name: str, path: Path, max_bad_share: float) -> LoadedSource:
    """Read one file's jailbreaks, all harmful, with the method as their style; raises DataError.

    A behaviour without a jailbreak is left out.
    """
    origin, split = f"{name} ({path})", split_of(path)
    try:
        content = json.loads(read_text(path))
        jailbreaks = content["jailbreaks"]
        if not isinstance(jailbreaks, list) or not all(isinstance(row, dict) for row in jailbreaks):
            raise TypeError("not a list of objects")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise DataError(
            f"{origin}: cannot be read as an artifact, an object with a list `jailbreaks` ({reason})"
        ) from None

    parameters = content.get("parameters")
    method = label_of(parameters, "method") if isinstance(parameters, dict) else None

    def to_prompt(number: int, row: Row) -> Prompt:
        if is_missing(row.get("prompt")):
            raise EmptyRow("no prompt: the attack found none")
        identity = f"{name}/{id_of(number, row, 'index')}"
        category = label_of(row, "category")
        return Prompt(identity, text_of(row, "prompt"), True, None, name, split, category, style=method, language="en")

    return read_rows(origin, jailbreaks, to_prompt, max_bad_share)
