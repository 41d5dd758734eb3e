"""Settings of the metric sinks: destinations of a run's metrics besides its folder and the cluster's Prometheus."""

from urllib.parse import urlsplit

from pydantic import Field, field_validator

from rapo_ray.config.base import Strict


class SinksConfig(Strict):
    """Experiment trackers that receive every metric of `metrics.jsonl` and of the canaries, one step per round.

    A resumed run appears in W&B and MLflow as another run with the same name (in W&B also the same group). A sink that
    fails during the run costs one line of warning; the run continues.
    """

    tensorboard: bool = False
    """Write event files to `tensorboard/` in the run's folder; needs the package `tensorboardX`."""
    wandb: str | None = Field(default=None, min_length=1)
    """W&B project; unset, W&B is off. Needs the package `wandb`, which reads its key and mode from the environment."""
    mlflow: str | None = Field(default=None, min_length=1)
    """MLflow tracking URI; unset, MLflow is off. Needs `mlflow` or `mlflow-skinny`; the experiment is `rapo_ray`."""

    @field_validator("mlflow")
    @classmethod
    def _no_password(cls, uri: str | None) -> str | None:
        if uri is not None and urlsplit(uri).password:
            raise ValueError("contains a password, which config.yaml would store: set MLFLOW_TRACKING_PASSWORD instead")
        return uri
