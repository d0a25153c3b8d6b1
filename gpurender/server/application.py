"""Application: a server's folder by HTTP, for ``gpurender serve``; a Starlette application.

    GET  /catalogue.json                  what there is
    GET  /experts/NAME.safetensors        an expert; byte ranges, ETag
    GET  /partitions/NAME.json            the files of a part of an image folder
    POST /recommend                       {"scores": {...}, "budget": 10000000, "max_share": 0.8} -> a recommendation
    POST /report                          {"scores": {...}, "result": 0.7} -> kept for later studies, if the server
                                          was started so

Only files that the catalogue names are sent, so no path leads out of the folder. Bodies are JSON of at most 256 KiB,
and nothing is unpickled. A client has a number of requests per minute, by its address.
"""

import asyncio
import collections
import contextlib
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from gpurender.server.catalogue import CATALOGUE, Catalogue
from gpurender.server.data_server import DataServer
from gpurender.util import checks
from gpurender.util.web import json_body, json_error

log = logging.getLogger("gpurender")

MAX_BODY = 1 << 18  # bytes: scores of 1,024 experts are 130 kB
RATE = 600  # requests per minute and client
MAX_CLIENTS = 65_536  # whose requests are counted; beyond them the longest silent ones are forgotten
MAX_REPORTS = 1 << 30  # bytes of the file of reports
REPORTS = "reports.jsonl"
POST_KEYS = {"recommend": ("scores", "budget", "max_share", "seed"), "report": ("scores", "result")}


class Rates:
    """How many requests each client may still make: a bucket of ``RATE`` that fills again within a minute."""

    def __init__(self, per_minute: int) -> None:
        self._most = float(per_minute)
        self._left: collections.OrderedDict[str, tuple[float, float]] = collections.OrderedDict()

    def allows(self, client: str, now: float) -> bool:
        """Return whether a client may make a request at a time in seconds, and count it."""
        left, then = self._left.pop(client, (self._most, now))
        left = min(self._most, left + (now - then) * self._most / 60.0)
        allowed = left >= 1.0
        self._left[client] = (left - allowed, now)
        if len(self._left) > MAX_CLIENTS:
            self._left.popitem(last=False)
        return allowed


class _Site:
    """The answers of one server.

    Args:
        folder: of the server.
        reports: whether reports are taken.
        rate: requests per minute and client.
    """

    def __init__(self, folder: Path, reports: bool, rate: int) -> None:
        self.folder = folder
        self._reports = reports
        self._rates = Rates(rate)
        self._server, self._mark = DataServer(folder), (0, 0)  # inode and time of the catalogue that was read
        self._writing = asyncio.Lock()

    def server(self) -> DataServer:
        """Return the server; it is read again when its catalogue has changed, as by ``gpurender experts add``.

        Raises:
            HTTPException: the catalogue has been damaged or removed meanwhile.
        """
        try:
            found = os.stat(self.folder / CATALOGUE)
            mark = found.st_ino, found.st_mtime_ns
            if mark != self._mark:
                self._server, self._mark = DataServer(self.folder), mark
        except (OSError, ValueError) as error:
            log.warning("%s", error)
            raise HTTPException(503, "the catalogue of this server cannot be read") from None
        return self._server

    def _check_rate(self, request: Request) -> None:
        client = request.client.host if request.client else ""
        if not self._rates.allows(client, time.monotonic()):
            raise HTTPException(429, "too many requests", {"Retry-After": "10"})

    # ------------------------------------------------------------------------------------------------------- answers

    async def about(self, request: Request) -> Response:
        """Answer what this server is."""
        self._check_rate(request)
        there = self.server().catalogue
        return JSONResponse({
            "gpurender": "data server", "task": there.task, "kind": there.kind, "experts": len(there.experts),
            "sources": len(there.sources), "reports": self._reports,
        })  # fmt: skip

    async def catalogue(self, request: Request) -> Response:
        """Answer the catalogue."""
        self._check_rate(request)
        return _file(self.folder / CATALOGUE, "application/json")

    async def expert(self, request: Request) -> Response:
        """Answer an expert, or a range of its bytes."""
        self._check_rate(request)
        found = {expert.path: expert for expert in self.server().catalogue.experts}
        expert = found.get(f"experts/{request.path_params['name']}")
        if expert is None:
            raise HTTPException(404, "there is no such expert")
        return _file(self.folder / expert.path, "application/octet-stream")

    async def partition(self, request: Request) -> Response:
        """Answer the list of a part's files."""
        self._check_rate(request)
        there: Catalogue = self.server().catalogue
        paths = {entry.path for entry in there.sources} if there.kind == "files" else set()
        path = f"partitions/{request.path_params['name']}"
        if path not in paths:
            raise HTTPException(404, "there is no such part")
        return _file(self.folder / path, "application/json")

    async def recommend(self, request: Request) -> Response:
        """Answer a recommendation."""
        self._check_rate(request)
        given = await json_body(request, POST_KEYS["recommend"], MAX_BODY)
        options = {name: given[name] for name in ("max_share", "seed") if name in given}
        scores: Any = given.get("scores")
        try:
            found = await run_in_threadpool(self.server().recommend, scores, budget=given.get("budget"), **options)
        except (TypeError, ValueError) as error:
            raise HTTPException(400, str(error)) from None
        answer = json.loads(found.to_json())
        answer |= {"recipe": None if found.recipe is None else json.loads(found.recipe.to_json()), "files": found.files}
        return JSONResponse(answer)

    async def report(self, request: Request) -> Response:
        """Keep a report: a client's scores, and what came of the recommendation."""
        self._check_rate(request)
        if not self._reports:
            raise HTTPException(404, "this server takes no reports")
        given = await json_body(request, POST_KEYS["report"], MAX_BODY)
        try:
            scores = self.server().catalogue.scores(given.get("scores"))  # type: ignore[arg-type]
            result = checks.real("result", given.get("result"), -1e9, 1e9)
        except (TypeError, ValueError) as error:
            raise HTTPException(400, str(error)) from None
        names = [expert.name for expert in self.server().catalogue.experts]
        line = json.dumps({"scores": dict(zip(names, scores.tolist(), strict=True)), "result": result})
        async with self._writing:
            await run_in_threadpool(self._keep, line)
        return JSONResponse({"kept": True}, 201)

    def _keep(self, line: str) -> None:
        path = self.folder / REPORTS
        size = path.stat().st_size if path.exists() else 0
        if size > MAX_REPORTS:
            raise HTTPException(507, "there are too many reports")
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            with contextlib.suppress(OSError):
                os.truncate(path, size)  # the next line must not follow half a line
            log.warning("%s: %s", path, error.strerror)
            raise HTTPException(507, "the report cannot be kept") from None


def _file(path: Path, kind: str) -> Response:
    if not path.is_file():
        raise HTTPException(404, "the file is not there")
    return FileResponse(path, media_type=kind)


def application(folder: Path, *, reports: bool = False, rate: int = RATE) -> Starlette:
    """Return the application of a server's folder.

    Args:
        folder: of the server.
        reports: whether ``POST /report`` is taken.
        rate: requests per minute and client.

    Raises:
        ValueError: the folder holds no server.
    """
    site = _Site(folder, reports, rate)
    routes = [
        Route("/", site.about),
        Route(f"/{CATALOGUE}", site.catalogue),
        Route("/experts/{name}", site.expert),
        Route("/partitions/{name}", site.partition),
        Route("/recommend", site.recommend, methods=["POST"]),
        Route("/report", site.report, methods=["POST"]),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: json_error})
