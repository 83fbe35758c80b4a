"""What sentence-transformers' files beside a model say of its embeddings."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import transformers
from decoder.anatomy import Unsupported

POOLINGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
    "pooling_mode_max_tokens": "max",
}
# The modules that there may be, by the last part of their type.
KNOWN = ("Transformer", "Pooling", "Normalize", "MLMTransformer", "SpladePooling", "CrossEncoder")


@dataclasses.dataclass
class Sentences:
    """How token vectors become a text's, and what stands in front of texts."""

    pooling: str | None = None
    normalize: bool = False
    max_tokens: int | None = None
    prompts: dict[str, str] = dataclasses.field(default_factory=dict)
    default_prompt: str | None = None


def read(source: str) -> Sentences:
    """Of a local folder or a name on Hugging Face; without such files nothing is said."""
    modules = _json(source, "modules.json") or []
    kinds = {module["type"].rsplit(".", 1)[-1]: module["path"] for module in modules}
    if strange := [kind for kind in kinds if kind not in KNOWN]:
        raise Unsupported(f"modules.json: {', '.join(strange)} is not supported: {', '.join(KNOWN)} are")
    settings = _json(source, "config_sentence_transformers.json") or {}
    return Sentences(
        pooling=_pooling(_json(source, f"{kinds['Pooling']}/config.json") or {}) if "Pooling" in kinds else None,
        normalize="Normalize" in kinds,
        max_tokens=(_json(source, "sentence_bert_config.json") or {}).get("max_seq_length"),
        prompts=settings.get("prompts") or {},
        default_prompt=settings.get("default_prompt_name"),
    )


def _pooling(config: dict) -> str:
    if not config.get("include_prompt", True):
        raise Unsupported("1_Pooling/config.json: include_prompt = false is not supported")
    modes = [mode for mode, on in config.items() if mode.startswith("pooling_mode_") and on is True]
    modes = [config["pooling_mode"]] if isinstance(config.get("pooling_mode"), str) else [POOLINGS.get(mode, mode) for mode in modes]
    modes = ["last" if mode == "lasttoken" else mode for mode in modes]
    if len(modes) != 1 or modes[0] not in POOLINGS.values():
        raise Unsupported(f"1_Pooling/config.json: pooling {', '.join(modes) or 'none'} is not supported: one of {', '.join(POOLINGS.values())} is")
    return modes[0]


def _json(source: str, name: str):
    path = transformers.utils.cached_file(source, name, _raise_exceptions_for_missing_entries=False)
    return None if path is None else json.loads(pathlib.Path(path).read_text())
