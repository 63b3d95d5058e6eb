"""A client of dragoman.live.v1 in Python: python3 live.py URL SOURCE TARGET < text. Each line is
said word by word, finals are printed, and it comes back when its connection is lost. It needs
websockets 10 or later (Debian: python3-websockets)."""
import asyncio
import json
import os
import sys

import websockets

url, source, target = sys.argv[1:4]
headers = "extra_headers" if int(websockets.__version__.split(".")[0]) < 14 else "additional_headers"
options = {"subprotocols": ["dragoman.live.v1"], headers: {"Authorization": "Bearer " + os.environ.get("DRAGOMAN_KEY", "")}}
start = {"type": "start", "source": source, "targets": [target]}
unfinished = {}  # the latest revision of each segment without a final target
sockets = []     # the connection whose session is ready, if there is one


async def talk():
    ws = None
    while ws is None or ws.close_code not in (1000, 1008, 4401):
        try:
            async with websockets.connect(url, **options) as ws:
                await ws.send(json.dumps(start))
                async for raw in ws:
                    await take(ws, json.loads(raw))
        except (OSError, websockets.ConnectionClosed) as lost:
            print(lost, file=sys.stderr)
        sockets.clear()
        await asyncio.sleep(0.3)


async def take(ws, frame):
    start["after"] = frame.get("seq", start.get("after"))
    if frame["type"] == "ready":
        start["resume"], sockets[:] = frame["resume"], [ws]
        for said in list(unfinished.values()):  # what it has already it passes over
            await ws.send(json.dumps(said))
    elif frame["type"] == "target" and frame["final"]:
        unfinished.pop(frame["segment"], None)
        print(frame["segment"] + ": " + frame["text"], flush=True)  # or frame["error"], and no text


async def main():
    client = asyncio.create_task(talk())
    for n, line in enumerate(sys.stdin.read().splitlines(), 1):
        words = line.split()
        for i in range(1, len(words) + 1):
            said = {"type": "source", "segment": f"s{n}", "revision": i, "text": " ".join(words[:i]), "final": i == len(words)}
            unfinished[said["segment"]] = said
            await asyncio.gather(*(ws.send(json.dumps(said)) for ws in sockets), return_exceptions=True)  # what is lost is said again
            await asyncio.sleep(0.04)
    while not client.done():
        if not unfinished:
            await asyncio.gather(*(ws.send('{"type":"end"}') for ws in sockets), return_exceptions=True)
        await asyncio.sleep(0.1)


asyncio.run(main())
