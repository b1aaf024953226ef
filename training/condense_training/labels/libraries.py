"""The `transformers` library, imported where it is needed, or an error that says what is wrong."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from condense_ros.errors import ConfigError, EnvironmentProblem

#: image processors without torchvision are broken in some versions before
_INSTALL = "pip install 'condense_ros[labels]', or: pip install 'transformers>=5.20,<6'"


def transformers() -> Any:
    """The module. Its classes are looked up by name, so that they cost nothing until then.

    Raises:
        EnvironmentProblem: not installed, or beside a torchvision that does not fit torch, which
            keeps most of its classes from being imported.
    """
    if importlib.util.find_spec("transformers") is None:
        raise EnvironmentProblem("this needs the package transformers", _INSTALL)
    if importlib.util.find_spec("torchvision") is not None:
        import torch

        try:
            importlib.import_module("torchvision")
        except Exception as error:
            raise EnvironmentProblem(
                f"the installed torchvision does not work with torch {torch.__version__} ({error})",
                "pip uninstall torchvision (nothing here needs it), or install the one that "
                "belongs to this torch",
            ) from error
    module: Any = importlib.import_module("transformers")
    module.utils.logging.set_verbosity_error()
    module.utils.logging.disable_progress_bar()
    return module


def transformers_class(name: str, purpose: str) -> Any:
    """A class of `transformers`.

    Raises:
        EnvironmentProblem: the installed version does not have it.
    """
    module = transformers()
    try:
        return getattr(module, name)
    except (AttributeError, ImportError, RuntimeError):
        raise EnvironmentProblem(
            f"transformers {module.__version__} has no usable {name}, which {purpose} needs",
            _INSTALL,
        ) from None


def torch_type(name: str) -> Any:
    """float32, bfloat16 or float16 of torch.

    Raises:
        ConfigError: another name.
    """
    import torch

    types = {
        "float32": torch.float32,
        "bfloat16": torch.bfloat16,
        "float16": torch.float16,
    }
    if name not in types:
        raise ConfigError(f"dtype {name!r} is unknown", f"use one of {', '.join(types)}")
    return types[name]
