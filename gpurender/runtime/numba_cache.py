"""Compiled versions of Numba kernels on disk, instead of Numba's own cache.

Numba keeps the versions beside the source, in an index and data files without checksums, and fails if these files are
damaged or cannot be written. This module replaces that cache in a kernel (``numba.core.caching`` has the interface) and
keeps each version, one per signature and CPU, with :mod:`gpurender.runtime.kernel_cache`. Numba uses the cache when a
kernel is called with new types, never at other calls. This module was tested with Numba 0.58 to 0.68; if Numba's
internals differ from these versions, kernels are compiled in every process.
"""

import functools
import hashlib
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba.core import compiler, config, serialize, sigutils

from gpurender.runtime import kernel_cache
from gpurender.util import kernel_sources

log = logging.getLogger("gpurender")

CompileResult: Any = compiler.CompileResult


def attach(dispatcher: Any) -> None:
    """Replace a kernel's cache with this one; leave a plain function, as under ``NUMBA_DISABLE_JIT``, unchanged."""
    if not hasattr(dispatcher, "py_func"):
        return
    try:
        for owner, parts in (
            (dispatcher._cache, ("load_overload", "save_overload", "enable", "disable", "flush", "cache_path")),
            (CompileResult, ("_reduce", "_rebuild")),
            (serialize, ("dumps",)),
        ):
            for part in parts:
                getattr(owner, part)
        dispatcher._cache = Versions(dispatcher.py_func)
    except Exception as error:
        _strange(error)


class Versions:
    """The compiled versions of one kernel, with the interface of Numba's caches. No method raises an error."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._enabled = True
        kernel_sources.fingerprint()  # the sources as they are now, at import

    @property
    def cache_path(self) -> str | None:
        """The folder of the versions."""
        place = kernel_cache.numba_folder()
        return None if place is None else str(place)

    def load_overload(self, sig: Any, target_context: Any) -> CompileResult | None:
        """Return the compiled version of a signature, or ``None`` if none is kept or it cannot be used."""
        try:
            target_context.refresh()  # fills the context, which must precede any linking
            path = self._path(sig, target_context)
            data = None if path is None else kernel_cache.load(path)
            return None if data is None else CompileResult._rebuild(target_context, *pickle.loads(data))
        except Exception as error:
            _strange(error)
            return None

    def save_overload(self, sig: Any, cres: CompileResult) -> None:
        """Keep the compiled version of a signature, if it can be kept."""
        try:
            path = self._path(sig, cres.target_context)
            if path is None or cres.lifted or cres.library.has_dynamic_globals:  # these hold addresses of this process
                return
            kernel_cache.save(path, serialize.dumps(cres._reduce()))
        except Exception as error:
            _strange(error)

    def enable(self) -> None:
        """Load and keep from now on."""
        self._enabled = True

    def disable(self) -> None:
        """Stop loading and keeping from now on."""
        self._enabled = False

    def flush(self) -> None:
        """Do nothing: the files belong to all processes, and are valid as long as the name of their folder is."""

    def _path(self, sig: Any, target_context: Any) -> Path | None:
        """Return the file of a signature on this CPU."""
        place = kernel_cache.numba_folder()
        function = self._function
        if place is None or not self._enabled or function.__closure__ is not None:
            return None
        arguments, returned = sigutils.normalize_signature(sig)
        law = (
            function.__module__,
            function.__qualname__,
            hashlib.sha256(function.__code__.co_code).hexdigest(),
            [str(kind) for kind in arguments],
            str(returned),
            target_context.codegen().magic_tuple(),  # operating system, CPU and its features
            [repr(getattr(config, name, None)) for name in ("OPT", "BOUNDSCHECK", "DEBUGINFO_DEFAULT")],
        )
        name = hashlib.sha256(repr(law).encode()).hexdigest()[:32]
        whose = f"{function.__module__}.{function.__name__}".removeprefix("gpurender.kernels.")
        return place / f"{whose}-{name}.numba"


@functools.cache
def _told(reason: str) -> None:
    log.info("a kernel is compiled again, or not kept: %s", reason)


def _strange(error: Exception) -> None:
    """Log an error of Numba or pickle, once per message."""
    _told(f"{type(error).__name__}: {error}")
