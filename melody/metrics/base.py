"""torchmetrics' ``Metric`` (here ``TorchMetric``) and what merges its states, without the rest of that package.

``import torchmetrics`` runs a file that imports every metric of every field, and with them torchvision, matplotlib's
pyplot and scipy.signal: three seconds of each command, more where no byte code may be written. So a module of the
package's name stands in until somebody asks it for anything else, and then becomes the package, with the same classes.
"""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

NAME = "torchmetrics"


def _stand_in(spec: ModuleSpec) -> ModuleType:
    """A module whose submodules can be imported, and which runs the package's own file at the first other look-up."""
    package = ModuleType(NAME)
    package.__spec__, package.__file__ = spec, spec.origin
    package.__path__ = list(spec.submodule_search_locations or ())
    package._logger = logging.getLogger(NAME)  # type: ignore[attr-defined]  # its submodules may ask for it

    def whole(name: str) -> Any:
        if name.startswith("__") and name != "__all__" and name != "__version__":
            raise AttributeError(f"module {NAME!r} has no attribute {name!r}")
        vars(package).pop("__getattr__", None)
        assert spec.loader is not None
        spec.loader.exec_module(package)
        return getattr(package, name)

    package.__getattr__ = whole  # type: ignore[method-assign]
    return package


def _light() -> None:
    if NAME in sys.modules:
        return
    spec = find_spec(NAME)
    assert spec is not None, "torchmetrics is a dependency of this package"
    sys.modules[NAME] = _stand_in(spec)
    try:
        import_module(f"{NAME}.utilities")  # before its metric module, which imports it in turn
    except ImportError:  # a release with another order of imports: the whole package, then
        for name in [name for name in sys.modules if name.split(".")[0] == NAME]:
            del sys.modules[name]


_light()

from torchmetrics.metric import Metric as TorchMetric  # noqa: E402
from torchmetrics.utilities import dim_zero_cat  # noqa: E402
from torchmetrics.utilities.distributed import gather_all_tensors  # noqa: E402

__all__ = ["TorchMetric", "dim_zero_cat", "gather_all_tensors"]
