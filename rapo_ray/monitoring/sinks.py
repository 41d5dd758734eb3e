"""TensorBoard, W&B and MLflow: each gets every figure of a round, by its path in the line of metrics."""

import time
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any, Protocol

from rapo_ray.config import RunConfig
from rapo_ray.errors import ConfigError

EXPERIMENT = "rapo_ray"  # of MLflow
Figures = dict[str, float]
Load = Callable[[str], Any]  # a library by its name; raises ImportError


class Sink(Protocol):
    """Where figures go; every method may raise anything that its library does."""

    def write(self, number: int, figures: Figures) -> None:
        """Keep the figures of a round."""

    def close(self) -> None:
        """Finish what is still to be sent."""


def flatten(line: Mapping[str, Any], prefix: str = "") -> Figures:
    """The numbers of nested objects by path, as `reward/total`; what is None, true, false or text is left out."""
    found: Figures = {}
    for name, value in line.items():
        if isinstance(value, Mapping):
            found |= flatten(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{prefix}{name}"] = float(value)
    return found


def open_sinks(config: RunConfig, load: Load = import_module) -> Iterator[tuple[str, Sink]]:
    """Those that the config asks for, by setting; raises ConfigError where a library is missing or does not start."""
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
    """An error of somebody else's code in one short line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


class TensorBoard:
    """Event files; a resumed run takes back the steps that it makes again."""

    def __init__(self, library: Any, config: RunConfig) -> None:
        self._library = library
        self._folder = config.folder / "tensorboard"
        self._writer: Any = None  # opened at the first round, which names the first step to make again

    def write(self, number: int, figures: Figures) -> None:
        """Keep the figures of a round."""
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
    """A run of a W&B project; its x-axis is the round, which a resumed run may make again."""

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
        """Keep the figures of a round."""
        self._run.log({**figures, "round": number})

    def close(self) -> None:
        """Send what is left."""
        self._run.finish()


class MLflow:
    """A run of the experiment `rapo_ray`; through the client, as the fluent calls are bound to a thread."""

    def __init__(self, library: Any, config: RunConfig) -> None:
        self._metric = library.entities.Metric
        self._client = library.MlflowClient(tracking_uri=config.sinks.mlflow)
        experiment = self._client.get_experiment_by_name(EXPERIMENT)
        known = experiment.experiment_id if experiment else self._client.create_experiment(EXPERIMENT)
        self._run = self._client.create_run(known, run_name=config.name).info.run_id

    def write(self, number: int, figures: Figures) -> None:
        """Keep the figures of a round."""
        now = int(time.time() * 1000)
        self._client.log_batch(self._run, [self._metric(name, value, now, number) for name, value in figures.items()])

    def close(self) -> None:
        """Mark the run as ended."""
        self._client.set_terminated(self._run)
