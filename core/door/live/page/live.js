"use strict";
// The page at /live: a client of the protocol dragoman.live.v1. It asks nobody but this gateway.
const $ = id => document.getElementById(id);
const wait = ms => new Promise(done => setTimeout(done, ms));
const rtl = new Set(["ar", "fa", "he", "ur", "ps", "sd", "ug", "yi", "dv", "ckb"]);

let socket = null, opening = null, resume = "", seq = 0, segment = 0, revision = 0, playing = 0, lags = [], panes = {}, last = {};

function pane(tag) {
  if (panes[tag]) return panes[tag];
  const box = document.createElement("section"), title = document.createElement("h2"), log = document.createElement("div"), rest = document.createElement("p");
  title.textContent = tag;
  // Only what is concluded is announced: tentative text changes while it is read.
  log.setAttribute("role", "log");
  log.setAttribute("aria-live", "polite");
  rest.className = "tentative";
  rest.setAttribute("aria-hidden", "true");
  for (const e of [log, rest]) { e.lang = tag; e.dir = rtl.has(tag.split("-")[0].toLowerCase()) ? "rtl" : "ltr"; }
  box.append(title, log, rest);
  $("targets").append(box);
  return panes[tag] = { log, rest, lines: {}, tentative: {} };
}

function target(f) {
  const p = pane(f.target);
  if (f.concluded && !p.lines[f.segment]) {
    p.lines[f.segment] = document.createElement("p");
    p.log.append(p.lines[f.segment]);
  }
  if (f.concluded) p.lines[f.segment].append(f.concluded);
  p.tentative[f.segment] = f.tentative;
  if (f.final) {
    delete p.tentative[f.segment];
    if (f.error) status("A final could not be had: " + f.error.message);
    else if (f.corrected && p.lines[f.segment]) p.lines[f.segment].textContent = f.text;
    delete p.lines[f.segment];
    while (p.log.childElementCount > 200) p.log.firstElementChild.remove();
    lags.push(f.latency_ms);
    lags = lags.slice(-200);
    measures();
  }
  p.rest.textContent = Object.values(p.tentative).filter(Boolean).join(" … ");
}

function measures() {
  const sorted = [...lags].sort((a, b) => a - b), at = q => sorted.length ? sorted[Math.ceil(q * sorted.length) - 1] + " ms" : "–";
  const all = { "final lag p50": at(.5), "final lag p99": at(.99), "finals": lags.length };
  if (last.calls !== undefined) Object.assign(all, { "calls": last.calls, "amplification": last.amplification, "erasure": last.erasure, "first draft p50": last.first_draft_ms.p50 + " ms", "on time": Math.round(100 * last.on_time) + " %", "tokens": last.prompt_tokens + last.completion_tokens }, last.cost && { "cost": last.cost.map(c => Number(c.amount).toPrecision(3) + " " + c.currency).join(" + ") });
  $("measures").replaceChildren(...Object.entries(all).map(([k, v]) => {
    const box = document.createElement("div"), dt = document.createElement("dt"), dd = document.createElement("dd");
    dt.textContent = k; dd.textContent = v; box.append(dt, dd);
    return box;
  }));
}

function status(text) { $("status").textContent = text; }

async function connect() {
  const key = $("key").value, headers = key ? { Authorization: "Bearer " + key } : {};
  const res = await fetch("/v1/live", { method: "POST", headers });
  const answer = await res.json();
  if (!res.ok) throw new Error(answer.error.message);
  const ws = new WebSocket(location.origin.replace(/^http/, "ws") + "/v1/live", ["dragoman.live.v1", "bearer." + answer.token]);
  await new Promise((done, failed) => { ws.onopen = done; ws.onerror = () => failed(new Error("no connection")); });
  const targets = [$("target0").value.trim(), $("target1").value.trim()].filter(Boolean);
  const start = { type: "start", source: $("source").value.trim(), targets };
  if (resume) Object.assign(start, { resume, after: seq });
  ws.send(JSON.stringify(start));
  return new Promise((done, failed) => {
    ws.onmessage = e => {
      const f = JSON.parse(e.data);
      if (f.seq) seq = f.seq;
      switch (f.type) {
        case "ready": resume = f.resume; targets.forEach(pane); $("stop").disabled = false; status(f.resumed ? "Connected again; nothing is missing." : "Connected."); done(ws); break;
        case "target": target(f); break;
        case "stats": last = f; measures(); break;
        case "error": status(f.message); if (f.fatal) failed(new Error(f.message)); break;
        case "notice": status(f.kind + ": " + f.detail); break;
        case "goaway": status("The gateway is stopping."); break;
      }
    };
    ws.onclose = e => {
      if (socket === ws) { socket = null; opening = null; }
      $("stop").disabled = true;
      if (e.code === 1000) { resume = ""; seq = 0; status("The session has ended."); }
      else { status("Closed (" + e.code + "): " + (e.reason || "no reason given")); if (e.code === 4401) resume = ""; }
      failed(new Error(e.reason));
    };
  });
}

async function send(frame) {
  try {
    if (!socket) socket = await (opening ??= connect());
    socket.send(JSON.stringify(frame));
    return true;
  } catch (err) {
    opening = null;
    status(err.message);
    return false;
  }
}

function say(text, final) {
  if (!revision) segment++;
  revision++;
  const frame = { type: "source", segment: "p" + segment, revision, text, final };
  if (final) revision = 0;
  return send(frame);
}

$("text").addEventListener("input", () => {
  const lines = $("text").value.split("\n");
  if (playing || lines.length > 3) return; // a transcript, to be played
  for (const line of lines.slice(0, -1)) if (line.trim()) say(line, true);
  const rest = lines[lines.length - 1];
  if (lines.length > 1) $("text").value = rest;
  if (rest.trim() || revision) say(rest, false);
});

// play says a transcript at 150 words a minute, a segment a sentence or line.
async function play(text, pace = 400) {
  const mine = ++playing;
  for (const line of text.split(/\n+|(?<=[.!?。！？؟])\s+/)) {
    const words = line.trim().split(/\s+/).filter(Boolean);
    for (let n = 1; n < words.length; n++) {
      if (playing !== mine) return;
      await say(words.slice(0, n).join(" "), false);
      await wait(pace);
    }
    if (words.length && playing === mine) await say(words.join(" "), true);
    await wait(pace);
  }
  if (playing === mine) playing = 0;
}

// replay says what a file of `dragoman record` holds, of its first session.
async function replay(text) {
  const mine = ++playing, events = text.split("\n").filter(Boolean).map(line => JSON.parse(line)).filter((e, _, all) => e.session === all[0].session);
  const begin = performance.now() - events[0].at_ms, run = "t" + (++segment) + "-";
  for (const e of events) {
    await wait(begin + e.at_ms - performance.now());
    if (playing !== mine) return;
    await send({ type: "source", segment: run + e.segment, revision: e.revision, text: e.text, final: !!e.final });
  }
  if (playing === mine) playing = 0;
}

$("play").addEventListener("click", () => { const text = $("text").value; revision = 0; play(text); });
$("trace").addEventListener("change", async e => {
  try { await replay(await e.target.files[0].text()); } catch (err) { status("This is no trace: " + err.message); }
});
$("stop").addEventListener("click", () => { playing = 0; revision = 0; send({ type: "end" }); });
$("setup").addEventListener("submit", e => e.preventDefault());

// Speech only where the browser does it on this machine: others send what is said to a company.
(async () => {
  const Recognition = window.SpeechRecognition;
  let local = false;
  try { local = !!Recognition && typeof Recognition.available === "function" && await Recognition.available({ langs: [$("source").value], processLocally: true }) === "available"; } catch { local = false; }
  if (!local) {
    $("speech").textContent = "Speaking is off: this browser would send your voice to a server, or has no speech recognition of its own.";
    return;
  }
  $("speak").hidden = false;
  $("speak").addEventListener("click", () => {
    const heard = new Recognition();
    heard.lang = $("source").value; heard.continuous = true; heard.interimResults = true; heard.processLocally = true;
    heard.onresult = e => { for (let i = e.resultIndex; i < e.results.length; i++) say(e.results[i][0].transcript, e.results[i].isFinal); };
    heard.onerror = e => status("Speech: " + e.error);
    heard.start();
  });
})();
measures();
