"""Download of one file of a Hugging Face dataset at a pinned commit."""

import os
from pathlib import Path

from rapo_ray.errors import DataError


def fetch(dataset: str, file: str, revision: str) -> Path:
    """Path of the file in the hub client's cache, downloaded first if necessary; raises DataError."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import GatedRepoError

    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}
    try:
        path = hf_hub_download(dataset, file, repo_type="dataset", revision=revision, local_files_only=offline)
    except GatedRepoError as error:
        raise DataError(
            f"dataset {dataset!r}, file {file!r} at {revision}: the dataset is gated: accept its terms on its page, "
            f"datasets/{dataset} of the hub, and set HF_TOKEN to a token of the account that did"
        ) from error
    except Exception as error:  # the client passes on whatever its HTTP library raises; for the user it is one error
        if offline:
            why = "it is not in the hub cache, and HF_HUB_OFFLINE forbids fetching it"
        else:
            why = "the hub did not give it: " + (" ".join(str(error).split())[:200] or type(error).__name__)
        raise DataError(f"dataset {dataset!r}, file {file!r} at {revision}: {why}") from error
    return Path(path)
