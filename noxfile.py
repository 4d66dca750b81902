"""The contributor's menu: ``nox --list`` shows it, ``nox -s NAME`` runs one, ``nox -s NAME -- --help`` explains it."""

from __future__ import annotations

import nox

nox.needs_version = ">=2024.4.15"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["tests"]
nox.options.error_on_missing_interpreters = True

PROJECT = nox.project.load_toml("pyproject.toml")
CONSTRAINTS = ("--constraint", "constraints.txt")
ENVIRONMENT = {
    # No tokenizer look-ups on a model hub when laion-clap is imported: minutes without a network.
    "HF_HUB_OFFLINE": "1",
    "MPLBACKEND": "Agg",
    # Containers often set this, and then every process of a session compiles seconds of imports anew.
    "PYTHONDONTWRITEBYTECODE": "",
}
MAIN_PATHS = ("tests/test_main_paths.py", "tests/test_tensor_names.py")
"""Generation, evaluation, a table with its gate and report, and every shipped weight."""


def _install(session: nox.Session, *groups: str) -> None:
    """The package with every extra, and dependency groups, in the exact versions of ``constraints.txt``."""
    needed = nox.project.dependency_groups(PROJECT, *groups) if groups else ()
    session.install(*CONSTRAINTS, "--editable", ".[full]", *needed)


@nox.session
def tests(session: nox.Session) -> None:
    """Run every test and doctest. Arguments go to pytest, as in: -- -k samplers -x"""
    if {"-h", "--help"} & set(session.posargs):
        session.log("nox -s tests [-- PYTEST_ARGUMENT ...]: for example -- -k samplers, -- -x --lf, -- tests/vae")
        return
    _install(session, "test")
    threads = {"OMP_NUM_THREADS": "1"}  # two workers, one core each
    session.run("pytest", "--numprocesses", "2", *session.posargs, env=ENVIRONMENT | threads)


@nox.session
def tests_lowest(session: nox.Session) -> None:
    """Run the main paths with the oldest release of every library of theirs that pyproject.toml allows."""
    # The extras that no main path imports would make the environment half as large again.
    session.install("--resolution", "lowest-direct", "--editable", ".[diffusers]")
    session.install(*CONSTRAINTS, "pytest")
    session.run("pytest", *MAIN_PATHS, *session.posargs, env=ENVIRONMENT | {"OMP_NUM_THREADS": "1"})


@nox.session
@nox.parametrize("transformers", ["==5.8.1", ""], ids=["renamed-since", "newest"])
def weights_compat(session: nox.Session, transformers: str) -> None:
    """Load every shipped weight and generate, with transformers from before 5.9 renamed tensors, or the newest."""
    session.install("--editable", ".[diffusers]", f"transformers{transformers}", "pytest")
    session.run("pytest", *MAIN_PATHS, *session.posargs, env=ENVIRONMENT | {"OMP_NUM_THREADS": "1"})


@nox.session
def reproduce_table(session: nox.Session) -> None:
    """Reproduce the paper's tables with the demo weights. Arguments go to `melody reproduce`: -- --full"""
    _install(session)
    session.run("melody", "reproduce", *session.posargs, env=ENVIRONMENT)


@nox.session
def published_samples(session: nox.Session) -> None:
    """Write reports/published-samples.md again. Argument: the folder of the samples, a clone of the demo page."""
    _install(session)
    session.run("python", "benchmarks/published_samples.py", *session.posargs, env=ENVIRONMENT)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style (ruff), format, and the layers' import contract."""
    _install(session, "lint")
    session.run("ruff", "check", *session.posargs)
    session.run("ruff", "format", "--check")
    session.run("lint-imports")


@nox.session
def typecheck(session: nox.Session) -> None:
    """Check the types of the package (mypy)."""
    _install(session, "typecheck")
    session.run("mypy", *(session.posargs or ["melody"]))
