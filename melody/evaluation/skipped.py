"""Input that cannot be scored: told file by file, and only then refused as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from melody.data.corpus import InvalidFile
from melody.errors import MelodyError
from melody.evaluation.result import Skipped


class BadInputError(MelodyError):
    """Files that cannot be scored; ``skipped`` has each with its reason, for a line each."""

    def __init__(self, skipped: Sequence[Skipped]) -> None:
        self.skipped = list(skipped)
        first = f"{self.skipped[0].file}: {self.skipped[0].reason}"
        count = f"{len(self.skipped)} things" if len(self.skipped) > 1 else "one thing"
        super().__init__(f"{count} cannot be scored, and nothing was left out (--skip-bad does): {first}")


class SkipList:
    """What is left out: listed and counted if that is allowed, else refused, many at once."""

    def __init__(self, skip_bad: bool) -> None:
        self.skipped: list[Skipped] = []
        self._skip_bad = skip_bad

    def add(self, folder: Path | None, faults: Iterable[InvalidFile], metrics: Sequence[str] = ()) -> None:
        """Faults of files, named with their folder."""
        for fault in faults:
            name = fault.file if folder is None else str(folder / fault.file)
            skipped = Skipped(file=name, reason=fault.reason, metrics=list(metrics))
            if skipped not in self.skipped:  # two sets may share a reference
                self.skipped.append(skipped)

    def raise_if_any(self) -> None:
        """Raise ``BadInputError`` if anything was added that must not be left out."""
        if self.skipped and not self._skip_bad:
            raise BadInputError(self.skipped)
