"""Application: the page and its answers, for ``gpurender explore``; a Starlette application.

    GET  /                  the page
    GET  /static/NAME       its parts; the files of this package alone, read when the server starts
    GET  /api/start         families, presets, policies, and what the page opens with
    GET  /api/alive         whether the server is there
    POST /api/draw          {"slot": ..., "recipe": "visualatom-1k", "set": {"orbits": "[1, 9]"}, "class": 0, ...}
                            -> pictures, the values of all parameters, fingerprint, JSON, Python
    POST /api/sheet         {..., "cells": [[0, 0], [0, 1]], "side": 96} -> small pictures

What a family does not allow is answered 400 with its sentence and the parameter's name; every other refusal and error
is JSON with a sentence, too, but what uvicorn answers by itself. Bodies are JSON of at most
1 MiB, canvases have at most 2048 pixels a side, and nothing that a request brings is unpickled or taken as a path. The
disk has a part in an answer where the library itself keeps something in the user's cache: compiled kernels, and the
categories that a search has found.
"""

import contextlib
import importlib.resources
import json
import logging
import time
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gpurender.augment.named import POLICIES
from gpurender.commands.explorer import asked, easel
from gpurender.commands.explorer.asked import Asked
from gpurender.commands.explorer.code import python_of
from gpurender.commands.explorer.guard import Guard
from gpurender.commands.explorer.parameters import described
from gpurender.commands.explorer.slots import Slots
from gpurender.commands.recipe import as_text, size
from gpurender.recipes.base import Recipe
from gpurender.util import checks
from gpurender.util.version import __version__
from gpurender.util.web import json_body, json_error

log = logging.getLogger("gpurender")

MAX_BODY = 1 << 20  # bytes: the 1,000 categories of a published FractalDB are 500 kB
LONGEST_VALUE = 4000  # characters: a longer value is not sent back to the page, which has stated it
FIRST = Asked("visualatom-1k", {})  # what the page opens with if nothing is said
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class Page:
    """The answers.

    Args:
        first: what the page opens with.
    """

    def __init__(self, first: Asked = FIRST) -> None:
        self._first = first
        self._easel, self._slots = easel.Easel(), Slots()
        self._files = _files()

    def warm_up(self) -> None:
        """Draw the picture that the page opens with: kernels are compiled or read, which takes seconds."""
        with contextlib.suppress(TypeError, ValueError):  # the page will say what is wrong with it
            self._easel.draw(self._first.recipe, 0, 0, None, False)

    def end(self) -> None:
        """Give up all answers under way."""
        self._slots.end()

    async def index(self, request: Request) -> Response:
        """Answer the page."""
        return self._file("index.html")

    async def static(self, request: Request) -> Response:
        """Answer a part of the page."""
        return self._file(request.path_params["name"])

    def _file(self, name: str) -> Response:
        if name not in self._files:
            raise HTTPException(404, "there is no such file")
        return Response(self._files[name], media_type=TYPES[name[name.rindex(".") :]])

    async def alive(self, request: Request) -> Response:
        """Answer that the server is there."""
        return JSONResponse({"gpurender": __version__})

    async def start(self, request: Request) -> Response:
        """Answer what there is to choose from, and what the page opens with."""
        return JSONResponse({
            "version": __version__, "families": _families(), "policies": list(POLICIES),
            "first": {"recipe": self._first.base, "set": self._first.settings},
        })  # fmt: skip

    async def draw(self, request: Request) -> Response:
        """Answer one sample of a recipe, and all that the page says of the recipe."""
        given = await json_body(request, asked.KEYS, MAX_BODY)
        return await self._answer(request, given, lambda: self._drawn(given))

    async def sheet(self, request: Request) -> Response:
        """Answer small pictures of samples."""
        given = await json_body(request, asked.SHEET_KEYS, MAX_BODY)
        return await self._answer(request, given, lambda: self._sheet(given))

    async def _answer(self, request: Request, given: dict[str, Any], make: Callable[[], dict[str, Any]]) -> Response:
        try:
            return JSONResponse(await self._slots.newest(given.get("slot"), make, request.is_disconnected))
        except HTTPException:
            raise
        except (TypeError, ValueError) as error:
            text, names = " ".join(str(error).split()), _names(given.get("recipe"))
            return JSONResponse({"error": text, "parameter": asked.parameter_of(text, names)}, 400)
        except Exception as error:  # the page says it, and goes on
            log.error("gpurender explore: %s", text := _in_one_line(error), exc_info=error)
            return JSONResponse({"error": text, "parameter": None}, 500)

    def _drawn(self, given: dict[str, Any]) -> dict[str, Any]:
        since = time.perf_counter()
        wanted = Asked.of(given.get("recipe"), given.get("set", {}))
        label, instance = asked.place("class", given.get("class", 0)), asked.place("instance", given.get("instance", 0))
        augment = asked.policy_name(given.get("augment"))
        fresh = checks.boolean("fresh", given.get("fresh", False))
        recipe = wanted.recipe
        label = min(label, recipe.classes - 1)
        counts = recipe.class_counts()
        instance = min(instance, max(0, int(counts[label]) - 1))
        drawn = self._easel.draw(recipe, label, instance, augment, fresh)
        return {
            "class": label, "instance": instance, "instances": int(counts[label]), "most": int(counts.max()),
            "sample": drawn.sample,
            "label": drawn.label, "canvas": easel.url(drawn.canvas), "views": list(map(easel.url, drawn.views)),
            "brightness": round(drawn.brightness, 2), **_facts(wanted), "milliseconds": easel.timed(since),
        }  # fmt: skip

    def _sheet(self, given: dict[str, Any]) -> dict[str, Any]:
        wanted = Asked.of(given.get("recipe"), given.get("set", {}))
        side = checks.integer("side", given.get("side"), 16, asked.MOST_CELL)
        cells, augment = asked.cells(given.get("cells")), asked.policy_name(given.get("augment"))
        pictures = self._easel.sheet(wanted.recipe, cells, side, augment)
        return {"pictures": [None if picture is None else easel.url(picture) for picture in pictures]}


def _in_one_line(error: Exception) -> str:
    """Return what an error that no parameter explains says, with its type."""
    return " ".join(f"{type(error).__name__}: {error}".split())


async def _failed(request: Request, error: Exception) -> Response:
    """Answer an error of any other request as JSON, which the page says; the server logs it."""
    return JSONResponse({"error": _in_one_line(error)}, 500)


def _facts(wanted: Asked) -> dict[str, Any]:
    """Return what the page says of a recipe beside its pictures."""
    recipe = wanted.recipe
    values = {name: json.dumps(value) for name, value in json.loads(recipe.to_json()).items() if name != "gpurender"}
    for name, value in vars(recipe).items():  # options that JSON leaves out
        if value is None:
            values.setdefault(name, "null")
    preset = wanted.base if wanted.preset is not None else None
    return {
        "family": recipe.family, "classes": recipe.classes, "side": recipe.image_size, "size": size(recipe),
        "fingerprint": recipe.fingerprint, "paper": recipe.source, "json": as_text(recipe),
        "python": python_of(recipe, preset, wanted.values),
        "values": {name: text for name, text in values.items() if len(text) <= LONGEST_VALUE},
        "parameters": [parameter.data() for parameter in described(_short(wanted.data))],
    }  # fmt: skip


def _short(data: dict[str, Any]) -> dict[str, Any]:
    """Return values without tables and pictures that would take long to check for every parameter again.

    The parameters that a recipe has are then those of one that searches for its classes, say.
    """
    few = {name: value for name, value in data.items() if len(json.dumps(value)) <= LONGEST_VALUE}
    return {**asked.STARTS.get(data["family"], {}), **few}


def _names(base: Any) -> list[str]:
    """Return the parameters of the family that a base's name stands for."""
    kinds = (kind for name, kind in Recipe.families.items() if base == name or base in kind.presets)
    return [name for kind in kinds for name in kind.__dataclass_fields__]


def _families() -> list[dict[str, Any]]:
    """Return the families: names, presets, papers."""
    return [
        {"name": name, "presets": list(kind.presets), "paper": kind.paper if isinstance(kind.paper, str) else ""}
        for name, kind in sorted(Recipe.families.items())
    ]


def _files() -> dict[str, bytes]:
    """Return the files of the page, by name."""
    folder = importlib.resources.files(__package__).joinpath("static")
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name[file.name.rfind(".") :] in TYPES}


def application(page: Page, token: str | None = None) -> Guard:
    """Return the application.

    Args:
        page: the answers.
        token: what a request must bring; ``None``: requests to this machine's loopback are answered.
    """
    routes = [
        Route("/", page.index),
        Route("/static/{name}", page.static),
        Route("/api/start", page.start),
        Route("/api/alive", page.alive),
        Route("/api/draw", page.draw, methods=["POST"]),
        Route("/api/sheet", page.sheet, methods=["POST"]),
    ]
    handlers: dict[Any, Any] = {HTTPException: json_error, Exception: _failed}
    return Guard(Starlette(routes=routes, exception_handlers=handlers), token)
