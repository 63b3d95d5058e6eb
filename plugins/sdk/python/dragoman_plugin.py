"""Turns one small class into a plugin of Dragoman.

    from dragoman_plugin import serve

    class Shout:
        "Answers in capitals."
        keys = {"suffix": {"type": "string", "default": "!"}}

        def __init__(self, config):
            self.suffix = config["suffix"]

        def translate(self, request):
            return request.text.upper() + self.suffix

    if __name__ == "__main__":
        serve(Shout)

README.md beside this file is the author's manual. It needs the file
dragoman_plugin.binpb beside it, and the packages grpcio and protobuf, at least as
Debian 12 has them (1.51 and 3.21).

Import it first: when the gateway has started the program, the import keeps
standard output for the gateway, so that what other modules print at their own
import cannot be taken for the handshake.
"""

import collections
import contextlib
import copy
import ctypes
import dataclasses
import faulthandler
import hmac
import inspect
import json
import logging
import os
import pathlib
import queue
import re
import signal
import stat
import sys
import threading
import time
import typing
from concurrent import futures

try:
    import grpc
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
except ImportError as _missing:
    sys.exit(f"dragoman_plugin: {_missing}; {sys.executable} needs grpcio and protobuf: "
             "apt-get install python3-grpcio python3-protobuf, and name /usr/bin/python3 as the program")

__all__ = ["serve", "Request", "Pair", "Result", "Usage", "Limits", "Limit", "Error", "ConfigError", "KINDS", "parse_duration", "parse_size"]

# As plugins/wire says.
_PROTOCOL = 1
_COOKIE = ("DRAGOMAN_PLUGIN", "a plugin of dragoman")
_SECRET = ("PLUGIN_SECRET_FD", "dragoman-secret")  # a descriptor to read it from, and the header that carries it
_FILE = "PLUGIN_FILE"  # where the program stands that is executed as a copy
_MAX_MESSAGE = 8 << 20  # bytes, either way
_MAX_DETAIL = 300  # characters of Error.detail that the gateway keeps
_MAX_CAUSE = 200  # characters of Error.cause

_THREADS = 16  # calls of the author's code at once, unless serve says otherwise
_WAITING = 256  # calls that may wait for one of these threads
_CONTROL = 8  # threads that answer how the program is, whatever the others do
_GRACE = 1.5  # seconds for calls in flight after Shutdown; the gateway kills after 3

#: What an Error may be. The gateway counts anything else as provider_failed.
KINDS = (
    "invalid_request", "unsupported_language", "too_large", "unauthorized", "forbidden", "not_found", "overloaded",
    "unavailable", "rate_limited", "quota_exceeded", "deadline_exceeded", "provider_failed", "provider_refused",
    "bad_answer", "canceled", "internal",
)


class Pair(typing.NamedTuple):
    """A text and its translation."""

    source: str
    target: str


@dataclasses.dataclass(frozen=True)
class Request:
    """One text to translate. It is never changed: dataclasses.replace copies it."""

    id: str  #: identifies it in the gateway's log and in ours
    text: str
    source: str  #: BCP-47; empty when the client did not say
    target: str  #: BCP-47
    context: typing.Tuple[Pair, ...] = ()  #: concluded pairs of the conversation, oldest first; one without a target is text around this one
    formality: str = ""  #: "", "formal" or "informal"
    glossary: str = ""  #: the name of the glossary that holds; empty for one without
    instructions: typing.Tuple[str, ...] = ()
    client: str = ""
    session: str = ""
    segment: str = ""
    revision: int = 0
    final: bool = True
    lane: str = "final"  #: "final", "partial" or "bulk"
    no_cache: bool = False
    attempt: int = 0  #: how many calls were made for this text before this one
    deltas: bool = False  #: whether pieces of the answer are wanted as they come
    glossary_version: str = ""  #: changes with the content of the glossary; empty without one
    terms: typing.Tuple[Pair, ...] = ()  #: those that occur in the text, each with the translation that is wanted
    #: Set when nobody waits for the answer any more: the caller has left, or the
    #: deadline has passed. Long work looks at it, or waits with it.
    over: threading.Event = dataclasses.field(default_factory=threading.Event, repr=False, compare=False)
    _remaining: typing.Callable[[], float] = dataclasses.field(default=lambda: 60.0, repr=False, compare=False)

    def remaining(self):
        """Returns the seconds until the deadline, 0 when it has passed."""
        return self._remaining()


@dataclasses.dataclass(frozen=True)
class Usage:
    """Tokens, as the upstream bills them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0  #: the part of prompt_tokens that the upstream had cached


@dataclasses.dataclass(frozen=True)
class Limit:
    """One upstream allowance a minute."""

    limit: int
    remaining: int
    reset: float  #: seconds until remaining is limit again


@dataclasses.dataclass(frozen=True)
class Limits:
    """What the upstream said about its limits; None where it said nothing."""

    requests: typing.Optional[Limit] = None
    tokens: typing.Optional[Limit] = None


@dataclasses.dataclass(frozen=True)
class Result:
    """A translation, where more than its text is to be said."""

    text: str
    source: str = ""  #: the language that was detected
    model: str = ""
    finish: str = ""  #: "", "stop", "length" or "content_filter"
    flags: typing.Tuple[str, ...] = ()
    usage: Usage = Usage()
    no_store: bool = False  #: it must not be kept for others
    limits: Limits = Limits()  #: of a provider's answer
    provider: str = ""  #: set in what a stage's after gets
    cached: bool = False  #: set in what a stage's after gets


class Error(Exception):
    """Why a request has no result.

    kind is one of KINDS. detail is a sentence for the client: no text of a
    request, no key, nothing that an upstream server wrote. field is the path of
    the request's field at fault. retryable says that another attempt may succeed,
    retry_after in how many seconds. cause is for the log alone, without keys.
    limits is what the upstream said about its limits, spent what the call cost.
    """

    def __init__(self, kind, detail, *, field="", retryable=False, retry_after=0.0, cause="", limits=Limits(), spent=Usage()):
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is no kind of error; known are {', '.join(KINDS)}")
        super().__init__(f"{kind}: {detail}")
        self.kind, self.detail, self.field, self.cause = kind, detail, field, cause
        self.retryable, self.retry_after = retryable, retry_after
        self.limits, self.spent = limits, spent


class ConfigError(Exception):
    """What is wrong with a configuration, by key: {"models[1].path": "there is no such file"}."""

    def __init__(self, mistakes):
        super().__init__("; ".join(f"{field}: {detail}" for field, detail in mistakes.items()))
        self.mistakes = dict(mistakes)


_UNITS = {"ns": 1e-9, "us": 1e-6, "\u00b5s": 1e-6, "\u03bcs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_STEP = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|\u00b5s|\u03bcs|ms|s|m|h)")
_SIZES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def parse_duration(text):
    """Returns the seconds that a duration of pipeline.yaml says: "250ms", "1h30m", "0"."""
    steps = list(_STEP.finditer(text)) if isinstance(text, str) else []
    if text != "0" and (not steps or "".join(step[0] for step in steps) != text):
        raise ValueError("must be a duration, such as 250ms, 1.5s or 1h30m")
    return float(sum(float(step[1]) * _UNITS[step[2]] for step in steps))


def parse_size(text):
    """Returns the bytes that a size of pipeline.yaml says: "64MiB", "10 KB", 4096."""
    if isinstance(text, int) and not isinstance(text, bool) and text >= 0:
        return text
    found = re.fullmatch("([0-9]+) *(|B|KB|MB|GB|KiB|MiB|GiB)", text) if isinstance(text, str) else None
    if found is None:
        raise ValueError("must be a size, such as 64MiB or 4096")
    return int(found[1]) * _SIZES[found[2]]


def serve(*classes, threads=_THREADS):
    """Serves classes until the gateway ends the program; it does not return.

    A class with translate is a provider, one with before or after is a stage; a
    program serves at most one of each. threads is how many calls run in them at
    once; more wait.
    """
    name = os.path.splitext(os.path.basename(os.path.realpath(sys.argv[0])))[0]
    try:
        program = _Program(name, classes, threads)
    except (TypeError, ValueError) as mistake:
        _end(2, f"{name}: {mistake}")
    if _host is not None:
        _end(*_host.serve(program))
    if len(sys.argv) == 3 and sys.argv[1] == "--listen":
        _end(*_listen(program, sys.argv[2]))
    _end(2, f"""{name} is a plugin of Dragoman, which starts it: name it in pipeline.yaml, "command: [{sys.executable}, {sys.argv[0]}]".
To start it yourself: {sys.executable} {sys.argv[0]} --listen unix:PATH, and "address: unix:PATH" in pipeline.yaml.""")


def _end(status, message=""):
    """Ends the program, whatever a thread of the author's still does."""
    if message:
        print(message, file=sys.stderr)
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(status)


# The messages


def _messages():
    """Returns the message classes by full name, from the descriptors beside this file.

    The pool is our own, so that the author may import what else is generated from
    the same files.
    """
    files = descriptor_pb2.FileDescriptorSet.FromString(pathlib.Path(__file__).resolve().with_suffix(".binpb").read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.AddSerializedFile(file.SerializeToString())
    make = getattr(message_factory, "GetMessageClass", None)  # since protobuf 4.22
    if make is None:
        make = message_factory.MessageFactory(pool).GetPrototype
    names = (f"{file.package}.{message.name}" for file in files.file for message in file.message_type)
    return {name: make(pool.FindMessageTypeByName(name)) for name in names}


_MESSAGES = _messages()
_wire = type("wire", (), {name.rpartition(".")[2]: cls for name, cls in _MESSAGES.items() if name.startswith("dragoman.plugin.v1.")})
_Duration = _MESSAGES["google.protobuf.Duration"]
_HealthCheckRequest = _MESSAGES["grpc.health.v1.HealthCheckRequest"]
_HealthCheckResponse = _MESSAGES["grpc.health.v1.HealthCheckResponse"]

_ROLES = {1: "provider", 2: "stage"}
_PROVIDER, _STAGE = _ROLES
_LANES = ("final", "partial", "bulk")


def _request(text, call):
    return Request(
        id=text.id, text=text.text, source=text.source, target=text.target, context=tuple(Pair(p.source, p.target) for p in text.context),
        formality=text.formality, glossary=text.glossary, instructions=tuple(text.instructions), client=text.client, session=text.session,
        segment=text.segment, revision=text.revision, final=text.final, lane=_LANES[min(max(text.lane, 0), 2)], no_cache=text.no_cache,
        attempt=text.attempt, deltas=text.deltas, glossary_version=text.glossary_version, terms=tuple(Pair(p.source, p.target) for p in text.terms), over=call.over, _remaining=call.remaining,
    )


def _changed(request):
    """Returns what the gateway reads of a request that goes on."""
    return _wire.Text(
        text=request.text, source=request.source, target=request.target, context=[_wire.Pair(source=s, target=t) for s, t in request.context],
        formality=request.formality, glossary=request.glossary, instructions=request.instructions, no_cache=request.no_cache,
        glossary_version=request.glossary_version, terms=[_wire.Pair(source=s, target=t) for s, t in request.terms],
    )


def _result(result):
    return _wire.Result(
        text=result.text, source=result.source, model=result.model, finish=result.finish, flags=result.flags,
        usage=_usage(result.usage), no_store=result.no_store, provider=result.provider, cached=result.cached,
    )


def _given(result):
    """Returns the result that a stage's after gets."""
    usage = result.usage
    return Result(
        text=result.text, source=result.source, model=result.model, finish=result.finish, flags=tuple(result.flags),
        usage=Usage(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens), no_store=result.no_store,
        provider=result.provider, cached=result.cached,
    )


def _usage(usage):
    return None if usage == Usage() else _wire.Usage(**dataclasses.asdict(usage))


def _limits(limits):
    if limits == Limits():
        return None
    one = lambda l: l and _wire.Limit(limit=l.limit, remaining=l.remaining, reset=_duration(l.reset))
    return _wire.Limits(requests=one(limits.requests), tokens=one(limits.tokens))


def _duration(seconds):
    nanoseconds = max(round(seconds * 1e9), 0)
    return _Duration(seconds=nanoseconds // 10**9, nanos=nanoseconds % 10**9)


def _error(error):
    clip = lambda text, most: str(text)[:most].encode("utf-8", "replace").decode()
    return _wire.Error(
        kind=error.kind, field=clip(error.field, _MAX_CAUSE), detail=clip(error.detail, _MAX_DETAIL), cause=clip(error.cause, _MAX_CAUSE),
        retryable=error.retryable, retry_after=_duration(error.retry_after) if error.retry_after > 0 else None,
    )


# What runs the author's code


class _Call:
    """One call of the gateway: how long it may take, and whether it is over."""

    def __init__(self, context, longest):
        self.context = context
        self.over = threading.Event()
        self.until = time.monotonic() + longest
        self.when_over(self.over.set)

    def when_over(self, do):
        """Calls do when the call ends, for whatever reason; at once when it has ended."""
        if not self.context.add_callback(do):
            do()

    def remaining(self):
        left = max(self.until - time.monotonic(), 0.0)
        said = self.context.time_remaining()
        return left if said is None else min(left, said)

    def error(self):
        if self.remaining() <= 0:
            return Error("deadline_exceeded", "the deadline of the request has passed", retryable=True)
        return Error("canceled", "the client left")


class _Room:
    """Lets so many calls run at once. The others wait in the order they came."""

    def __init__(self, places):
        self.lock = threading.Lock()
        self.free = places
        self.queue = collections.deque()

    @contextlib.contextmanager
    def place(self, call):
        with self.lock:
            waiter = None
            if self.free:
                self.free -= 1
            elif len(self.queue) < _WAITING:
                waiter = _Waiter()
                self.queue.append(waiter)
            else:
                raise Error("overloaded", "more texts wait for the plugin than may wait", retryable=True)
        if waiter:
            call.when_over(waiter.woken.set)
            waiter.woken.wait(call.remaining())
            with self.lock:
                if not waiter.granted:
                    self.queue.remove(waiter)
                    raise call.error()
        try:
            if call.over.is_set():
                raise call.error()
            yield
        finally:
            with self.lock:
                if self.queue:
                    heir = self.queue.popleft()
                    heir.granted = True
                    heir.woken.set()
                else:
                    self.free += 1


class _Waiter:
    def __init__(self):
        self.woken = threading.Event()
        self.granted = False  # has a place; guarded by the room's lock


class _Part:
    """A class of the author's: what it can be configured as."""

    def __init__(self, cls):
        if not inspect.isclass(cls):
            raise TypeError(f"serve takes classes, got {cls!r}")
        self.cls = cls
        self.hooks = [hook for hook in ("before", "after") if hasattr(cls, hook)]
        if hasattr(cls, "translate") == bool(self.hooks):
            raise TypeError(f"the class {cls.__name__} must have either translate, to be a provider, or before or after, to be a stage")
        self.role = _STAGE if self.hooks else _PROVIDER
        self.doc = inspect.cleandoc(cls.__doc__ or "").partition("\n\n")[0].replace("\n", " ")
        self.keys = getattr(cls, "keys", {})
        try:
            self.schema = json.dumps({
                "type": "object", "description": self.doc, "properties": _told(self.keys), "additionalProperties": False,
                "required": [key for key, schema in self.keys.items() if "default" not in schema],
            }).encode()
        except (TypeError, AttributeError) as mistake:
            raise TypeError(f"{cls.__name__}.keys must be a dictionary from each key to its JSON Schema: {mistake}") from None
        mistakes = {}
        for key, schema in self.keys.items():
            _taken(schema.get("default"), schema, key, mistakes)
        for key, mistake in mistakes.items():
            raise TypeError(f"the default of {cls.__name__}.keys[{key!r}] {mistake}")

    def describe(self):
        return _wire.Part(
            role=self.role, name=self.cls.__name__, doc=self.doc, config_schema=self.schema,
            before="before" in self.hooks, after="after" in self.hooks,
        )

    def build(self, raw):
        """Makes what the class describes from a configuration, or raises a ConfigError."""
        try:
            given = json.loads(raw or b"{}")
        except ValueError as mistake:
            raise ConfigError({"": f"the configuration is no JSON: {mistake}"}) from None
        if not isinstance(given, dict):
            raise ConfigError({"": "the configuration is no JSON object"})
        mistakes = {key: "there is no such key" for key in given.keys() - self.keys.keys()}
        config = {}
        for key, schema in self.keys.items():
            if key not in given and "default" not in schema:
                mistakes[key] = "it has no default, so it must be there"
                continue
            config[key] = given.get(key, copy.deepcopy(schema.get("default")))
            # The gateway has checked all of the schema, unless the keys are another provider's.
            if key in given and not _fits(given[key], None if schema.get("format") in _FORMATS else schema.get("type")):
                mistakes[key] = f"must be of type {schema['type']}"
                continue
            config[key] = _taken(config[key], schema, key, mistakes)
        if mistakes:
            raise ConfigError(mistakes)
        if self.cls.__init__ is object.__init__:
            return self.cls()
        return self.cls(config)


# What the formats of keys are called by the gateway, what it writes them as, and how they are read.
_FORMATS = {"duration": ("go-duration", ["string"], parse_duration), "bytes": ("size", ["string", "integer"], parse_size)}


def _told(schema):
    """Returns a schema, or a part of one, as the gateway knows it."""
    if isinstance(schema, list):
        return [_told(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    told = {key: value if key in ("default", "const", "enum", "examples") and not isinstance(value, dict) else _told(value) for key, value in schema.items()}
    format = schema.get("format")
    if isinstance(format, str) and format in _FORMATS:
        told["format"], types = _FORMATS[format][:2]
        told["type"] = types + ["null"] if "null" in (schema.get("type") or ()) else types
    return told


def _taken(value, schema, path, mistakes):
    """Returns a value as the class gets it: durations as seconds, sizes as bytes. What is none is noted in mistakes."""
    if not isinstance(schema, dict):
        return value
    format = schema.get("format")
    if isinstance(format, str) and format in _FORMATS and value is not None:
        try:
            return _FORMATS[format][2](value)
        except ValueError as mistake:
            mistakes[path] = str(mistake)
            return value
    if isinstance(value, list):
        return [_taken(item, schema.get("items"), f"{path}[{n}]", mistakes) for n, item in enumerate(value)]
    if isinstance(value, dict):
        properties, others = schema.get("properties") or {}, schema.get("additionalProperties")
        return {key: _taken(item, properties.get(key, others), f"{path}.{key}", mistakes) for key, item in value.items()}
    return value


_TYPES = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list, "object": dict, "null": type(None)}


def _fits(value, types):
    """Says whether value is of one of the types of JSON Schema, a name or a list of them."""
    if types is None:
        return True
    types = [types] if isinstance(types, str) else types
    if isinstance(value, bool):
        return "boolean" in types
    return any(isinstance(value, _TYPES[t]) for t in types)


class _Instance:
    """A part that was built, and the number of calls in it."""

    def __init__(self, part, config):
        self.log = logging.getLogger(config.name or part.cls.__name__)
        self.role = part.role
        seconds = config.deadline.seconds + config.deadline.nanos / 1e9
        self.longest = seconds if seconds > 0 else 60.0
        self.calls = 0  # guarded by the program's lock
        self.item = part.build(config.config)

    def guarded(self, call, do, *arguments):
        """Returns do(*arguments). Whatever the author's code raises becomes an Error."""
        try:
            return do(*arguments)
        except Error:
            raise
        except Exception as mistake:
            if call.over.is_set():
                raise call.error() from None
            self.log.exception("the plugin raised an exception")
            raise Error("internal", "the plugin raised an exception; its log tells more", cause=f"{type(mistake).__name__}: {mistake}") from None

    def close(self):
        close = getattr(self.item, "close", None)
        if close is not None:
            try:
                close()
            except Exception:
                self.log.exception("closing")

    def translate(self, index, text, call):
        """Yields the events of one text."""
        try:
            said = yield from self.answer(index, text, call)
            yield self.sent(lambda: _wire.Event(index=index, result=_result(said), limits=_limits(said.limits)))
        except Error as error:
            yield _wire.Event(index=index, error=_error(error), limits=_limits(error.limits), spent=_usage(error.spent))

    def answer(self, index, text, call):
        """Yields deltas and returns the Result."""
        answer = self.guarded(call, self.item.translate, _request(text, call))
        if not hasattr(answer, "__next__"):
            return self.as_result(answer, "translate")
        pieces = []
        length = 0
        try:
            while not call.over.is_set() and call.remaining() > 0:
                last, piece = self.guarded(call, _next, answer)
                if last:
                    return self.as_result("".join(pieces) if piece is None else piece, "translate")
                if not isinstance(piece, str):
                    raise self.wrong(f"translate yielded a {type(piece).__name__}; a piece of the answer is a str")
                pieces.append(piece)
                length += len(piece)
                if length > _MAX_MESSAGE:
                    raise Error("provider_failed", "the plugin says more than any answer may be long")
                if text.deltas and piece:
                    yield self.sent(lambda: _wire.Event(index=index, delta=piece))
            raise call.error()
        finally:
            close = getattr(answer, "close", None)
            if close is not None:
                self.guarded(call, close)

    def sent(self, make):
        """Returns the message that make makes of the author's values."""
        try:
            message = make()
        except UnicodeError:
            raise Error("bad_answer", "the answer is not valid UTF-8", retryable=True) from None
        except (AttributeError, TypeError, ValueError) as mistake:
            raise self.wrong(f"what the plugin answered cannot be sent: {mistake}") from None
        size = message.ByteSize()
        if size > _MAX_MESSAGE:  # gRPC would fail the call, and nobody would know why
            raise Error("too_large", f"the plugin's answer to it has {size} bytes, and a message of the protocol holds {_MAX_MESSAGE}", field="text")
        return message

    def as_result(self, answer, hook):
        if isinstance(answer, str):
            answer = Result(answer)
        if not isinstance(answer, Result):
            raise self.wrong(f"{hook} returned a {type(answer).__name__}; want a str or a Result")
        return answer

    def wrong(self, message):
        self.log.error(message)
        return Error("internal", message)

    def before(self, text, call):
        request = _request(text, call)
        what, state = self.guarded(call, self.item.before, request), b""
        if isinstance(what, tuple):
            if len(what) != 2 or not isinstance(what[1], bytes):
                raise self.wrong("before returned a tuple that is not of two things, the second of type bytes")
            what, state = what
        if what is None:
            return self.sent(lambda: _wire.Verdict(state=state))
        if isinstance(what, Request):
            return self.sent(lambda: _wire.Verdict(request=_changed(what), state=state))
        if isinstance(what, Result):
            return self.sent(lambda: _wire.Verdict(result=_result(what)))
        raise self.wrong(f"before returned a {type(what).__name__}; want None, a Request or a Result, alone or with the state in a tuple")

    def after(self, text, result, state, call):
        given = _given(result)
        what = self.guarded(call, self.item.after, _request(text, call), given, state)
        if what is None:
            what = given
        elif isinstance(what, str):
            what = dataclasses.replace(given, text=what)
        return self.sent(lambda: _wire.Reply(result=_result(self.as_result(what, "after"))))


def _next(iterator):
    """Returns (False, the next piece), or (True, what the generator returned)."""
    try:
        return False, next(iterator)
    except StopIteration as stop:
        return True, stop.value


class _Program:
    """Answers the calls of plugins/wire with the classes of one program."""

    def __init__(self, name, classes, threads):
        if not isinstance(threads, int) or threads < 1:
            raise ValueError(f"threads must be at least 1, got {threads!r}")
        self.name = name
        self.parts = {}
        for part in map(_Part, classes):
            if part.role in self.parts:
                raise TypeError(f"{self.parts[part.role].cls.__name__} and {part.cls.__name__} are both a {_ROLES[part.role]}; a program serves one of each")
            self.parts[part.role] = part
        if not self.parts:
            raise TypeError("the program serves no class")
        self.room = _Room(threads)
        # Those that wait have a thread each, so that there is always one for
        # what is answered at once.
        self.pool = futures.ThreadPoolExecutor(threads + _WAITING + _CONTROL, thread_name_prefix="call")
        self.instances = {}
        self.idle = threading.Condition()  # its lock guards instances and their calls
        # What ends it. A signal handler may put something there: it runs between
        # two steps of the main thread, which an Event's lock would stop for ever.
        self.shutdown = queue.SimpleQueue()

    def server(self, secret=""):
        server = grpc.server(self.pool, interceptors=[_Only(secret)] if secret else [], options=[
            ("grpc.max_receive_message_length", _MAX_MESSAGE), ("grpc.max_send_message_length", _MAX_MESSAGE), ("grpc.so_reuseport", 0),
        ])
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        w, plain = _wire, type("", (), {"FromString": bytes, "SerializeToString": lambda nothing: b""})
        for service, method, kind, do, takes, gives in (
            ("dragoman.plugin.v1.Plugin", "Describe", unary, self.describe, w.DescribeRequest, w.Description),
            ("dragoman.plugin.v1.Plugin", "Configure", unary, self.configure, w.Config, w.ConfigReply),
            ("dragoman.plugin.v1.Plugin", "Health", unary, self.health, w.Instance, w.State),
            ("dragoman.plugin.v1.Plugin", "Release", unary, self.release, w.Instance, w.Released),
            ("dragoman.plugin.v1.Provider", "Answer", unary, self.answer, w.Visit, w.Event),
            ("dragoman.plugin.v1.Provider", "Translate", stream, self.translate, w.Call, w.Event),
            ("dragoman.plugin.v1.Stage", "Before", unary, self.before, w.Visit, w.Verdict),
            ("dragoman.plugin.v1.Stage", "After", unary, self.after, w.Done, w.Reply),
            ("grpc.health.v1.Health", "Check", unary, self.check, _HealthCheckRequest, _HealthCheckResponse),
            ("plugin.GRPCController", "Shutdown", unary, self.end, plain, plain),
        ):
            handler = kind(do, request_deserializer=takes.FromString, response_serializer=gives.SerializeToString)
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
        return server

    def run(self, server):
        """Serves until Shutdown, and for a while the calls that are in flight then."""
        server.start()
        self.shutdown.get()
        server.stop(_GRACE).wait()
        with self.idle:
            left, self.instances = self.instances, {}
        for instance in left.values():
            instance.close()

    def end(self, _, context):
        end = lambda: self.shutdown.put(None)
        if not context.add_callback(end):  # once it is answered
            end()

    def check(self, request, context):
        if request.service not in ("", "plugin"):
            context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service here")
        return _HealthCheckResponse(status="SERVING")

    def describe(self, _, context):
        version = getattr(sys.modules.get("__main__"), "__version__", "")
        return _wire.Description(
            name=self.name, version=str(version), protocol=_PROTOCOL, parts=[self.parts[role].describe() for role in _ROLES if role in self.parts],
        )

    def configure(self, config, context):
        part = self.parts.get(config.role)
        if part is None:
            return _refusal({"": f"{self.name} serves no {_ROLES.get(config.role, 'such role')}"})
        try:
            instance = _Instance(part, config)
            languages = getattr(instance.item, "languages", dict)()
            reply = _wire.ConfigReply(languages=[_wire.Languages(source=source, targets=targets) for source, targets in languages.items()])
        except ConfigError as mistake:
            return _refusal(mistake.mistakes)
        except Error as mistake:
            return _refusal({mistake.field: mistake.detail})
        except Exception as mistake:
            logging.getLogger(config.name).exception("taking the configuration")
            return _refusal({"": f"{type(mistake).__name__}: {mistake}"})
        with self.idle:
            former = self.instances.get(config.instance)
            self.instances[config.instance] = instance
        self.retire(former)
        return reply

    def retire(self, instance):
        """Closes an instance that no call can enter any more, once it is empty."""
        if instance is not None:
            with self.idle:
                self.idle.wait_for(lambda: instance.calls == 0)
            instance.close()

    def release(self, which, context):
        with self.idle:
            instance = self.instances.pop(which.id, None)
        self.retire(instance)
        return _wire.Released()

    def health(self, which, context):
        if not which.id:
            return _wire.State()
        with self.enter(which.id, None, context) as instance:
            try:
                call = _Call(context, instance.longest)
                instance.guarded(call, getattr(instance.item, "health", lambda: None))
            except Error as error:
                return _wire.State(error=_error(error))
        return _wire.State()

    @contextlib.contextmanager
    def enter(self, name, role, context):
        """Holds an instance open."""
        with self.idle:
            instance = self.instances.get(name)
            if instance is not None and role in (None, instance.role):
                instance.calls += 1
            else:
                instance = None
        if instance is None:
            context.abort(grpc.StatusCode.NOT_FOUND, f"there is no such instance here, configure it first: {name!r}")
        try:
            yield instance
        finally:
            with self.idle:
                instance.calls -= 1
                self.idle.notify_all()

    def answer(self, visit, context):
        with self.enter(visit.instance, _PROVIDER, context) as instance:
            for event in self.events(instance, 0, visit.text, _Call(context, instance.longest)):
                pass  # the last one is the answer
            return event

    def translate(self, asked, context):
        with self.enter(asked.instance, _PROVIDER, context) as instance:
            call = _Call(context, instance.longest)
            for index, text in enumerate(asked.texts):
                yield from self.events(instance, index, text, call)

    def events(self, instance, index, text, call):
        try:
            with self.room.place(call), _logged(text.id):
                yield from instance.translate(index, text, call)
        except Error as error:  # there was no place
            yield _wire.Event(index=index, error=_error(error))

    def before(self, visit, context):
        with self.enter(visit.instance, _STAGE, context) as instance:
            return self.hook(context, instance, visit.text.id, _wire.Verdict, instance.before, visit.text)

    def after(self, done, context):
        with self.enter(done.instance, _STAGE, context) as instance:
            return self.hook(context, instance, done.text.id, _wire.Reply, instance.after, done.text, done.result, done.state)

    def hook(self, context, instance, request, reply, do, *arguments):
        call = _Call(context, instance.longest)
        try:
            with self.room.place(call), _logged(request):
                return do(*arguments, call)
        except Error as error:
            return reply(error=_error(error))


class _Only(grpc.ServerInterceptor):
    """Lets those calls through that carry the gateway's secret."""

    def __init__(self, secret):
        self.secret = secret

    def intercept_service(self, continuation, call):
        said = [value for key, value in call.invocation_metadata if key == _SECRET[1]]
        if len(said) == 1 and isinstance(said[0], str) and hmac.compare_digest(said[0].encode(), self.secret.encode()):
            return continuation(call)
        return grpc.unary_unary_rpc_method_handler(lambda _, context: context.abort(
            grpc.StatusCode.UNAUTHENTICATED, "this plugin answers the gateway that has started it, and nobody else"))


def _refusal(mistakes):
    clip = lambda text: str(text)[:_MAX_DETAIL].encode("utf-8", "replace").decode()
    return _wire.ConfigReply(errors=[_wire.ConfigError(field=clip(field), detail=clip(detail)) for field, detail in mistakes.items()])


# The log


_current = threading.local()


@contextlib.contextmanager
def _logged(request):
    """What the thread logs meanwhile carries the id of the request."""
    _current.request = request
    try:
        yield
    finally:
        _current.request = ""


class _Lines(logging.Formatter):
    """Writes lines that the gateway takes apart: JSON with the keys of hclog."""

    def format(self, record):
        level = "error" if record.levelno >= logging.ERROR else {logging.WARNING: "warn", logging.INFO: "info"}.get(record.levelno, "debug")
        line = {"@level": level, "@message": record.getMessage(), "@module": record.name}
        if getattr(_current, "request", ""):
            line["request"] = _current.request
        if record.exc_info:
            line["stack"] = self.formatException(record.exc_info)[-8000:]  # the gateway keeps 16 KiB of a line
        return json.dumps(line)


# The process


def _take_secret():
    """Returns what the calls of the gateway carry, "" when it gives nothing, and what is wrong with that.

    It is read once, and neither it nor where it came from is left to what this
    program starts.
    """
    number = os.environ.pop(_SECRET[0], "")
    if not number:
        return "", ""
    try:
        fd = int(number)
        if fd < 3 or not stat.S_ISFIFO(os.fstat(fd).st_mode):
            return "", f"{_SECRET[0]} names another file than the gateway's pipe"
        secret = os.read(fd, 256).decode("ascii", "replace").strip()
        os.close(fd)
    except (OSError, ValueError) as error:
        return "", f"{_SECRET[0]}: {error}; does what starts this program close it?"
    return secret, "" if secret else "the gateway's pipe holds no secret"


def _name_original():
    """Gives the program that is executed as a copy the name of its original, so that it finds what stands beside it."""
    original, main = os.environ.get(_FILE, ""), sys.modules.get("__main__")
    if not original or not (getattr(main, "__file__", "") or "").startswith("/proc/self/fd/"):
        return
    if sys.path and sys.path[0] in ("/", "/proc/self/fd", "/dev/fd"):
        sys.path[0] = os.path.dirname(original)
    main.__file__ = sys.argv[0] = original


class _Host:
    """The gateway that has started this program, as long as it lives.

    Making one takes standard input and output away from everybody else: the one
    says that the gateway is there, the other is for the handshake. What is printed
    from then on goes to standard error, and so into the gateway's log.
    """

    def __init__(self):
        self.parent = os.getppid()
        self.secret, self.doubt = _take_secret()
        _name_original()
        self.stdin, self.stdout = os.dup(0), os.dup(1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        sys.stdout.reconfigure(line_buffering=True)
        faulthandler.enable()

    def serve(self, program):
        """Serves until Shutdown, and returns the status to end with, and why."""
        folder = os.environ.get("PLUGIN_UNIX_SOCKET_DIR", "")
        if str(_PROTOCOL) not in os.environ.get("PLUGIN_PROTOCOL_VERSIONS", "").split(","):
            return 2, f"{program.name}: speaks version {_PROTOCOL} of the protocol, which the gateway does not"
        if not folder:
            return 2, f"{program.name}: PLUGIN_UNIX_SOCKET_DIR names no folder for the socket"
        self.guard()
        handler = logging.StreamHandler()
        handler.setFormatter(_Lines())
        logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
        path = os.path.join(folder, "plugin.sock")
        if self.doubt:
            logging.getLogger(program.name).warning("calls of other programs cannot be told from the gateway's: %s", self.doubt)
        server = program.server(self.secret)
        if not server.add_insecure_port("unix:" + path):
            return 1, f"{program.name}: cannot listen on {path}"
        os.write(self.stdout, f"{_PROTOCOL}|{_PROTOCOL}|unix|{path}|grpc|\n".encode())
        os.close(self.stdout)
        program.run(server)
        return 0, ""

    def guard(self):
        """Ends the process group when the gateway is gone.

        While the gateway lives, its plugins live: a SIGTERM that reaches all
        processes of a service at once would else end a plugin under requests that
        the gateway still finishes. The kernel sends one when the parent dies.
        """
        signal.signal(signal.SIGTERM, lambda *_: os.getppid() != self.parent and self.end_group())
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG, see prctl(2)
        threading.Thread(target=self.watch, daemon=True, name="stdin").start()

    def watch(self):
        while os.read(self.stdin, 4096):
            pass
        self.end_group()

    def end_group(self):
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(1)


def _listen(program, address):
    """Serves at address until SIGINT or SIGTERM; for a gateway with `address:`."""
    logging.basicConfig(level=logging.INFO)
    server = program.server()
    try:
        listening = server.add_insecure_port(address)
    except RuntimeError:
        listening = 0
    if not listening:
        return 1, f"{program.name}: cannot listen on {address}"
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: program.shutdown.put(None))
    program.run(server)
    return 0, ""


_host = _Host() if os.environ.get(_COOKIE[0]) == _COOKIE[1] else None
