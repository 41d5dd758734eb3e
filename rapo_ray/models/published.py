"""Published models: a folder with a manifest of its run, its weights version and every file's checksum."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rapo_ray.atomic import write_json_atomically
from rapo_ray.errors import ModelError
from rapo_ray.models.chat import ChatFormat

MANIFEST = "rapo.json"
CHAT = "rapo-chat.json"


@dataclass(frozen=True, slots=True)
class Published:
    """A complete, published model of a run."""

    folder: Path
    run: str
    version: int  # of the weights: the rounds they were trained for
    checksum: str  # SHA-256 over the manifest's files, their checksums and the chat format
    config: str  # hash of the run's config
    system_prompt: str | None  # of its training
    chat: ChatFormat | None  # None where a version without formats published it

    @property
    def id(self) -> str:
        """Unique name of these weights."""
        return f"{self.run}-v{self.version}-{self.checksum[:12]}"


def write_manifest(
    folder: Path, run: str, version: int, config: str, system_prompt: str | None, chat: ChatFormat
) -> None:
    """Write the manifest of a model folder, which marks the model as complete."""
    content = {
        "run": run,
        "version": version,
        "config": config,
        "system_prompt": system_prompt,
        "chat": chat.to_json(),
        "files": {path.name: _sha256(path) for path in sorted(folder.iterdir()) if path.is_file()},
    }
    write_json_atomically(folder / MANIFEST, content)


def write_chat(folder: Path, chat: ChatFormat) -> None:
    """Write the chat format of a model that is not published, such as a warmed-up one."""
    write_json_atomically(folder / CHAT, {"chat": chat.to_json()})


def read_chat(folder: Path) -> ChatFormat | None:
    """The chat format that was written with a model; None where none was. Raises ModelError for a damaged file."""
    for path in (folder / MANIFEST, folder / CHAT):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if "chat" in content:
                return ChatFormat.from_json(content["chat"])
        except FileNotFoundError:
            continue
        except (OSError, ValueError, TypeError) as error:
            raise ModelError(f"{path} cannot be read ({type(error).__name__}): publish it again") from None
    return None


def read_published(path: Path) -> Published:
    """The published model in a model folder or a run's folder; raises ModelError where it is not complete."""
    folder = next((folder for folder in (path, path / "model") if (folder / MANIFEST).is_file()), None)
    if folder is None:
        raise ModelError(f"{path} is no published model: it has no {MANIFEST}, which a run writes when it is complete")
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files: dict[str, str] = dict(content["files"])
        published = Published(
            folder.resolve(),
            str(content["run"]),
            int(content["version"]),
            _digest(files, content.get("chat")),
            str(content["config"]),
            content["system_prompt"],
            ChatFormat.from_json(content["chat"]) if "chat" in content else None,
        )
    except KeyError as error:
        raise ModelError(f"{folder / MANIFEST} lacks {error}: publish the model again") from None
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(
            f"{folder / MANIFEST} cannot be read ({type(error).__name__}): publish the model again"
        ) from None
    for name, expected in files.items():
        if name != Path(name).name:
            raise ModelError(f"{folder / MANIFEST} names {name!r}, which is not a plain file name")
        if not (folder / name).is_file():
            raise ModelError(f"{folder} lacks {name}, which its manifest names: publish the model again")
        if (sha := _sha256(folder / name)) != expected:
            raise ModelError(f"{folder / name} has sha256 {sha[:12]}..., its manifest says {expected[:12]}...")
    return published


def _digest(files: dict[str, str], chat: dict[str, Any] | None) -> str:
    lines = [f"{name}\0{sha}\n" for name, sha in sorted(files.items())]
    if chat is not None:
        lines.append(json.dumps(chat, sort_keys=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
