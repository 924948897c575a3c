"""A plan as a file: YAML, as whet explain writes it."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import ValidationError

from whet.errors import PathError, SettingsError, UsageError
from whet.plan.strategy import Strategy
from whet.plan.values import Plan


def read_plan(path: str) -> Strategy:
    """The plan in a YAML file, as a strategy that gives it for any model. Raises `PathError` and `SettingsError`."""
    try:
        plan = Plan.model_validate(yaml.safe_load(Path(path).read_text(encoding="utf-8")))
    except OSError as error:
        raise PathError(f"cannot read the plan {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"the plan {path} is not YAML: {' '.join(str(error).split())}") from error
    except UsageError as error:
        raise SettingsError(f"the plan {path} cannot be read\n  {error}") from error
    except ValidationError as error:
        faults = [f"  {'.'.join(map(str, fault['loc'])) or 'all of it'}: {fault['msg']}" for fault in error.errors()]
        raise SettingsError(f"the plan {path} cannot be read\n" + "\n".join(faults)) from error
    return Strategy(f"of {path}", lambda *_: plan)
