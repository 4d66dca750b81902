"""``save_pretrained``, ``from_pretrained`` and ``push_to_hub`` of every part and of the pipeline, by huggingface_hub.

A folder of model files holds

- ``config.json``: the version of the format, and a part's table as in a preset: ``{"codec": {"use": "fourier-vae"}}``.
  A pipeline's has the whole preset, so any one part can be loaded from a pipeline's folder too;
- ``PART.safetensors``: the weights, bound to the same component;
- ``card.json``, ``CARD.md``: the card of the weights, where there is one; ``README.md``: the hub's model card.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from huggingface_hub import ModelHubMixin

from melody import registry
from melody.artifacts.hub import EVERYTHING, local_folder
from melody.devices import device_of
from melody.documents import read_json_table
from melody.errors import MelodyError, MelodyWarning

if TYPE_CHECKING:
    from melody.artifacts.weights import Precision

CONFIG, CARD, CARD_TEXT, README = "config.json", "card.json", "CARD.md", "README.md"
PAPER = "https://arxiv.org/abs/2305.15719"
CONFIG_VERSION = "1"
MARKER = "<!-- written by melody-toolkit; SHA-256 of the text above:"
TEMPLATE = """---
{{ card_data }}
---

# {{ title }}

For [MeLoDy Toolkit](https://arxiv.org/abs/2305.15719), the open implementation of *Efficient Neural Music Generation*:

```python
{{ usage }}
```

{{ weights_card }}
"""


class Pretrained(
    ModelHubMixin,
    library_name="melody-toolkit",
    license="apache-2.0",
    pipeline_tag="text-to-audio",
    tags=["music", "music-generation"],
    paper_url=PAPER,
    model_card_template=TEMPLATE,
):
    """What parts and pipeline share: the folder, its config and its cards."""

    _card: dict[str, Any] | None = None
    """Card of the weights by part, as loaded."""
    _card_text: str | None = None

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        device: str = "cpu",
    ) -> Self:
        """Load from a folder that ``save_pretrained`` wrote, or from the hub (``OWNER/NAME``); for inference.

        Args:
            revision: branch, tag or commit on the hub; token, cache_dir, force_download, local_files_only: as
                everywhere in huggingface_hub.
            device: cpu, cuda or cuda:N.
        Raises:
            MelodyError: no such folder or model, no network, another component, damaged or foreign weights, or no
                such device.
        """
        device_of(device)  # before anything is downloaded
        folder = local_folder(
            pretrained_model_name_or_path,
            cls._hub_patterns(),
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
        )
        return cls._from_folder(folder, read_config(folder), device)

    def save_pretrained(  # type: ignore[override]
        self,
        save_directory: str | Path,
        *,
        dtype: Precision = "float16",
        config: None = None,
        model_card_kwargs: dict[str, Any] | None = None,
    ) -> None:
        """Write weights, config and card into a folder: all of them, or none. To upload: ``push_to_hub``.

        A README.md that was written here and is unchanged is written anew; an edited one stays, with a warning.

        Args:
            dtype: of the stored floating-point tensors, float16 or float32.
            config: huggingface_hub's; always None, for a model's config is what it was built with.
            model_card_kwargs: further values for the template of README.md.
        Raises:
            MelodyError: values that are not finite in ``dtype``, a folder with other model files, or no space.
        """
        from melody.artifacts.files import whole_folder, write_bytes

        folder, tables = Path(save_directory), self._config_tables()
        _check_target(folder, tables)
        with whole_folder(folder) as scratch:
            self._save_pretrained(scratch, dtype)
            write_config(scratch, tables)
            self._write_card(scratch)
            written = {path.name for path in scratch.iterdir()}
            if _is_edited(folder / README):
                edited = f"{folder / README} was edited, so it stays: it may describe other weights"
                warnings.warn(edited, MelodyWarning, stacklevel=2)
            else:
                readme = str(self.generate_model_card(**(model_card_kwargs or {})))
                write_bytes(scratch / README, _marked(readme).encode())
        for name in {CARD, CARD_TEXT} - written:  # of the weights that were here before
            (folder / name).unlink(missing_ok=True)

    def generate_model_card(self, *args: Any, **kwargs: Any) -> Any:
        tables = self._config_tables()
        title = tables.get("name") or ", ".join(f"{table.get('use', part)} ({part})" for part, table in tables.items())
        usage = (
            f'from {type(self).__module__} import {type(self).__name__}\n\n{type(self).__name__}.from_pretrained("…")'
        )
        text = self._card_text or ""
        if self._card and not text:
            text = f"```json\n{json.dumps(self._card, indent=1, sort_keys=True)}\n```"
        text = text.replace("# Card of the weights", "## Card of the weights", 1)
        return super().generate_model_card(*args, **{"title": title, "usage": usage, "weights_card": text, **kwargs})

    def _save_pretrained(self, save_directory: Path, dtype: Precision = "float16") -> None:
        raise NotImplementedError

    def _config_tables(self) -> dict[str, Any]:
        """What ``config.json`` holds, but for the version."""
        raise NotImplementedError

    @classmethod
    def _hub_patterns(cls) -> tuple[str, ...]:
        """Files of a repository that loading needs."""
        return EVERYTHING

    @classmethod
    def _from_folder(cls, folder: Path, config: dict[str, Any], device: str) -> Self:
        raise NotImplementedError

    def _write_card(self, folder: Path) -> None:
        """The card that the weights came with, its hashes those of the files in ``folder``."""
        from melody.artifacts.files import file_hash, write_bytes

        if not self._card:
            return
        card = {
            part: {**entry, "sha256": file_hash(folder / f"{part}.safetensors")} for part, entry in self._card.items()
        }
        write_bytes(folder / CARD, json.dumps(card, indent=1, sort_keys=True).encode())
        if self._card_text:
            write_bytes(folder / CARD_TEXT, self._card_text.encode())


class PretrainedPart(Pretrained):
    """A component with weights. Called on the base class of a kind, as in ``Codec.from_pretrained(folder)``,
    ``from_pretrained`` returns whichever codec the folder holds; on a component's own class, only that one.
    """

    _role: ClassVar[str]
    """The part's name in a preset."""
    _preset_name: str | None = None
    """Of the preset that the weights were made for."""

    def _bound_to(self) -> dict[str, Any]:
        """What the weights are bound to: the component's name and all of its arguments."""
        components = _components(self._role)
        names = [entry.name for entry in components.entries() if entry.component is type(self)]
        if not names:
            raise MelodyError(
                f"{type(self).__name__} is not registered as a {components.label}, so its files could not name it; "
                f"register it by the decorator or an entry point of {components.group!r}"
            )
        where = f"{type(self).__name__}"
        given: dict[str, Any] = self._hub_mixin_config or {}  # type: ignore[assignment]
        if lost := [p.name for p in components.parameters(names[0]) if p.name not in given]:
            raise MelodyError(f"{where}: the argument {lost[0]!r} is no plain value, so config.json cannot hold it")
        return {"use": names[0], "arguments": components.validate(names[0], given, where=where)}

    def _config_tables(self) -> dict[str, Any]:
        component = self._bound_to()
        return {self._role: {"use": component["use"], **component["arguments"]}}

    def _save_pretrained(self, save_directory: Path, dtype: Precision = "float16") -> None:
        from melody.artifacts.weights import save_weights

        if not getattr(self, "state_dict", dict)():
            return
        path = save_directory / f"{self._role}.safetensors"
        save_weights(self, path, self._bound_to(), preset=self._preset_name, dtype=dtype)  # type: ignore[arg-type]

    @classmethod
    def _hub_patterns(cls) -> tuple[str, ...]:
        return (f"{cls._role}.safetensors", CONFIG, CARD)

    @classmethod
    def _from_folder(cls, folder: Path, config: dict[str, Any], device: str) -> Self:
        import torch

        from melody.artifacts.weights import load_weights

        if not isinstance(config.get(cls._role), dict):
            there = ", ".join(key for key, table in config.items() if isinstance(table, dict))
            raise MelodyError(f"{folder / CONFIG} has no {cls._role.replace('_', ' ')}; it has: {there or 'nothing'}")
        with torch.random.fork_rng():  # random weights that are replaced at once must not move the caller's stream
            part: Any = cls._from_tables(config, str(folder / CONFIG))
        if getattr(part, "state_dict", dict)():  # a component without parameters and buffers has no file
            load_weights(part, folder / f"{cls._role}.safetensors", part._bound_to(), wanted=str(folder / CONFIG))
        part._preset_name = config.get("name")
        part._card = {role: entry for role, entry in (read_card(folder) or {}).items() if role == cls._role}
        loaded: Any = part.eval().to(device) if isinstance(part, torch.nn.Module) else part
        return loaded  # type: ignore[no-any-return]

    @classmethod
    def _from_tables(cls, config: dict[str, Any], where: str) -> PretrainedPart:
        """The component that the config names, with random weights."""
        components = _components(cls._role)
        arguments = dict(config[cls._role])
        name = arguments.pop("use", None)
        if not isinstance(name, str):
            raise MelodyError(f'{where}: [{cls._role}] has no "use": expected one of {", ".join(components.names())}')
        if not issubclass(components.get(name), cls):
            kind = components.label
            raise MelodyError(
                f"{where} has the {kind} {name!r}, which is {components.get(name).__name__}, not {cls.__name__}"
            )
        built: PretrainedPart = components.create(name, arguments, where=f"{where} [{cls._role}]")
        return built


def write_config(folder: Path, tables: dict[str, Any]) -> None:
    """Write ``config.json``."""
    from melody.artifacts.files import write_bytes

    content = json.dumps({"format_version": CONFIG_VERSION, **tables}, indent=2, ensure_ascii=False)
    write_bytes(folder / CONFIG, content.encode())


def read_config(folder: Path) -> dict[str, Any]:
    """The tables of ``config.json``; raises ``MelodyError`` if it is missing, malformed or of another format."""
    content = _table(folder / CONFIG)
    if content is None:
        hint = "name the preset of these weights, or let melody export write it"
        raise MelodyError(f"there is no {CONFIG} in {folder}: {hint}")
    version = content.pop("format_version", None)
    if version != CONFIG_VERSION:
        raise MelodyError(f"{folder / CONFIG} has format version {version!r}, expected {CONFIG_VERSION!r}")
    return content


def read_card(folder: Path) -> dict[str, Any] | None:
    """The card of the weights in a folder, by part, if there is one."""
    return _table(folder / CARD)


def _table(path: Path) -> dict[str, Any] | None:
    return read_json_table(path) if path.exists() else None


def _marked(text: str) -> str:
    """The text with a last line by which ``_is_edited`` knows it again."""
    text = text.rstrip() + "\n"
    return f"{text}{MARKER} {hashlib.sha256(text.encode()).hexdigest()} -->\n"


def _is_edited(readme: Path) -> bool:
    """Whether the file is there and not as ``_marked`` left it."""
    if not readme.exists():
        return False
    content = readme.read_bytes().decode(errors="replace").replace("\r\n", "\n")
    return content != _marked(content.rpartition(MARKER)[0])


def _check_target(folder: Path, tables: dict[str, Any]) -> None:
    """Saving again over the same kind of model is fine; over another one would leave a mixture."""
    there = _table(folder / CONFIG)
    if there is not None and {*there} - {"format_version"} != {*tables}:
        names = ", ".join(key for key, value in there.items() if isinstance(value, dict))
        raise MelodyError(f"{folder} holds other model files already ({names or CONFIG}); choose another folder")


def _components(role: str) -> registry.Registry:
    return registry.registry(f"{role}s")
