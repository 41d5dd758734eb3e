"""TensorBoard, W&B and MLflow: each gets every figure of a round, by its path in the round's metrics."""

import time
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any, Protocol

from rapo_ray.config import RunConfig
from rapo_ray.errors import ConfigError
from rapo_ray.storage.layout import RunLayout

EXPERIMENT = "rapo_ray"  # of MLflow
Figures = dict[str, float]
Load = Callable[[str], Any]  # a library by its name; raises ImportError


class Sink(Protocol):
    """Destination of figures; every method may raise anything that its library does."""

    def write(self, number: int, figures: Figures) -> None:
        """Store the figures of a round."""

    def close(self) -> None:
        """Send the rest."""


def flatten(content: Mapping[str, Any], prefix: str = "") -> Figures:
    """Numbers of nested objects by path, as `reward/total`; None, true, false and text are left out."""
    figures: Figures = {}
    for name, value in content.items():
        if isinstance(value, Mapping):
            figures |= flatten(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            figures[f"{prefix}{name}"] = float(value)
    return figures


def open_sinks(config: RunConfig, load: Load = import_module) -> Iterator[tuple[str, Sink]]:
    """Open the configured sinks, by setting; raises ConfigError where a library is missing or does not start."""
    makers: dict[str, tuple[str, Callable[[Any, RunConfig], Sink]]] = {
        "tensorboard": ("tensorboardX", TensorBoard),
        "wandb": ("wandb", WeightsAndBiases),
        "mlflow": ("mlflow", MLflow),
    }
    for name, (package, make) in makers.items():
        if not getattr(config.sinks, name):
            continue
        try:
            library = load(package)
        except ImportError as error:
            raise ConfigError(f"sinks.{name} needs the package {package} ({error}): pip install {package}") from error
        try:
            sink = make(library, config)
        except Exception as error:  # whatever the library raises: a refused key, no route to the server
            raise ConfigError(f"sinks.{name} cannot be opened: {one_line(error)}") from error
        yield name, sink


def one_line(error: Exception) -> str:
    """Error of third-party code in one short line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


class TensorBoard:
    """Event files; a resumed run purges the steps that it repeats."""

    def __init__(self, library: Any, config: RunConfig) -> None:
        self._library = library
        self._folder = RunLayout(config.folder).tensorboard
        self._writer: Any = None  # opened at the first round, which is the first step to purge

    def write(self, number: int, figures: Figures) -> None:
        """Store the figures of a round."""
        if self._writer is None:
            self._writer = self._library.SummaryWriter(str(self._folder), purge_step=number)
        for name, value in figures.items():
            self._writer.add_scalar(name, value, number)
        self._writer.flush()

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.close()


class WeightsAndBiases:
    """A run of a W&B project; its x-axis is the round, which a resumed run may repeat."""

    def __init__(self, library: Any, config: RunConfig) -> None:
        self._run = library.init(
            project=config.sinks.wandb,
            name=config.name,
            group=config.name,
            dir=str(config.folder),
            config=config.model_dump(mode="json"),
            settings=library.Settings(console="off"),
        )
        self._run.define_metric("*", step_metric="round")

    def write(self, number: int, figures: Figures) -> None:
        """Store the figures of a round."""
        self._run.log({**figures, "round": number})

    def close(self) -> None:
        """Send the rest."""
        self._run.finish()


class MLflow:
    """A run of the experiment `rapo_ray`; through the client, as the fluent calls are bound to a thread."""

    def __init__(self, library: Any, config: RunConfig) -> None:
        self._metric = library.entities.Metric
        self._client = library.MlflowClient(tracking_uri=config.sinks.mlflow)
        experiment = self._client.get_experiment_by_name(EXPERIMENT)
        identity = experiment.experiment_id if experiment else self._client.create_experiment(EXPERIMENT)
        self._run = self._client.create_run(identity, run_name=config.name).info.run_id

    def write(self, number: int, figures: Figures) -> None:
        """Store the figures of a round."""
        now = int(time.time() * 1000)
        self._client.log_batch(self._run, [self._metric(name, value, now, number) for name, value in figures.items()])

    def close(self) -> None:
        """Mark the run as ended."""
        self._client.set_terminated(self._run)
