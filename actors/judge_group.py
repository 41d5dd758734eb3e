"""All judges of a run behind one object."""

from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from actors.ray_calls import ActorHandle, died, get_all, unwrap, wait_for_some
from rapo_ray.config.run import LimitsConfig
from rapo_ray.judging.gather import Answer, Judged, VerdictGathering
from rapo_ray.judging.parts import PARTS, Part
from rapo_ray.types import GeneratedText, Packed, Prompt, Response

Panel = tuple[tuple[Part, ...], list[ActorHandle]]


class JudgeGroup:
    """All judges of a run: `risk` gives R and `general` gives G, or without the second the first gives both."""

    def __init__(
        self,
        risk: list[ActorHandle],
        general: list[ActorHandle],
        limits: LimitsConfig,
        second: list[ActorHandle] | None = None,
        second_share: float = 0.0,
        consistency: bool = True,
    ) -> None:
        self._panels: list[Panel] = [(("risk",), risk), (("general",), general)] if general else [(PARTS, risk)]
        if second:
            self._panels.append((PARTS, second))
        self._limits = limits
        self._second_share = second_share if second else 0.0
        self._consistency = consistency

    def sleep(self) -> None:
        """Free the cards of all judges that live on them."""
        self._on_all("sleep")

    def wake(self) -> None:
        """Give the judges their cards again."""
        self._on_all("wake")

    def _on_all(self, method: str) -> None:
        refs = [getattr(judge, method).remote() for _, judges in self._panels for judge in judges]
        get_all(refs, self._limits.sync, f"{method} of the judges", "limits.sync")

    def score(self, prompts_P: list[Prompt], batches: Iterable[Sequence[Response]]) -> Iterator[Judged]:
        """Judge each response the moment it arrives; verdicts come back as they are ready."""
        sizes = [len(judges) for _, judges in self._panels]
        port = _RayJudges(self._panels, prompts_P)
        gathering = VerdictGathering(port, sizes, self._second_share, self._limits.judge, self._consistency)
        return gathering.score(batches)


class _RayJudges:
    """The judges' calls through Ray."""

    def __init__(self, panels: list[Panel], prompts_P: list[Prompt]) -> None:
        self._panels = panels
        self._prompts_P = prompts_P

    def submit(self, panel: int, judge: int, responses: Sequence[Response]) -> Hashable:
        """Send responses to one judge of a panel."""
        parts, judges = self._panels[panel]
        prompts = Packed(self._prompts_P[response.group] for response in responses)
        texts = Packed(GeneratedText(response.text, response.truncated) for response in responses)
        call: Hashable = judges[judge].judge.remote(prompts, texts, parts)
        return call

    def finished(self, calls: Collection[Hashable], seconds: float) -> list[tuple[Hashable, list[Answer]]]:
        """Calls that have finished, with their answers; raises EngineError or the judge's own RapoError."""
        refs: list[Any] = list(calls)
        done = wait_for_some(refs, seconds) if seconds else ray.wait(refs, num_returns=len(refs), timeout=0)[0]
        try:
            return list(zip(done, ray.get(done), strict=True))
        except RayTaskError as error:
            raise unwrap(error, "a judge") from error
        except RayError as error:
            raise died(error, "judging") from None
