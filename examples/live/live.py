"""A client of dragoman.live.v1 in Python: python3 live.py URL SOURCE TARGET < text
Each line of its input is said word by word, as a recogniser would; finals are printed. It
comes back when its connection is lost. It needs websockets 10 or later (Debian: python3-websockets)."""
import asyncio
import json
import os
import sys

import websockets

url, source, target = sys.argv[1:4]
unfinished = {}  # the latest revision of each segment without a final target
state = {"ws": None, "seq": 0, "resume": "", "ended": False}
headers = {"Authorization": "Bearer " + os.environ["DRAGOMAN_KEY"]} if "DRAGOMAN_KEY" in os.environ else {}
keyword = "extra_headers" if int(websockets.__version__.split(".")[0]) < 14 else "additional_headers"


async def session():
    while not state["ended"]:
        try:
            async with websockets.connect(url, subprotocols=["dragoman.live.v1"], **{keyword: headers}) as ws:
                start = {"type": "start", "source": source, "targets": [target]}
                if state["resume"]:
                    start.update(resume=state["resume"], after=state["seq"])
                await ws.send(json.dumps(start))
                async for raw in ws:
                    await take(ws, json.loads(raw))
        except (OSError, websockets.ConnectionClosedError) as lost:
            if getattr(getattr(lost, "rcvd", None), "code", None) in (1008, 4401):
                raise
        state["ws"] = None
        await asyncio.sleep(0.3)


async def take(ws, frame):
    state["seq"] = frame.get("seq", state["seq"])
    if frame["type"] == "ready":
        state.update(ws=ws, resume=frame["resume"])
        for said in list(unfinished.values()):  # what it has already it passes over
            await ws.send(json.dumps(said))
    elif frame["type"] == "target" and frame["final"]:
        unfinished.pop(frame["segment"], None)
        said = frame["error"]["message"] if "error" in frame else frame["text"]
        print(frame["segment"] + ": " + said, flush=True)
    elif frame["type"] == "error":
        print(frame["message"], file=sys.stderr)
    elif frame["type"] == "end" and "target" not in frame:
        state["ended"] = True


async def say(frame):
    unfinished[frame["segment"]] = frame
    if state["ws"]:
        try:
            await state["ws"].send(json.dumps(frame))
        except websockets.ConnectionClosed:
            pass  # it is said again


async def main():
    client = asyncio.create_task(session())
    for n, line in enumerate(sys.stdin.read().splitlines(), 1):
        words = line.split(" ")
        for i in range(1, len(words) + 1):
            await say({"type": "source", "segment": f"s{n}", "revision": i, "text": " ".join(words[:i]), "final": i == len(words)})
            await asyncio.sleep(0.04)
    while unfinished and not client.done():
        await asyncio.sleep(0.02)
    if state["ws"]:
        await state["ws"].send('{"type":"end"}')
    await client


asyncio.run(main())
