"""`python -m rapo_ray.preferences`: the preference pairs of a run, as a Hugging Face preference dataset."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rapo_ray.errors import run_command

if TYPE_CHECKING:
    from rapo_ray.reward.pairs import Pair

DESCRIPTION = """Write the best against the worst completion of every group of a run as one parquet file in TRL's
conversational preference format: prompt, chosen, rejected, and beside them scores, margin and origin.
`datasets.load_dataset("parquet", data_files=FILE)` reads it. Completions may be harmful text."""


def main(arguments: list[str] | None = None, program: str = "python -m rapo_ray.preferences") -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(program, description=DESCRIPTION)
    parser.add_argument("run", type=Path, help="a run's folder, as runs/quickstart")
    parser.add_argument("--output", type=Path, help="the file; by default preferences.parquet in the run's folder")
    parser.add_argument("--min-margin", type=float, help="in place of the run's credit.min_margin")
    return run_command(parser, arguments, _export)


def _export(options: argparse.Namespace) -> int:
    from rapo_ray.storage.layout import RunLayout

    output = options.output or RunLayout(options.run).preferences
    count, groups = export(options.run, output, options.min_margin)
    print(f"{count} pairs of {groups} groups: {output}")
    return 0


def export(run: Path, output: Path, min_margin: float | None = None) -> tuple[int, int]:
    """Write the pairs of all recorded rounds; returns their number and that of groups. Raises RapoError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from rapo_ray.atomic import write_atomically
    from rapo_ray.errors import DataError
    from rapo_ray.reward.pairs import make_pairs
    from rapo_ray.storage.layout import RunLayout
    from rapo_ray.storage.reader import read_config, read_groups

    files = RunLayout(run).round_files()
    if not files:
        raise DataError(f"{run}: holds no rounds/round-*.parquet; give the folder of a run that trained")
    config = read_config(RunLayout(run).config)
    margin = config.credit.min_margin if min_margin is None else min_margin
    rows: list[dict[str, Any]] = []
    groups = 0
    for number, file in files.items():
        groups_P = read_groups(file)
        groups += len(groups_P)
        rows += [_row(pair, config.model.system_prompt, number) for pair in make_pairs(groups_P, margin)]
    turn = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    kinds = {
        **dict.fromkeys(("prompt", "chosen", "rejected"), turn),
        **dict.fromkeys(("score_chosen", "score_rejected", "margin"), pa.float64()),
        **dict.fromkeys(("prompt_id", "source"), pa.string()),
        **dict.fromkeys(("level", "round", "policy_version"), pa.int64()),
        "harmful": pa.bool_(),
    }
    table = pa.Table.from_pylist(rows, schema=pa.schema(list(kinds.items())))
    write_atomically(output, lambda temporary: pq.write_table(table, temporary))
    return len(rows), groups


def _row(pair: "Pair", system_prompt: str | None, number: int) -> dict[str, Any]:
    from rapo_ray.models.chat import conversation

    prompt, chosen, rejected = pair.prompt, pair.chosen, pair.rejected
    return {
        "prompt": conversation(system_prompt, prompt.text, prompt.turns),
        "chosen": [{"role": "assistant", "content": chosen.rollout.text}],
        "rejected": [{"role": "assistant", "content": rejected.rollout.text}],
        "score_chosen": chosen.reward,
        "score_rejected": rejected.reward,
        "margin": pair.margin,
        "prompt_id": prompt.id,
        "source": prompt.source,
        "harmful": prompt.harmful,
        "level": prompt.level,
        "round": number,
        "policy_version": chosen.rollout.policy_version,
    }


if __name__ == "__main__":
    sys.exit(main())
