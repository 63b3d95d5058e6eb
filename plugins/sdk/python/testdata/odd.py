"""A plugin that does what its texts say, for the tests of dragoman_plugin."""

import logging
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from dragoman_plugin import ConfigError, Error, Limit, Limits, Result, Usage, serve  # noqa: E402

import dataclasses  # noqa: E402

__version__ = "1.2"

# What a library may do while it is imported.
print("a banner")
os.write(1, b"from below\n")
subprocess.run(["/bin/echo", "from a child"])

# Ends the calls that hold every thread.
_let_go = threading.Event()
signal.signal(signal.SIGUSR1, lambda *_: _let_go.set())


class Odd:
    """Does what
    texts say.

    And more.
    """

    keys = {
        "suffix": {"type": "string", "default": "!"},
        "limit": {"type": ["integer", "null"], "default": None},
        "places": {"type": "array", "default": []},
    }

    def __init__(self, config):
        if config["suffix"] == "?":
            raise ConfigError({"suffix": "must not ask", "places[1]": "is too far"})
        if config["suffix"] == "broken":
            raise KeyError("broken")
        self.suffix = config["suffix"]
        config["places"].append("here")
        self.places = config["places"]
        self.met = threading.Barrier(4)
        self.running = 0
        self.most = 0
        self.lock = threading.Lock()

    def languages(self):
        return {"en": ["es", "fr"]}

    def health(self):
        raise Error("unauthorized", "no key")

    def close(self):
        print("closed", self.suffix)

    def translate(self, request):
        word, _, rest = request.text.partition(" ")
        return getattr(self, "do_" + word, self.plain)(request, rest)

    def plain(self, request, rest):
        return request.text.upper() + self.suffix

    def do_request(self, request, rest):
        fields = [f.name for f in dataclasses.fields(request) if f.name not in ("over", "_remaining")]
        return "\n".join(f"{name}={getattr(request, name)!r}" for name in fields)

    def do_places(self, request, rest):
        return " ".join(self.places)

    def do_remaining(self, request, rest):
        return str(request.remaining())

    def do_result(self, request, rest):
        return Result(
            "text", source="en", model="m", finish="length", flags=["rough"], usage=Usage(1, 2, 3), no_store=True,
            limits=Limits(requests=Limit(60, 7, 1.5)),
        )

    def do_words(self, request, rest):
        for word in rest.split():
            yield word
            yield ""
        if rest.endswith("."):
            return "all " + rest

    def do_fail(self, request, rest):
        raise Error("rate_limited", "slow down\ud800", field="text", retryable=True, retry_after=1.25, cause="c" * 1000, spent=Usage(3))

    def do_raise(self, request, rest):
        raise RuntimeError("boom")

    def do_late(self, request, rest):
        yield "one"
        raise RuntimeError("boom")

    def do_number(self, request, rest):
        return 7

    def do_numbers(self, request, rest):
        yield 7

    def do_bytes(self, request, rest):
        return "\ud800"

    def do_pieces(self, request, rest):
        yield "\ud800"

    def do_flags(self, request, rest):
        return Result("text", flags=[7])

    def do_long(self, request, rest):
        return "x" * int(rest)

    def do_endless(self, request, rest):
        while True:
            yield "x" * (1 << 20)

    def do_print(self, request, rest):
        print("printed", rest)
        os.write(1, b"written\n")
        subprocess.run(["/bin/echo", "echoed"])
        sys.stdout.write("y" * 200_000 + "\n")
        logging.getLogger("mine").warning("said %s", rest)
        return rest

    def do_stdin(self, request, rest):
        return repr(sys.stdin.read())

    def do_meet(self, request, rest):
        """Ends only when four calls are here at once."""
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        self.met.wait()
        with self.lock:
            self.running -= 1
        return str(self.most)

    def do_hold(self, request, rest):
        yield "held"
        _let_go.wait()
        print("letting go", flush=True)
        return "let go"

    def do_hang(self, request, rest):
        try:
            yield "hanging"
            print("waiting", rest, flush=True)
            request.over.wait()
            print("over", rest, flush=True)
            yield "never"
        finally:
            print("closed", rest, flush=True)

    def do_child(self, request, rest):
        """Starts a process that holds the file open until it dies."""
        with open(rest, "w") as f:
            subprocess.Popen(["/bin/sleep", "600"], stdout=f)
        return "started"

    def do_stuck(self, request, rest):
        yield "stuck"
        time.sleep(3600)


class Stamp:
    """Marks a text on its way down and takes the mark off on the way up."""

    def before(self, request):
        if request.text == "plain":
            return None
        if request.text == "state":
            return None, b"s"
        if request.text == "answer":
            return Result("mine")
        if request.text == "fail":
            raise Error("invalid_request", "no", field="text")
        if request.text == "raise":
            raise RuntimeError("boom")
        if request.text == "number":
            return 7
        if request.text == "bytes":
            return dataclasses.replace(request, text="\ud800")
        return dataclasses.replace(request, text=f"<{request.text}>", no_cache=True), request.text.encode()

    def after(self, request, result, state):
        if result.text == "keep":
            return None
        if result.text == "flag":
            return dataclasses.replace(result, flags=result.flags + ("seen",))
        if result.text == "bad":
            raise Error("bad_answer", "bad", retryable=True)
        return f"{result.text} {state.decode()} {request.text}"


class Both(Odd, Stamp):
    pass


class Other(Odd):
    pass


class Neither:
    pass


class Keys(Odd):
    keys = {"x": {"default": Neither}}


if __name__ == "__main__":
    served = {"": [Odd, Stamp], "both": [Both], "twice": [Odd, Other], "neither": [Neither], "keys": [Keys], "nothing": [], "instance": [7]}
    serve(*served[os.environ.get("DRAGOMAN_TEST_SERVE", "")], threads=int(os.environ.get("DRAGOMAN_TEST_THREADS", "4")))
