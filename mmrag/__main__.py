"""The `mmrag` command: makes sure that the programs beside the library are mmrag's own, then hands over to `apps.cli`.

The folders `ingest`, `apps` and `eval` have common names. A stranger's package or folder of such a name, first on the
import path or installed over ours, would run in our place: that is said plainly instead.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

SIBLINGS = ("ingest", "apps", "eval")
SIGNATURE = '"""Part of mmrag:'
"""How the `__init__.py` of each sibling begins."""


def foreign_sibling() -> str | None:
    """A sentence about the first sibling that Python would import from somewhere else; None when all are ours."""
    home = Path(__file__).resolve().parent.parent
    for name in SIBLINGS:
        spec = find_spec(name)
        if spec is None:
            return f"mmrag is not whole: its package `{name}` is missing; run  pip install --force-reinstall mmrag"
        ours = home / name / "__init__.py"
        if spec.origin is None or Path(spec.origin).resolve() != ours:
            where = spec.origin or list(spec.submodule_search_locations or ())
            return (
                f"mmrag cannot start: Python would import the package `{name}` from {where} instead of {ours}. "
                "Start it from another folder, take that one off PYTHONPATH, or use a virtual environment of its own."
            )
        if not ours.read_text(encoding="utf-8").startswith(SIGNATURE):
            return (
                f"mmrag cannot start: another installed package has overwritten `{name}` in {home}. "
                "Install mmrag in a virtual environment of its own."
            )
    return None


def main() -> None:
    problem = foreign_sibling()
    if problem:
        print(problem, file=sys.stderr)
        raise SystemExit(1)
    import_module("apps.cli").main()


if __name__ == "__main__":
    main()
