"""The tokenizers of a model repository."""

from __future__ import annotations

import pathlib

from .errors import Fault, not_found
from .tokenizer import Tokenizer


class Catalog:
    """The loaded tokenizers, by name and version."""

    def __init__(self, models: pathlib.Path) -> None:
        self._versions: dict[str, dict[str, Tokenizer]] = {}
        for name in sorted(path for path in models.iterdir() if path.is_dir() and not path.name.startswith(".")):
            folders = {path.name: path for path in name.iterdir() if path.is_dir() and path.name.isdecimal()} or {"1": name}
            # The highest version is served, as the other services do.
            version = max(folders, key=int)
            if (folders[version] / "tokenizer.json").is_file():
                self._versions[name.name] = {version: Tokenizer(name.name, version, folders[version])}
        if not self._versions:
            raise SystemExit(f"the model repository {models} has no model folder with a tokenizer.json")

    @property
    def default(self) -> str:
        """The one that an empty name means: the first by name."""
        return next(iter(self._versions))

    def all(self) -> list[Tokenizer]:
        return [tokenizer for versions in self._versions.values() for tokenizer in versions.values()]

    def get(self, name: str, version: str) -> Tokenizer:
        """The tokenizer of this name and version; empty = the default one, and the highest."""
        versions = self._versions.get(name or self.default)
        if versions is None:
            raise self._unknown(name)
        if version and version not in versions:
            loaded = ", ".join(versions)
            raise not_found("UNKNOWN_TOKENIZER_VERSION", f"the tokenizer '{name}' has no version '{version}' loaded: {loaded}")
        return versions[version] if version else next(iter(versions.values()))

    def _unknown(self, name: str) -> Fault:
        return not_found("UNKNOWN_TOKENIZER", f"no tokenizer '{name[:256]}' is loaded: there are {', '.join(self._versions)}")
