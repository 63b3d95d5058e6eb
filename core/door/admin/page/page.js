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
    width: box.clientWidth, height: box.clientHeight - 30, ms: 1, padding: [6, 4, 0, 0], cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
    legend: { live: true }, scales: { x: { time: true, range: () => [Date.now() - hour, Date.now()] }, y: { range: (_, low, high) => [0, Math.max(high || 0, 1) * 1.08] } },
    axes: [{ stroke: soft, grid: { show: false }, ticks: grid, font, values: (u, at) => at.map(t => clock.format(t)) }, { stroke: soft, grid, ticks: { show: false }, font, size: 42, values: (u, at) => at.map(v => short.format(v)) }],
    series: [{ label: "at", value: (u, v) => v === null ? "–" : clock.format(v) }, ...p.curves.map(([label, c]) => ({ label, stroke: colour(c), width: 1.6, fill: c === "--ok-line" && p.id === "plot-rate" ? colour(c) + "1f" : undefined, points: { show: false }, value: (u, v) => v === null || v === undefined ? "–" : short.format(v) }))],
  }, data(p), box);
}
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 }), clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const data = p => [points.map(x => x[0]), ...p.curves.map(([, , of]) => points.map(of))];

async function history() {
  const last = points.length ? points[points.length - 1][0] : 0;
  const more = (await ask("/admin/page/history?after=" + last)).points;
  if (last && !more.length) return;
  points = points.concat(more).filter(p => p[0] > Date.now() - hour);
  for (const p of plots) p.chart ? p.chart.setData(data(p)) : draw(p);
}

if ($("plot-rate")) {
  every(5000, history);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => plots.forEach(draw));
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; plots.forEach(draw); } });
}
if ($("state")) {
  $("main").append(el("p", { id: "said", role: "status", class: "hidden" }));
  every(5000, status);
}
