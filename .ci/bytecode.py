"""Make the byte code in `PYTHONPYCACHEPREFIX` valid for as long as its source reads the same, and clear what has none.

Python takes byte code for that of its source by the time at which the source was written, which every installation
sets anew. What stands here then goes by the hash of the source, of all that this interpreter compiled.
"""

import importlib.util
import py_compile
import sys
from pathlib import Path

INSTALLED = "site-packages"
"""Sources outside change too often for their byte code to be kept."""

for compiled in Path(sys.pycache_prefix or sys.exit("PYTHONPYCACHEPREFIX is not set")).rglob("*.pyc"):
    try:
        source = Path(importlib.util.source_from_cache(str(compiled)))
    except ValueError:
        continue  # of pytest, which looks after its own
    if not source.is_file():
        compiled.unlink()
    elif compiled.stem.endswith(sys.implementation.cache_tag) and INSTALLED in source.parts:
        with compiled.open("rb") as file:
            by_hash = any(file.read(8)[4:])
        if not by_hash:
            mode = py_compile.PycInvalidationMode.CHECKED_HASH
            py_compile.compile(str(source), str(compiled), invalidation_mode=mode, quiet=2)
