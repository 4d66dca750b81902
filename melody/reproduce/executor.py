"""The work of a run: every unit is found in the store, or computed and stored before the next begins.

So an interrupted run goes on where it ended, and two runs on one store share the work.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from melody.artifacts.store import Record, Store
from melody.errors import StorageError, one_line
from melody.reproduce.jobs.job import Failure, Job, JobResult

Progress = Callable[[int, int, str], None]
"""``progress(done, total, label of the next unit, or of other work)``; the total is 0 where it is not known."""

KIND = "results"
ARRAY, CLIP = "array/", "clip/"
"""What the names of a record's arrays begin with; a clip is the bytes of its file."""
WAIT_S = 0.2
"""Between looks at units that another run holds."""


@dataclass
class RunSummary:
    """Outcomes by key, and how many were computed now and how many found."""

    outcomes: dict[str, JobResult | Failure] = field(default_factory=dict)
    computed: int = 0
    reused: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    """Of the units that were tried now, by key."""


def compute_all(
    units: Sequence[Job],
    store: Store,
    compute: Callable[[Job], JobResult],
    *,
    prepare: Callable[[], None] | None = None,
    progress: Progress | None = None,
) -> RunSummary:
    """Take every outcome from the store, or compute and store it; what another run is computing is waited for.

    Args:
        compute: an exception of it is that unit's failure, and the others go on.
        prepare: called once if anything is missing; an exception of it ends the run.
    Raises:
        MelodyError: the store cannot be read or written.
    """
    done = RunSummary()
    missing: deque[Job] = deque()
    for unit in units:
        found = _stored(store, unit)
        if found is None:
            missing.append(unit)
        else:
            done.outcomes[unit.key] = found
            done.reused += 1
    if missing and prepare is not None:
        prepare()
    held_by_others = 0
    while missing:
        unit = missing.popleft()
        if progress is not None:
            progress(len(done.outcomes), len(units), unit.label)
        with store.claim(KIND, unit.key) as mine:
            if mine:
                _run_one(unit, store, compute, done)
                held_by_others = 0
                continue
        missing.append(unit)
        held_by_others += 1
        if held_by_others >= len(missing):
            time.sleep(WAIT_S)
    if progress is not None:
        progress(len(units), len(units), "")
    return done


def _run_one(unit: Job, store: Store, compute: Callable[[Job], JobResult], done: RunSummary) -> None:
    """Find or compute a unit that this process holds; a failure is the unit's alone."""
    found = _stored(store, unit)  # another run may have finished it in the meantime
    if found is not None:
        done.outcomes[unit.key] = found
        done.reused += 1
        return
    begin = time.perf_counter()
    try:
        outcome = compute(unit)
    except (StorageError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a plug-in may fail in any way, and must spoil only its own cells
        done.outcomes[unit.key] = Failure(one_line(error))
        return
    finally:
        done.seconds[unit.key] = time.perf_counter() - begin
    _keep(store, unit, outcome)
    done.outcomes[unit.key] = outcome
    done.computed += 1


def _stored(store: Store, unit: Job) -> JobResult | None:
    record = store.read(KIND, unit.key)
    if record is None:
        return None
    arrays, clips = (
        {name.removeprefix(prefix): array for name, array in record.arrays.items() if name.startswith(prefix)}
        for prefix in (ARRAY, CLIP)
    )
    files = {name: array.tobytes() for name, array in clips.items()}
    return JobResult(record.facts["values"], arrays, files, record.facts["origin"])


def _keep(store: Store, unit: Job, outcome: JobResult) -> None:
    arrays = {f"{ARRAY}{name}": array for name, array in outcome.arrays.items()}
    clips = {f"{CLIP}{name}": np.frombuffer(file, dtype=np.uint8) for name, file in outcome.clips.items()}
    facts = {"kind": unit.kind, "config": unit.config, "values": outcome.values, "origin": outcome.origin}
    store.write(KIND, unit.key, Record({**arrays, **clips}, facts))
