"""What the baselines of this repository share: a preset that names one of MeLoDy's, whose parts read the prompt."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import nn

from melody import __version__
from melody.artifacts.files import file_hash
from melody.artifacts.makings import Makings
from melody.config import INDIFFERENT, Preset, SystemPreset, content_hash, load_preset
from melody.devices import device_of
from melody.errors import MelodyError
from melody.pipeline import build_part, load_part, shipped_weights
from melody.pipeline.parts import fill_fitted
from melody.protocols import System


class BaselinePreset(SystemPreset):
    """A preset of a system that shares parts with MeLoDy, so that conditioning is equal."""

    melody: str
    """MeLoDy's preset whose parts (``shared``) this system uses as they are."""

    @property
    @abstractmethod
    def shared(self) -> tuple[str, ...]:
        """Parts of MeLoDy's preset that it uses."""

    def melody_preset(self) -> Preset:
        """MeLoDy's preset that it names."""
        return load_preset(self.melody)

    def owner(self, part: str) -> SystemPreset:
        """The preset that describes a part: this one or MeLoDy's."""
        return self if part in self.parts else self.melody_preset()

    def files(self, folder: Path) -> dict[str, Path]:
        """The file of each part, its own first; of what is MeLoDy's, in the folder or as shipped."""
        files = super().files(folder)
        for part in self.shared:
            own = folder / f"{part}.safetensors"
            files[part] = own if own.is_file() else shipped_weights(self.melody_preset()) / own.name
        return files

    def components(self) -> dict[str, tuple[str, str]]:
        theirs = self.melody_preset().components()
        return super().components() | {part: theirs[part] for part in self.shared if part in theirs}

    def decisive(self) -> dict[str, Any]:
        own = self.model_dump(mode="json", exclude={*INDIFFERENT, "melody"})
        return {"own": own, "melody": self.melody_preset().model_dump(mode="json", include=set(self.shared))}

    def hash(self) -> str:
        return content_hash([self.model_dump(), self.melody_preset().hash()])


class PresetSystem(System):
    """A baseline that is built from a preset, with weights or with random ones.

    Args:
        preset: a shipped preset's name, or the path of a TOML file.
        weights: folder with ``PART.safetensors`` of its own parts, and of what it shares with MeLoDy where that is not
            what ships with MeLoDy's preset; without it, the weights shipped.
        device: cpu, cuda or cuda:N.
    Raises:
        MelodyError: unknown preset, missing, damaged or foreign weights, a device that is not there.
    """

    preset_type: ClassVar[type[BaselinePreset]]

    def __init__(self, preset: str = "demo", weights: str | Path | None = None, device: str = "cpu") -> None:
        loaded = load_preset(preset, self.preset_type)
        folder = _folder(loaded, weights)
        if not folder.is_dir():
            raise MelodyError(
                f"{self.name} preset {loaded.name!r} has no weights in {folder}; train them (melody train all --system "
                f"{self.name} --preset {loaded.name}) and give their folder"
            )
        files = loaded.files(folder)
        parts = {part: load_part(loaded.owner(part), part, path) for part, path in files.items()}
        self._take(loaded, parts, {part: file_hash(path) for part, path in files.items()}, device)

    @classmethod
    def random(cls, preset: str | Path = "demo", *, seed: int = 0, device: str = "cpu") -> Self:
        """The system with random weights, for counting and timing; on the device "meta" it has shapes only."""
        loaded, system = load_preset(preset, cls.preset_type), cls.__new__(cls)
        with torch.random.fork_rng(), _device(device):
            torch.manual_seed(seed)
            parts = {part: build_part(loaded.owner(part), part) for part in (*loaded.parts, *sorted(loaded.shared))}
            if device != "meta":
                fill_fitted(parts)
        system._take(loaded, parts, {"seed": str(seed)}, device)
        return system

    @classmethod
    def makings(cls, arguments: Mapping[str, Any]) -> Makings:
        """Its own preset, what it takes of MeLoDy's, and the files of both's weights."""
        loaded = load_preset(arguments.get("preset", "demo"), cls.preset_type)
        files = loaded.files(_folder(loaded, arguments.get("weights")))
        return Makings(loaded.name, loaded.decisive(), loaded.components(), files)

    def identity(self) -> dict[str, Any]:
        """Preset, weights and versions."""
        return {
            "preset": self.preset.name,
            "preset_hash": self.preset.hash(),
            "weights": self.hashes,
            "versions": {"melody": __version__, "torch": torch.__version__},
        }

    def _take(self, preset: BaselinePreset, parts: dict[str, nn.Module], hashes: dict[str, str], device: str) -> None:
        self.preset, self.melody = preset, preset.melody_preset()
        self.parts, self.hashes = parts, hashes
        self.device = _device(device)
        self._use(parts)
        for part in parts.values():
            part.eval().requires_grad_(False).to(self.device)

    @abstractmethod
    def _use(self, parts: dict[str, Any]) -> None:
        """Keep the parts, by name; ``preset``, ``melody`` and ``device`` are there already."""


def _folder(preset: BaselinePreset, weights: str | Path | None) -> Path:
    return Path(weights) if weights is not None else shipped_weights(preset)


def _device(device: str) -> torch.device:
    return torch.device("meta") if device == "meta" else device_of(device)
