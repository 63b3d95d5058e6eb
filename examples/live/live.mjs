// A client of dragoman.live.v1 in JavaScript: node live.mjs URL SOURCE TARGET < text. Each line is
// said word by word, finals are printed, and it comes back when its connection is lost. In a
// browser leave out the import, and send the token of POST /v1/live in place of the header.
import WebSocket from "ws";
import { createInterface } from "node:readline";

const [url, source, target] = process.argv.slice(2);
const wait = ms => new Promise(done => setTimeout(done, ms));
const unfinished = new Map(); // the latest revision of each segment without a final target
let ws, seq = 0, resume = "", concluded = {}, over = false;

function connect() {
  const headers = process.env.DRAGOMAN_KEY ? { Authorization: "Bearer " + process.env.DRAGOMAN_KEY } : {};
  ws = new WebSocket(url, ["dragoman.live.v1"], { headers });
  ws.on("open", () => ws.send(JSON.stringify({ type: "start", source, targets: [target], ...(resume && { resume, after: seq }) })));
  ws.on("message", raw => take(JSON.parse(raw)));
  ws.on("error", () => {}); // close follows
  ws.on("close", code => over ? 0 : code === 1000 || code === 1008 || code === 4401 ? process.exit(code !== 1000) : setTimeout(connect, 300));
}

function take(f) {
  if (f.seq) seq = f.seq;
  switch (f.type) {
    case "ready":
      resume = f.resume;
      if (!f.resumed) concluded = {};
      for (const frame of unfinished.values()) ws.send(JSON.stringify(frame)); // what it has already it passes over
      break;
    case "target":
      concluded[f.segment] = (concluded[f.segment] ?? "") + f.concluded; // what is on screen: concluded, then tentative
      if (!f.final) break;
      unfinished.delete(f.segment);
      delete concluded[f.segment];
      console.log(f.error ? `${f.segment}: ${f.error.message}` : `${f.segment}: ${f.text}`);
      break;
    case "error":
      console.error(f.message);
      break;
    case "end":
      if (!f.target) over = true;
  }
}

function say(frame) {
  unfinished.set(frame.segment, frame);
  if (ws.readyState === WebSocket.OPEN && resume) ws.send(JSON.stringify(frame));
}

connect();
let n = 0;
for await (const line of createInterface({ input: process.stdin })) {
  const words = line.split(" "), segment = "s" + ++n;
  for (let i = 1; i < words.length; i++) {
    say({ type: "source", segment, revision: i, text: words.slice(0, i).join(" ") });
    await wait(40);
  }
  say({ type: "source", segment, revision: words.length, text: line, final: true });
}
while (unfinished.size) await wait(20);
ws.send(JSON.stringify({ type: "end" }));
