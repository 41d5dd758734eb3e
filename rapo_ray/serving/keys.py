"""Bearer keys from a file, compared in constant time and reread when the file changes."""

import hmac
import logging
import time
from collections.abc import Callable, Collection
from pathlib import Path

from rapo_ray.errors import ConfigError, named
from rapo_ray.text.lines import split_lines

MIN_LENGTH = 16
CHECK_SECONDS = 1.0  # between two checks for a changed file

log = logging.getLogger(__name__)


class KeyStore:
    """The keys of an endpoint; while their file is not usable, none is valid."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Read the keys; raises ConfigError where the file is not usable."""
        self._path = path
        self._clock = clock
        self._stamp = _stamp(path)  # before reading: a change in between is then seen
        self._keys = read_keys(path)
        self._checked = clock()

    def holder(self, authorization: str) -> str | None:
        """The name of the key in an Authorization header, or None; every call compares all keys."""
        self._reload_if_changed()
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return None
        offered = key.strip().encode("utf-8", "surrogateescape")
        holder = None
        for name, valid in self._keys.items():
            if hmac.compare_digest(valid.encode(), offered):
                holder = name
        return holder

    def _reload_if_changed(self) -> None:
        now = self._clock()
        if now - self._checked < CHECK_SECONDS:
            return
        self._checked = now
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._keys = read_keys(self._path)
        except ConfigError as error:
            self._keys = {}
            log.error("no key is valid until this is mended: %s", error)


def read_keys(path: Path) -> dict[str, str]:
    """Keys by name, from lines `name:key`; raises ConfigError, which never shows a key."""
    try:
        lines = split_lines(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"api_keys: cannot read {path} ({type(error).__name__}): give a file of `name:key` lines"
        ) from None
    keys: dict[str, str] = {}
    wrong: list[str] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, _, key = (part.strip() for part in line.partition(":"))
        if problem := _problem(name, key, keys):
            wrong.append(f"line {number}{problem}")
        keys.setdefault(name, key)
    if wrong:
        raise ConfigError(f"api_keys: {path} {named(wrong)}")
    if not keys:
        raise ConfigError(f"api_keys: {path} holds no key")
    return keys


def _problem(name: str, key: str, keys: Collection[str]) -> str | None:
    """The mistake of a line, without its key."""
    if not name or not key:
        return " is not `name:key`"
    if len(key) < MIN_LENGTH or not key.isascii() or any(character.isspace() for character in key):
        return (
            f": the key of {name!r} must be {MIN_LENGTH} or more ASCII characters without spaces "
            "(python -c 'import secrets; print(secrets.token_urlsafe(32))' makes one)"
        )
    return f": {name!r} has a key already" if name in keys else None


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ctime_ns, stat.st_size, stat.st_ino  # a copy may bring its time of modification along
