"""Settings of the sinks: where a run's figures go beside its folder and the cluster's Prometheus."""

from urllib.parse import urlsplit

from pydantic import Field, field_validator

from rapo_ray.config.base import Strict


class SinksConfig(Strict):
    """Other programs that get every figure of `metrics.jsonl` and of the canaries; each step is a round.

    A resumed run is another run in W&B and MLflow, of the same name (W&B: and group). A sink that is lost during the
    run is one line of warning, and the run goes on.
    """

    tensorboard: bool = False
    """Write event files to `tensorboard/` in the run's folder; needs the package tensorboardX."""
    wandb: str | None = Field(default=None, min_length=1)
    """W&B project; needs the package wandb, which reads its key and mode from its own environment variables."""
    mlflow: str | None = Field(default=None, min_length=1)
    """MLflow tracking URI, experiment `rapo_ray`; needs the package mlflow (or mlflow-skinny) and its own settings."""

    @field_validator("mlflow")
    @classmethod
    def _no_password(cls, uri: str | None) -> str | None:
        if uri is not None and urlsplit(uri).password:
            raise ValueError("holds a password, which config.yaml would keep: set MLFLOW_TRACKING_PASSWORD instead")
        return uri
