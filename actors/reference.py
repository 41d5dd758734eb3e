"""The frozen reference as a Ray actor."""

from pathlib import Path

from rapo_ray.trainer.batch import MicroBatch
from rapo_ray.trainer.policy import ReferenceModel


class ReferenceActor:
    """Log-probs under the frozen model."""

    def __init__(self, name: str, model: Path, dtype: str, temperature: float, device: str) -> None:
        self._name = name
        self._model = ReferenceModel(model, dtype, temperature, device)

    def ready(self) -> str:
        """Its name, once the model is loaded."""
        return self._name

    def logprobs(self, micro_batches: list[MicroBatch]) -> list[list[list[float]]]:
        """Log-probs [T] of every sequence of each micro-batch."""
        return self._model.logprobs(micro_batches)
