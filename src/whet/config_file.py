"""The file that `--config` names: YAML, one option a line."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from whet.errors import PathError, SettingsError


def read_config(path: str | None) -> dict[str, Any]:
    """The options in a file; none without one.

    Raises `PathError` where it cannot be read, `SettingsError` where it does not hold options, or holds one twice.
    """
    if path is None:
        return {}
    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=Once)
    except OSError as error:
        raise PathError(f"cannot read the config file {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"the config file {path} is not YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingsError(f"the config file {path} must hold lines like 'learning_rate: 1e-4'")
    # YAML 1.1 reads 1e-4 as a text; Settings turns it into a number like any flag.
    named = [(str(name).replace("-", "_"), value) for name, value in content.items()]
    twice = next((name for name, count in Counter(name for name, _ in named).items() if count > 1), None)
    if twice:
        raise SettingsError(f"the config file {path} gives {twice} twice; keep one of them")
    return dict(named)


class Once(yaml.SafeLoader):
    """Reads YAML and refuses a key that stands in a mapping twice, of which YAML itself would keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is given twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)
