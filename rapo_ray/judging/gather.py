"""Responses dealt over judges, and their verdicts gathered (pure): whoever answers a part, joined once all have."""

from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from rapo_ray.errors import EngineError
from rapo_ray.judging.parts import hold_to_answer, join_parts
from rapo_ray.seeds import chosen
from rapo_ray.types import Completion, Response, Verdict

Answer = tuple[Completion, Verdict]
Judged = tuple[Response, Completion, Verdict]


class JudgePort(Protocol):
    """The judges behind their calls. A panel is all judges that answer the same parts; panels are numbered."""

    def submit(self, panel: int, judge: int, responses: Sequence[Response]) -> Hashable:
        """Send responses to one judge of a panel; returns the call."""
        ...

    def finished(self, calls: Collection[Hashable], seconds: float) -> list[tuple[Hashable, list[Answer]]]:
        """Calls that have finished, with their answers; waits up to `seconds` for the first. Raises a judge's error."""
        ...


class VerdictGathering:
    """One pass of responses through the panels: the first ones judge every response, the last a share of them."""

    def __init__(
        self, port: JudgePort, sizes: Sequence[int], second_share: float, limit: float, consistency: bool
    ) -> None:
        self._port = port
        self._sizes = sizes  # judges of each panel
        self._second_share = second_share
        self._firsts = len(sizes) - bool(second_share)
        self._limit = limit
        self._consistency = consistency
        self._pending: dict[Hashable, tuple[int, list[Response]]] = {}
        self._answers: dict[tuple[int, int], dict[int, Answer]] = {}  # of responses that not all have judged yet

    def score(self, batches: Iterable[Sequence[Response]]) -> Iterator[Judged]:
        """Verdicts as they return; raises EngineError where none returns within the limit."""
        for batch in batches:
            for (panel, judge), responses in self._deal(batch).items():
                self._pending[self._port.submit(panel, judge, responses)] = (panel, responses)
            yield from self._take(0.0)
        while self._pending:
            before = len(self._pending)
            yield from self._take(self._limit)
            if len(self._pending) == before:
                raise EngineError(
                    f"{before} calls of judges did not end in limits.judge={self._limit:g} s: see their logs"
                )

    def _deal(self, batch: Sequence[Response]) -> dict[tuple[int, int], list[Response]]:
        dealt: dict[tuple[int, int], list[Response]] = {}
        for response in batch:
            for panel, size in enumerate(self._sizes):
                if panel < self._firsts or self._asks_second(response):
                    judge = response.group % size  # a prompt's samples share its level, so they share a judge
                    dealt.setdefault((panel, judge), []).append(response)
        return dealt

    def _asks_second(self, response: Response) -> bool:
        return bool(self._second_share) and chosen(self._second_share, "second", response.prompt_id, response.text)

    def _take(self, seconds: float) -> Iterator[Judged]:
        if not self._pending:
            return
        for call, answers in self._port.finished(self._pending.keys(), seconds):
            panel, responses = self._pending.pop(call)
            for response, answer in zip(responses, answers, strict=True):
                yield from self._join(response, panel, answer)

    def _join(self, response: Response, panel: int, answer: Answer) -> Iterator[Judged]:
        """The verdict, once every panel that judges this response has answered."""
        key = (response.group, response.sample)
        answers = self._answers.setdefault(key, {})
        answers[panel] = answer
        second = self._asks_second(response)
        if len(answers) < self._firsts + second:
            return
        del self._answers[key]
        completion = answers[0][0]
        verdict = self._held(completion, [answers[index][1] for index in range(self._firsts)])
        if second:
            verdict = replace(verdict, second=self._held(completion, [answers[self._firsts][1]]))
        yield response, completion, verdict

    def _held(self, completion: Completion, parts: Sequence[Verdict]) -> Verdict:
        return hold_to_answer(join_parts(parts), completion, self._consistency)
