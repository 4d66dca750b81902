"""The work of a run: every job is found in the store, or computed and stored before the next begins.

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
"""``progress(done, total, label of the next job, or of other work)``; the total is 0 where it is not known."""

KIND = "results"
ARRAY, CLIP = "array/", "clip/"
"""What the names of a record's arrays begin with; a clip is the bytes of its file."""
WAIT_S = 0.2
"""Between looks at jobs that another run holds."""


@dataclass
class RunSummary:
    """Outcomes by key, and how many were computed now and how many found."""

    outcomes: dict[str, JobResult | Failure] = field(default_factory=dict)
    computed: int = 0
    reused: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    """Of the jobs that were tried now, by key."""


def compute_all(
    jobs: Sequence[Job],
    store: Store,
    compute: Callable[[Job], JobResult],
    *,
    prepare: Callable[[], None] | None = None,
    progress: Progress | None = None,
) -> RunSummary:
    """Take every outcome from the store, or compute and store it; what another run is computing is waited for.

    Args:
        compute: an exception of it is that job's failure, and the others go on.
        prepare: called once if anything is missing; an exception of it ends the run.
    Raises:
        MelodyError: the store cannot be read or written.
    """
    done = RunSummary()
    missing: deque[Job] = deque()
    for job in jobs:
        found = _stored(store, job)
        if found is None:
            missing.append(job)
        else:
            done.outcomes[job.key] = found
            done.reused += 1
    if missing and prepare is not None:
        prepare()
    held_by_others = 0
    while missing:
        job = missing.popleft()
        if progress is not None:
            progress(len(done.outcomes), len(jobs), job.label)
        with store.claim(KIND, job.key) as mine:
            if mine:
                _run_one(job, store, compute, done)
                held_by_others = 0
                continue
        missing.append(job)
        held_by_others += 1
        if held_by_others >= len(missing):
            time.sleep(WAIT_S)
    if progress is not None:
        progress(len(jobs), len(jobs), "")
    return done


def _run_one(job: Job, store: Store, compute: Callable[[Job], JobResult], done: RunSummary) -> None:
    """Find or compute a job that this process holds; a failure is the job's alone."""
    found = _stored(store, job)  # another run may have finished it in the meantime
    if found is not None:
        done.outcomes[job.key] = found
        done.reused += 1
        return
    begin = time.perf_counter()
    try:
        outcome = compute(job)
    except (StorageError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a plug-in may fail in any way, and must spoil only its own cells
        done.outcomes[job.key] = Failure(one_line(error))
        return
    finally:
        done.seconds[job.key] = time.perf_counter() - begin
    _keep(store, job, outcome)
    done.outcomes[job.key] = outcome
    done.computed += 1


def _stored(store: Store, job: Job) -> JobResult | None:
    record = store.read(KIND, job.key)
    if record is None:
        return None
    arrays, clips = (
        {name.removeprefix(prefix): array for name, array in record.arrays.items() if name.startswith(prefix)}
        for prefix in (ARRAY, CLIP)
    )
    files = {name: array.tobytes() for name, array in clips.items()}
    return JobResult(record.facts["values"], arrays, files, record.facts["origin"])


def _keep(store: Store, job: Job, outcome: JobResult) -> None:
    arrays = {f"{ARRAY}{name}": array for name, array in outcome.arrays.items()}
    clips = {f"{CLIP}{name}": np.frombuffer(file, dtype=np.uint8) for name, file in outcome.clips.items()}
    facts = {"kind": job.kind, "config": job.config, "values": outcome.values, "origin": outcome.origin}
    store.write(KIND, job.key, Record({**arrays, **clips}, facts))
