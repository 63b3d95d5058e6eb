// The operator's page: keeps what the gateway has written up to date, and presses its buttons.
// What is told is put in as text, never as markup.
const $ = id => document.getElementById(id);
document.documentElement.classList.add("js");

// el makes an element with attributes and children; a text is a text.
function el(name, attributes = {}, ...children) {
  const e = document.createElement(name);
  for (const [k, v] of Object.entries(attributes)) if (v !== false && v !== "") e.setAttribute(k, v === true ? "" : v);
  e.append(...children.filter(c => c !== null && c !== undefined));
  return e;
}
// say changes a text only if it is another, so that neither a selection nor a reader is disturbed.
const say = (e, text) => { if (e.textContent !== text) e.textContent = text; };

async function ask(path, options = {}) {
  const res = await fetch(path, { credentials: "same-origin", ...options });
  const body = await res.json();
  if (body.error) throw Object.assign(new Error(body.error.message), { status: res.status });
  return body;
}

// every calls f now and then, while somebody looks, and one call at a time.
function every(ms, f) {
  let timer = 0, running = false;
  const turn = async () => {
    clearTimeout(timer);
    if (running || document.hidden) return;
    running = true;
    try { await f(); lost(""); } catch (err) { lost(err.status === 401 ? "You are signed out; load the page again." : "The gateway does not answer: " + err.message); }
    running = false;
    timer = setTimeout(turn, ms);
  };
  document.addEventListener("visibilitychange", turn);
  turn();
}

function lost(why) {
  let e = $("lost");
  if (!e) {
    if (!why) return;
    e = el("p", { id: "lost", role: "status", class: "lost" });
    document.body.append(e);
  }
  say(e, why);
  e.hidden = !why;
}

// table brings a table up to date, cell by cell.
function table(id, head, rows, button) {
  const body = $(id)?.tBodies[0];
  if (!body) return false;
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach((row, i) => {
    let tr = body.rows[i];
    if (!tr) {
      tr = el("tr", {}, el("th", { scope: "row" }), ...head.slice(1).map(c => el("td", { class: c.words ? "w" : "" })));
      if (button) tr.append(el("td", { class: "w" }));
      body.append(tr);
    }
    row.forEach((cell, j) => {
      const td = tr.cells[j];
      if (!!td.querySelector("strong") !== !!cell.bad) td.replaceChildren(cell.bad ? el("strong", { class: "bad" }) : "");
      say(cell.bad ? td.firstElementChild : td, cell.text);
    });
    if (button && tr.dataset.of !== row[0].text) { tr.dataset.of = row[0].text; tr.lastElementChild.replaceChildren(button(row)); }
  });
  return true;
}

// status keeps the first screen up to date.
async function status() {
  const v = await ask("/admin/page/status");
  const state = $("state");
  say(state, v.state);
  state.className = "state " + (v.ready ? "good" : "bad");
  say($("said"), v.state === document.title.split(" – ")[0] ? "" : "The gateway is " + v.state.toLowerCase());
  document.title = v.state + " – Dragoman";
  say($("serves"), v.serves);
  const notices = $("notices");
  if ([...notices.children].map(e => e.textContent).join("\n") !== v.notices.map(sentence).join("\n")) notices.replaceChildren(...v.notices.map(n => el("li", {}, sentence(n))));
  v.now.forEach((f, i) => { const box = $("now").children[i]; if (box) say(box.children[1], f.value); });
  for (const t of v.tables) if (!table("t-" + t.head[0].title.toLowerCase(), t.head, t.rows)) return location.reload();
}
const sentence = s => s.charAt(0).toUpperCase() + s.slice(1).replace(/\.$/, "");

// The curves. A point is [until, seconds, translated, failed, refused, stored, p50, p99, at once, waiting].
const hour = 3600e3;
let points = [];
const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const plots = [
  { id: "plot-rate", curves: [["translated", "--ok-line", p => p[2] / p[1]], ["from the cache", "--store-line", p => p[5] / p[1]], ["failed", "--fail-line", p => p[3] / p[1]], ["refused", "--refuse-line", p => p[4] / p[1]]] },
  { id: "plot-time", curves: [["p50", "--ok-line", p => p[6]], ["p99", "--refuse-line", p => p[7]]] },
  { id: "plot-load", curves: [["being served", "--ok-line", p => p[8]], ["waiting for a turn", "--refuse-line", p => p[9]]] },
];

function draw(p) {
  const box = $(p.id), soft = colour("--soft"), grid = { stroke: colour("--line"), width: 1 }, font = "11px system-ui, sans-serif";
  p.chart?.destroy();
  p.chart = new uPlot({
    width: box.clientWidth, height: 152, ms: 1, padding: [6, 4, 0, 0], cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
    legend: { live: true }, scales: { x: { time: true, range: () => [Date.now() - hour, Date.now()] }, y: { range: (_, low, high) => [0, Math.max(high || 0, 1) * 1.08] } },
    axes: [{ stroke: soft, grid: { show: false }, ticks: grid, font, values: (u, at) => at.map(t => clock.format(t)) }, { stroke: soft, grid, ticks: { show: false }, font, size: 42, values: (u, at) => at.map(v => short.format(v)) }],
    series: [{ label: "at", value: (u, v) => v === null ? "–" : clock.format(v) }, ...p.curves.map(([label, c]) => ({ label, stroke: colour(c), width: 1.6, fill: c === "--ok-line" && p.id === "plot-rate" ? colour(c) + "1f" : undefined, points: { show: false }, value: (u, v) => v === null || v === undefined ? "–" : short.format(v) }))],
  }, data(p), box);
}
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 }), clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const data = p => [points.map(x => x[0]), ...p.curves.map(([, , of]) => points.map(of))];

async function history() {
  const last = points.length ? points[points.length - 1][0] : 0;
  const { points: more, table: rows } = await ask("/admin/page/history?after=" + last);
  if (last && !more.length) return;
  table("t-hour", rows[0] || [], rows.map(row => row.map(text => ({ text }))));
  points = points.concat(more).filter(p => p[0] > Date.now() - hour);
  for (const p of plots) p.chart ? p.chart.setData(data(p)) : draw(p);
}

// A button with data-post does what it says, and what came of it is told below.
let busy = false;
document.addEventListener("click", async e => {
  const button = e.target.closest("button[data-post]");
  if (!button || busy) return;
  busy = true;
  button.setAttribute("aria-disabled", "true");
  tell("Working…", "");
  try {
    const res = await fetch(button.dataset.post, { method: "POST", credentials: "same-origin" }), body = await res.json();
    const text = body.error ? sentence(body.error.message) + "." : [body.text, ...(body.warnings || []).map(w => "warning: " + w)].join("\n");
    if (res.ok && $("values") && !button.dataset.post.includes("dry_run")) {
      // The screen shows another configuration now: it is loaded anew, and says then what came of it.
      sessionStorage.setItem("told", text);
      return location.reload();
    }
    tell(text, res.ok ? "good" : "bad");
  } catch (err) {
    tell("The gateway does not answer: " + err.message, "bad");
  }
  button.removeAttribute("aria-disabled");
  busy = false;
});

function tell(text, how) {
  const box = $("verdict");
  box.hidden = false;
  box.className = "panel " + how;
  say(box.querySelector("pre"), text);
  box.scrollIntoView({ block: "nearest" });
}

if ($("verdict") && sessionStorage.getItem("told")) {
  const text = sessionStorage.getItem("told");
  sessionStorage.removeItem("told");
  setTimeout(() => tell(text, "good"), 100); // a reader hears of what changes once the page is there
}

if ($("find")) $("find").addEventListener("input", () => {
  const want = $("find").value.trim().toLowerCase();
  for (const tr of $("values").tBodies[0].rows) tr.hidden = want !== "" && !tr.textContent.toLowerCase().includes(want);
});

// The playground. An answer comes in pieces, which are shown as they come; a reader hears of it once it is whole.
const rightToLeft = /^(ar|fa|he|ur|ps|sd|ug|yi|dv|ckb)\b/i;

function answer(name) {
  const text = el("p", { class: "text", lang: $("target").value, dir: rightToLeft.test($("target").value) ? "rtl" : "ltr" }), facts = el("dl", { class: "facts" }), bars = el("ol", { class: "attempts" });
  const box = el("section", { class: "panel", "aria-busy": true }, el("h2", {}, name), text, facts, bars);
  $("answers").append(box);
  return { box, text, facts, bars };
}

// events yields what a stream of server-sent events holds.
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const event = /^event: (.*)$/m.exec(part), data = /^data: (.*)$/m.exec(part);
      if (event && data) yield [event[1], JSON.parse(data[1])];
    }
  }
}

const fact = (name, value) => value === undefined || value === "" ? null : el("div", {}, el("dt", {}, name), el("dd", {}, String(value)));
const ms = v => (v < 10 ? v.toFixed(1) : Math.round(v)) + " ms";

async function translate(to, provider, body, signal) {
  const begin = performance.now();
  let first = 0, result = null;
  try {
    const res = await fetch("/admin/v1/translate" + (provider ? "?provider=" + encodeURIComponent(provider) : ""), {
      method: "POST", credentials: "same-origin", signal, headers: { "Content-Type": "application/json", Accept: "text/event-stream" }, body: JSON.stringify(body),
    });
    if (!/event-stream/.test(res.headers.get("Content-Type"))) throw new Error((await res.json()).error.message);
    for await (const [event, data] of events(res.body)) {
      if (event === "delta") { first ||= performance.now() - begin; to.text.append(data.text); }
      if (event === "result") { result = data; if (data.error) throw new Error(data.error.message); say(to.text, data.text); }
      if (event === "done") finish(to, result, data.timing, first);
    }
    if (!result) throw new Error("the answer ended too early");
    return true;
  } catch (err) {
    if (signal.aborted) return false;
    to.text.replaceChildren(el("strong", { class: "bad" }, sentence(err.message) + "."));
    return false;
  } finally {
    to.box.removeAttribute("aria-busy");
  }
}

function finish(to, r, timing, first) {
  to.facts.replaceChildren(...[
    fact("answered by", r.provider || (r.cached ? "the cache" : "the gateway itself")), fact("model", r.model), fact("cache", r.cached ? "hit" : "miss"), fact("in all", ms(timing.total_ms)),
    first ? fact("first piece seen after", ms(first)) : null, timing.attempts ? fact("attempts", timing.attempts) : null, fact("flags", (r.flags || []).join(", ")),
    r.usage ? fact("tokens", r.usage.prompt_tokens + " + " + r.usage.completion_tokens) : null, fact("language", r.detected_source),
  ].filter(Boolean));
  const most = Math.max(timing.total_ms, .001);
  to.bars.replaceChildren(...Object.entries(timing.stages).reverse().map(([name, took]) => el("li", {}, el("span", { class: "of" }, name, el("span", { class: "soft" }, " " + ms(took))), bar(took / most))));
}

function bar(share) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 100 4");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  for (const [name, width] of [["all", 100], ["own", Math.max(Math.min(100 * share, 100), .4)]]) {
    const r = document.createElementNS(svg.namespaceURI, "rect");
    r.setAttribute("class", name);
    r.setAttribute("width", width);
    r.setAttribute("height", 4);
    svg.append(r);
  }
  return svg;
}

if ($("try")) {
  let asked = new AbortController();
  $("try").addEventListener("submit", async e => {
    e.preventDefault();
    asked.abort();
    asked = new AbortController();
    const mine = asked.signal, each = $("each")?.checked ? $("each").dataset.providers.split(" ") : [""];
    const body = { text: $("text").value, target: $("target").value.trim(), no_cache: $("fresh").checked, stream: true };
    if ($("source").value.trim()) body.source = $("source").value.trim();
    $("answers").replaceChildren();
    say($("announce"), "");
    const done = await Promise.all(each.map(p => translate(answer(p || "Answer"), p, body, mine)));
    if (!mine.aborted) say($("announce"), each.length === 1 ? (done[0] ? "Answer: " : "Failed: ") + $("answers").querySelector(".text").textContent : done.filter(Boolean).length + " of " + each.length + " providers have answered");
  });
  $("text").addEventListener("keydown", e => { if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) $("try").requestSubmit(); });
}

if ($("plot-rate")) {
  $("hour").open = false; // the curves show it
  every(5000, history);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => plots.forEach(draw));
  const sizes = new ResizeObserver(all => all.forEach(e => plots.find(p => $(p.id) === e.target).chart?.setSize({ width: Math.floor(e.contentRect.width), height: 152 })));
  plots.forEach(p => sizes.observe($(p.id)));
}
if ($("state")) {
  $("main").append(el("p", { id: "said", role: "status", class: "hidden" }));
  every(5000, status);
}
