"""What stands for the package ray: tasks and actors in this process, one after another."""

import itertools
from types import SimpleNamespace


class RayError(Exception):
    """As Ray's."""


class RayTaskError(RayError):
    """As Ray's: what a task or an actor has raised is its cause."""

    def __init__(self, cause):
        super().__init__(f"a traceback\nof many lines: {cause}")
        self.cause = cause


class ActorDiedError(RayError):
    """As Ray's."""


class ActorUnavailableError(RayError):
    """As Ray's."""


class Actor:
    """A handle: methods have ``remote``."""

    def __init__(self, ray, made):
        self.ray, self.made, self.dead = ray, made, False

    def __getattr__(self, name):
        def called(*arguments):
            self.ray.asked.append((name, *arguments))
            if self.ray.trouble:
                raise self.ray.trouble.pop(0)
            if self.dead:
                raise ActorDiedError("The actor died.")
            return getattr(self.made, name)(*arguments)

        return SimpleNamespace(remote=lambda *arguments: lambda: called(*arguments))


class FakeRay:
    """The module.

    Attributes:
        begun: how clusters were connected to.
        tasks: options and arguments of each task.
        actors: options of each actor that was made.
        asked: calls of actors.
        trouble: what the next calls of actors raise.
    """

    exceptions = SimpleNamespace(
        RayError=RayError, RayTaskError=RayTaskError, ActorDiedError=ActorDiedError,
        ActorUnavailableError=ActorUnavailableError,
    )  # fmt: skip

    def __init__(self, **resources):
        self.resources, self.connected = resources, False
        self.begun, self.tasks, self.actors, self.asked, self.trouble = [], [], [], [], []
        self.named = {}
        self.numbers = itertools.count()

    def is_initialized(self):
        return self.connected

    def init(self, **options):
        self.begun.append(options)
        self.connected = True

    def shutdown(self):
        self.connected = False

    def cluster_resources(self):
        return self.resources

    def remote(self, what):
        def options(**given):
            def made(*arguments):
                if not isinstance(what, type):
                    self.tasks.append((given, arguments))
                    return lambda: what(*arguments)
                if given["name"] not in self.named:
                    self.actors.append(given)
                    self.named[given["name"]] = Actor(self, what(*arguments))
                return self.named[given["name"]]

            return SimpleNamespace(remote=made)

        return SimpleNamespace(options=options)

    def get(self, future):
        try:
            return future()
        except RayError:
            raise
        except Exception as error:
            raise RayTaskError(error) from error

    def kill(self, actor):
        actor.dead = True
        self.named = {name: one for name, one in self.named.items() if one is not actor}
