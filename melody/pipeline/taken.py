"""Which options of a call a component takes: an option that it would drop in silence is refused.

A function takes an option that it names and reads, or that it hands on with others as ``**options``.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from melody.errors import MelodyError
from melody.protocols import Denoiser, LanguageModel

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "temperature": (1.0,),
    "top_k": (None,),
    "top_p": (None, 1.0),
    "guidance_scale": (1.0,),
}
"""Options of a language model's ``generate``, with the values that change nothing."""


def token_options(model: LanguageModel, who: str, **settings: Any) -> dict[str, Any]:
    """Those of ``settings`` that change what is drawn, for ``model.generate``.

    Args:
        who: whose settings they are, for messages, as in ``preset 'demo' [generation]``.
    Raises:
        MelodyError: one of them has no effect on this language model.
    """
    wanted = {name: value for name, value in settings.items() if value not in NEUTRAL[name]}
    for name, value in wanted.items():
        if not takes(type(model).generate, name):
            neutral = next(off for off in reversed(NEUTRAL[name]) if off is not None or name == "top_k")
            rest = "leave it out" if neutral is None else f"{neutral:g} is without it"
            raise MelodyError(
                f"{who}: {name} = {value:g} has no effect on language model {type(model).__name__}, whose generate "
                f"does not use it; {rest}"
            )
    return wanted


def check_guidance(denoiser: Denoiser, guidance_scale: float) -> None:
    """Raise ``MelodyError`` for guidance of a denoiser that cannot do without its tokens."""
    if guidance_scale != 1 and not takes(type(denoiser).forward, "unconditional"):
        raise MelodyError(
            f"guidance_scale = {guidance_scale:g} has no effect on denoiser {type(denoiser).__name__}, whose forward "
            "does not use unconditional; 1 is without guidance"
        )


@lru_cache(maxsize=64)
def takes(function: Callable[..., Any], name: str) -> bool:
    """Whether a call of a function with this keyword can have an effect."""
    parameters = inspect.signature(function).parameters
    rest = [parameter.name for parameter in parameters.values() if parameter.kind is inspect.Parameter.VAR_KEYWORD]
    wanted = [name] if name in parameters else rest
    if not wanted:
        return False
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):  # no source that can be read: its signature is its word
        return True
    read = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    return wanted[0] in read
