"""Every registry of the toolkit, and the class behind them.

A component is registered in-tree by a decorator, ``@samplers.register("ddim")``, and out of tree by an entry point::

    [project.entry-points."melody.samplers"]
    midpoint = "my_package:Midpoint"

Both are loaded on look-up, never on import of ``melody``. A plug-in that cannot be loaded breaks only itself.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache, wraps
from importlib.metadata import EntryPoint
from threading import RLock
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from melody.bounds import problem
from melody.errors import MelodyError, did_you_mean
from melody.extras import lacking
from melody.plugins import contained, examined, points_of, source_of


@dataclass(frozen=True)
class Parameter:
    """One constructor argument of a component: its name, its type as written, its default (``...`` if required)."""

    name: str
    type: str
    default: Any


@dataclass(frozen=True)
class Entry:
    """One registered component: where it comes from, and the component or the reason why it cannot be had."""

    name: str
    origin: str
    component: Any = None
    error: str | None = None
    version: str | None = None
    """Of the distribution that a plug-in comes from."""
    in_tree: bool = False
    summary: str | None = None
    """First line of the docstring of a plug-in, read when it was loaded."""

    @property
    def sentence(self) -> str:
        """The first line of the component's docstring, or the error that keeps it from loading."""
        if self.error is not None:
            return f"broken: {self.error}"
        return _summary(self.component) if self.summary is None else self.summary


class Registry:
    """Components of one kind by name.

    Args:
        kind: what the components are, in the plural and with underscores, as in ``language_models``.
        base: dotted path (``module:name``) of the class that every component must inherit from, or ``None`` if the
            components are plain functions. It is a path because the registry is the lowest layer.
        packages: in-tree modules or packages whose import registers our own components.
    """

    def __init__(self, kind: str, base: str | None, packages: tuple[str, ...]) -> None:
        self.kind = kind
        self.group = f"melody.{kind}"
        self._base = base
        self._packages = packages
        self._components: dict[str, Any] = {}
        self._loaded = False
        self._plugins: dict[str, Entry] | None = None
        self._lock = RLock()

    @property
    def base(self) -> Any:
        """The class that every component inherits from; ``None`` if they are functions."""
        if self._base is None:
            return None
        module, _, attribute = self._base.partition(":")
        return getattr(importlib.import_module(module), attribute)

    @property
    def label(self) -> str:
        """The kind in the singular, for messages: ``language model``."""
        return self.kind.removesuffix("s").replace("_", " ")

    def register(self, name: str) -> Callable[[Any], Any]:
        """Register the decorated class or function under ``name``; a name that is taken raises ``MelodyError``."""

        def decorate(component: Any) -> Any:
            taken = self._components.get(name)
            if taken is not None and _path(taken) != _path(component):
                raise MelodyError(
                    f"{self.label} {name!r} is registered twice: by {_path(taken)} and {_path(component)}"
                )
            if problem := self._misfit(component):
                raise MelodyError(f"{self.label} {name!r}: {problem}")
            self._components[name] = self._guarded(component, f"{self.label} {name!r}")
            return self._components[name]

        return decorate

    def _guarded(self, component: Any, what: str) -> Any:
        """The component, whose arguments are checked wherever it is built or called: from a preset, or in Python."""
        if not inspect.isclass(component):
            return _checked(component, component, what, sized=False)
        if component.__init__ is not object.__init__:  # an inherited one becomes the class's own
            sized = self.base is not None and self.base._sized
            component.__init__ = _checked(component.__init__, component, what, sized=sized)  # type: ignore[method-assign]
        return component

    def names(self) -> list[str]:
        """Names of the components that can be used, sorted."""
        return [entry.name for entry in self.entries() if entry.error is None]

    def entries(self) -> list[Entry]:
        """All components, our own first, then plug-ins; broken ones carry their error."""
        self._load_in_tree()
        own = [
            Entry(name, component.__module__, component, in_tree=True)
            for name, component in sorted(self._components.items())
        ]
        return own + [entry for _, entry in sorted(self._load_plugins().items())]

    def entry(self, name: str) -> Entry:
        """The entry called ``name``; raises ``MelodyError`` if it is unknown or cannot be loaded."""
        self._load_in_tree()
        if name in self._components:
            return Entry(name, self._components[name].__module__, self._components[name], in_tree=True)
        plugin = self._load_plugins().get(name)
        if plugin is None:
            known = set(self._components) | set(self._load_plugins())
            raise MelodyError(
                f"unknown {self.label} {name!r}{did_you_mean(name, known)}; "
                f"plug-ins use the entry-point group {self.group!r}"
            )
        if plugin.error is not None:
            raise MelodyError(f"{self.label} {name!r} from {plugin.origin} cannot be used: {plugin.error}")
        return plugin

    def get(self, name: str) -> Any:
        """The class or function registered as ``name``; raises ``MelodyError`` as ``entry`` does."""
        return self.entry(name).component

    def lacks(self, name: str) -> str:
        """The extra that a component needs and that is not installed, in one line; empty if there is none."""
        return lacking(getattr(self.get(name), "needs", ()), f"{self.label} {name!r}")

    def parameters(self, name: str) -> list[Parameter]:
        """The typed arguments that the component takes."""
        return [
            Parameter(p.name, _type_name(p.annotation), ... if p.default is inspect.Parameter.empty else p.default)
            for p in _signature(self.get(name)).values()
        ]

    def create(self, name: str, arguments: Mapping[str, Any] | None = None, *, where: str = "") -> Any:
        """Build the component ``name`` with validated arguments.

        Args:
            where: the place that the arguments come from (a file and a table), named in errors.
        Raises:
            MelodyError: unknown component, unknown argument (with the nearest valid one), a value of a wrong type, or
                a plug-in whose constructor fails, in whatever way, or whose instance lacks what its kind has.
        """
        component = self.get(name)
        given = _validated(component, dict(arguments or {}), where or f"{self.label} {name!r}")
        with self.around(name, " cannot be built"):
            built = component(**given)
            lines = () if self.base is None or self.entry(name).in_tree else self.base._has
            if problem := next((line for one in lines if (line := one.problem(built))), None):
                raise MelodyError(f"{self.label} {name!r} from {self.entry(name).origin}: {problem}")
            return built

    def around(self, name: str, what: str = "") -> AbstractContextManager[None]:
        """What a component is called in: a plug-in's failures, exits too, become ``MelodyError``."""
        entry = self.entry(name)
        return nullcontext() if entry.in_tree else contained(f"{self.label} {name!r} from {entry.origin}{what}: ")

    def validate(self, name: str, arguments: Mapping[str, Any], *, where: str) -> dict[str, Any]:
        """Check ``arguments`` as ``create`` does, and return them with types converted and defaults filled in."""
        component = self.get(name)
        given = _validated(component, dict(arguments), where)
        defaults = {p.name: p.default for p in self.parameters(name) if p.default is not ...}
        return {**defaults, **given}

    def __contains__(self, name: str) -> bool:
        return name in self.names()

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def _load_in_tree(self) -> None:
        if self._loaded:
            return
        for name in self._packages:
            package = importlib.import_module(name)
            for module in pkgutil.iter_modules(getattr(package, "__path__", [])):
                importlib.import_module(f"{name}.{module.name}")
        self._loaded = True

    def _load_plugins(self) -> dict[str, Entry]:
        with self._lock:  # so that no thread finds some of them only
            if self._plugins is None:
                self._plugins = {}
                points, unreadable = points_of(self.group)
                for point in points:
                    self._plugins[point.name] = self._load_plugin(point)
                for distribution, reason in unreadable:
                    line = f"its entry points cannot be read: {reason}"
                    self._plugins.setdefault(distribution, Entry(distribution, distribution, error=line))
            return self._plugins

    def _load_plugin(self, point: EntryPoint) -> Entry:
        origin, version = source_of(point)
        if point.name in self._components:
            return Entry(point.name, origin, error="the name is taken by melody itself")
        if self._plugins and point.name in self._plugins:
            return Entry(point.name, origin, error=f"the name is taken by {self._plugins[point.name].origin} too")

        def look() -> tuple[Any, str | None, str]:
            component = point.load()
            problem = self._misfit(component)
            return component, problem, "" if problem else _described(component)

        facts, error = examined(look)
        component, problem, summary = facts or (None, error, "")
        return Entry(point.name, origin, component, problem, version, summary=summary)

    def _misfit(self, component: Any) -> str | None:
        """Why a component cannot be registered: its base class, what it lacks, and what it declares wrongly."""
        if self._base is None:
            return None if callable(component) else f"expected a function, got {type(component).__name__}"
        base = self.base
        if not (inspect.isclass(component) and issubclass(component, base)):
            return f"expected a subclass of {_path(base)}, got {_path(component)}"
        if missing := sorted(getattr(component, "__abstractmethods__", ())):
            return f"{_path(component)} lacks {', '.join(missing)}"
        for rule in base._declares:
            if problem := rule.problem(component):
                return f"{_path(component)}: {problem}"
        supplied = base._supplied
        lacking = [] if supplied is None else [n for n, p in _signature(component).items() if p.default is p.empty]
        for argument in lacking:
            if argument not in supplied:
                return f"{_path(component)}: argument {argument!r} has no default, and nothing gives it a value"
        return None


def _path(component: Any) -> str:
    return f"{getattr(component, '__module__', '?')}.{getattr(component, '__qualname__', repr(component))}"


def _summary(component: Any) -> str:
    return (inspect.getdoc(component) or "").partition("\n")[0]


def _described(component: Any) -> str:
    """The summary of a component whose arguments can be described."""
    _arguments_model(component)
    return _summary(component)


def _type_name(annotation: Any) -> str:
    """As it is written, with the bounds that an annotation adds: ``int, 1 to 128``.

    >>> from melody.bounds import Layers
    >>> _type_name(Layers)
    'int, 1 to 128'
    """
    if annotation is inspect.Parameter.empty:
        return "Any"
    if typing.get_origin(annotation) is typing.Annotated:
        plain, *notes = typing.get_args(annotation)
        bounds = [text for note in notes if (text := _bounds(getattr(note, "metadata", ())))]
        return ", ".join([_type_name(plain), *bounds])
    if inspect.isclass(annotation) and not typing.get_args(annotation):
        return annotation.__name__
    if typing.get_origin(annotation) is tuple:
        return f"tuple[{', '.join('...' if item is ... else _type_name(item) for item in typing.get_args(annotation))}]"
    return str(annotation).replace("typing.", "")


def _bounds(metadata: Iterable[Any]) -> str:
    """The bounds of a pydantic field in words."""
    limits = {
        name: getattr(limit, name) for limit in metadata for name in ("ge", "gt", "le", "lt") if hasattr(limit, name)
    }
    low = f"{limits['ge']:g}" if "ge" in limits else f"above {limits['gt']:g}" if "gt" in limits else ""
    high = f"{limits['le']:g}" if "le" in limits else f"below {limits['lt']:g}" if "lt" in limits else ""
    return f"{low} to {high}" if low and high else low or high


def _signature(component: Any) -> dict[str, inspect.Parameter]:
    """Arguments by name, with string annotations resolved; ``*args`` and ``**kwargs`` left out."""
    function = component.__init__ if inspect.isclass(component) else component
    hints = typing.get_type_hints(function, include_extras=True)
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {
        name: p.replace(annotation=hints.get(name, p.annotation))
        for name, p in inspect.signature(function).parameters.items()
        if p.kind not in variadic and name != "self"
    }


@lru_cache(maxsize=512)
def _arguments_model(component: Any) -> type[BaseModel]:
    """What checks the arguments of a component, by their annotations."""
    fields: dict[str, Any] = {
        name: (
            Any if p.annotation is inspect.Parameter.empty else p.annotation,
            ... if p.default is inspect.Parameter.empty else p.default,
        )
        for name, p in _signature(component).items()
    }
    config = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=(), allow_inf_nan=False)
    return create_model("Arguments", __config__=config, **fields)


def _checked(function: Callable[..., Any], component: Any, what: str, *, sized: bool) -> Callable[..., Any]:
    """The function, which refuses by ``MelodyError`` arguments outside the bounds of their annotations.

    Args:
        sized: whether it builds what may be too large for the memory.
    """
    signature = inspect.signature(function)

    @wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            return function(*args, **kwargs)  # Python's own error names the argument
        fields = _arguments_model(component).model_fields
        given = {name: value for name, value in bound.arguments.items() if name in fields}
        bound.arguments.update(_validated(component, given, what))
        if not sized:
            return function(*bound.args, **bound.kwargs)
        from melody.memory import within_memory

        return within_memory(lambda: function(*bound.args, **bound.kwargs), what)

    return checked


def _validated(component: Any, arguments: dict[str, Any], where: str) -> dict[str, Any]:
    model = _arguments_model(component)
    for key in arguments:
        if key not in model.model_fields:
            raise MelodyError(f"{where}: unknown key {key!r}{did_you_mean(key, model.model_fields)}")
    try:
        checked = model(**arguments)
    except ValidationError as error:
        first = error.errors()[0]
        raise MelodyError(f"{where}: {'.'.join(map(str, first['loc']))}: {problem(first)}") from None
    return {key: getattr(checked, key) for key in arguments}


language_models = Registry("language_models", "melody.protocols:LanguageModel", ("melody.lm",))
denoisers = Registry("denoisers", "melody.protocols:Denoiser", ("melody.diffusion",))
codecs = Registry("codecs", "melody.protocols:Codec", ("melody.vae",))
token_codecs = Registry("token_codecs", "melody.protocols:TokenCodec", ("melody.vae",))
samplers = Registry("samplers", "melody.protocols:Sampler", ("melody.samplers",))
grids = Registry("grids", None, ("melody.diffusion",))
semantic_tokenizers = Registry("semantic_tokenizers", "melody.protocols:SemanticTokenizer", ("melody.conditioning",))
joint_embedders = Registry("joint_embedders", "melody.protocols:JointEmbedder", ("melody.conditioning",))
audio_embedders = Registry("audio_embedders", "melody.protocols:AudioEmbedder", ("melody.embedders",))
audio_taggers = Registry("audio_taggers", "melody.protocols:AudioTagger", ("melody.embedders",))
metrics = Registry("metrics", "melody.protocols:Metric", ("melody.metrics",))
systems = Registry("systems", "melody.protocols:System", ("melody.baselines",))
tables = Registry("tables", "melody.reproduce.tables.table:Table", ("melody.reproduce.tables",))

REGISTRIES: dict[str, Registry] = {
    registry.kind: registry
    for registry in (
        language_models,
        denoisers,
        codecs,
        token_codecs,
        samplers,
        grids,
        semantic_tokenizers,
        joint_embedders,
        audio_embedders,
        audio_taggers,
        metrics,
        systems,
        tables,
    )
}


def parse_component(text: str) -> tuple[str, dict[str, str]]:
    """``NAME``, or ``NAME:argument=value,argument=value``.

    >>> parse_component("vggish:weights=/models/vggish.pth")
    ('vggish', {'weights': '/models/vggish.pth'})
    """
    name, _, rest = text.partition(":")
    arguments = dict(part.partition("=")[::2] for part in rest.split(",") if part)
    if "" in arguments.values():
        raise MelodyError(f"cannot read {text!r}: expected NAME, or NAME:argument=value,argument=value")
    return name, arguments


def registry(kind: str) -> Registry:
    """The registry of a kind, as in ``samplers``; raises ``MelodyError`` with the nearest valid kind."""
    if kind not in REGISTRIES:
        raise MelodyError(f"unknown kind of component {kind!r}{did_you_mean(kind, REGISTRIES)}")
    return REGISTRIES[kind]
