"""Settings of the alarms that a run raises over what its rounds unlearn."""

from typing import Literal

from pydantic import Field

from rapo_ray.config.base import Strict

AlarmName = Literal["always_refuse", "depth_collapse", "contradictory_traces", "parts_diverge", "entropy_collapse"]
Action = Literal["warn", "stop", "off"]


class AlarmsConfig(Strict):
    """Signs that the rounds unlearn the method, read from the last rounds against the first ones.

    Each is `warn` (a line in the terminal and the job's log, a mark in the report, a series), `stop` (the same, then
    the run ends with status 1; with another value the same command goes on from its checkpoint) or `off`.
    """

    window: int = Field(default=4, ge=1)
    """Number of first and of last rounds that are compared; an alarm begins after as many rounds at the earliest."""
    always_refuse: Action = "warn"
    """Fewer benign prompts are answered than in the first rounds, under a quarter at a level, or there are none."""
    depth_collapse: Action = "warn"
    """Fewer traces of a level are adequate, under a quarter of them, or level 3 gets no longer traces than level 1."""
    contradictory_traces: Action = "warn"
    """Over a quarter of the traces contradict themselves or their answer."""
    parts_diverge: Action = "warn"
    """R rises while G falls, or the other way round."""
    entropy_collapse: Action = "warn"
    """The policy's entropy is under 0.3 of that in the first rounds."""

    def action(self, name: AlarmName) -> Action:
        """The setting of one alarm."""
        chosen: Action = getattr(self, name)
        return chosen
