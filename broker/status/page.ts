// page: the status page: one document without anything from elsewhere, which refreshes itself.
// Path: status → [page] → browser. Touches: nothing.

export const PAGE_STYLE = `
:root {
  color-scheme: light dark;
  --back: #f4f6f8; --card: #fff; --text: #17212b; --dim: #5a6875; --line: #dbe1e7;
  --good: #11713c; --bad: #b3261e; --warn: #8a5a00;
}
@media (prefers-color-scheme: dark) {
  :root {
    --back: #10161c; --card: #19222b; --text: #e4eaf0; --dim: #98a6b3; --line: #2b3844;
    --good: #5fd08f; --bad: #ff8a80; --warn: #f0b94b;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1.5rem 1rem; max-width: 68rem; background: var(--back);
  color: var(--text); font: 16px/1.5 system-ui, sans-serif;
}
header { display: flex; flex-wrap: wrap; align-items: baseline; gap: .25rem .75rem; }
h1 { margin: 0; font-size: 1.5rem; overflow-wrap: anywhere; }
h2 { margin: 0 0 .5rem; font-size: 1rem; }
section { margin-top: 1rem; padding: 1rem; background: var(--card); border: 1px solid var(--line); border-radius: .5rem; overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th { color: var(--dim); font-size: .875rem; font-weight: 500; text-align: left; }
th, td { padding: .3rem .75rem .3rem 0; border-top: 1px solid var(--line); vertical-align: top; }
thead th { border-top: 0; white-space: nowrap; }
.number { text-align: right; white-space: nowrap; }
td.text { overflow-wrap: anywhere; }
ul { margin: 0; padding-left: 1.25rem; }
li { overflow-wrap: anywhere; }
meter { width: 6rem; height: 1rem; vertical-align: middle; }
.badge { padding: .1rem .6rem; border: 1px solid currentColor; border-radius: 1rem; font-size: .875rem; font-weight: 600; }
.good { color: var(--good); } .bad { color: var(--bad); } .warn { color: var(--warn); } .dim { color: var(--dim); }
body.stale main { opacity: .45; }
`;

export const PAGE_SCRIPT = `
"use strict";
const EVERY_MS = 2000;
const ANSWER_MS_MAX = 10000;
const byId = (id) => document.getElementById(id);
let answeredAt = Date.now();

/** An element with text, never markup: what stands in it came from the network. */
function element(tag, text, className) {
  const it = document.createElement(tag);
  if (text !== undefined) it.textContent = text;
  if (className) it.className = className;
  return it;
}

function age(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  const steps = [[86400, "d", 3600, "h"], [3600, "h", 60, "m"], [60, "m", 1, "s"]];
  for (const [large, largeUnit, small, smallUnit] of steps) {
    if (seconds < large) continue;
    return Math.floor(seconds / large) + largeUnit + " " + Math.floor(seconds % large / small) + smallUnit;
  }
  return seconds + "s";
}

function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = count, unit = 0;
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
  return (unit === 0 ? value : value.toFixed(1)) + " " + units[unit];
}

const whole = (count) => count.toLocaleString("en-US");

function show(id, isThere) { byId(id).hidden = !isThere; }

function rows(id, cellsOfRows) {
  byId(id).replaceChildren(...cellsOfRows.map((cells) => {
    const row = element("tr");
    row.append(...cells);
    return row;
  }));
}

function head(status, now) {
  document.title = (status.ready ? "" : "! ") + status.name + " - Sluice";
  byId("name").textContent = status.name;
  byId("about").textContent = "Sluice " + status.version + ", " + status.role +
    ", up " + age(now - status.startedAtMs) + ", " + whole(status.connections) +
    (status.connections === 1 ? " connection" : " connections");
  byId("badge").textContent = status.ready ? "ready" : "not ready";
  byId("badge").className = "badge " + (status.ready ? "good" : "bad");
  show("reasons-part", status.reasons.length > 0);
  byId("reasons").replaceChildren(...status.reasons.map((reason) => element("li", reason)));
}

function uplink(it, now) {
  show("uplink-part", it !== undefined);
  if (!it) return;
  const isGood = it.state === "online";
  byId("uplink-state").textContent = it.state;
  byId("uplink-state").className = "badge " + (isGood ? "good" : it.state === "fenced" ? "bad" : "warn");
  byId("uplink-since").textContent = "for " + age(now - it.sinceMs) + ", " + it.cloud;
  byId("uplink-why").textContent = it.why;
  byId("uplink-counts").textContent = whole(it.sentMessages) + " messages sent, " +
    whole(it.receivedCommands) + " commands received, " + whole(it.rewinds) + " rewinds";
}

function fill(lane) {
  const cell = element("td", undefined, "number");
  const bar = element("meter");
  bar.max = lane.bytesMax;
  bar.low = lane.bytesMax * 0.7;
  bar.high = lane.bytesMax * 0.9;
  bar.optimum = 0;
  bar.value = lane.waitingBytes;
  const share = (lane.bytesMax > 0 ? lane.waitingBytes / lane.bytesMax * 100 : 0).toFixed(1) + "%";
  bar.textContent = share;
  bar.setAttribute("aria-label", lane.lane + " is filled to " + share);
  cell.append(bar, " " + share + " of " + bytes(lane.bytesMax));
  return cell;
}

/** How many, and why. */
function dropped(reasons) {
  const cell = element("td", undefined, "number");
  const counts = Object.entries(reasons);
  if (counts.length === 0) cell.textContent = "0";
  for (const [reason, count] of counts) {
    cell.append(element("div", whole(count) + " " + reason, "bad"));
  }
  return cell;
}

const rate = (perSecond) => whole(Math.round(perSecond));

function outbox(lanes, now) {
  show("outbox-part", lanes !== undefined);
  rows("lanes", (lanes ?? []).map((lane) => [
    element("td", lane.lane),
    element("td", whole(lane.waitingMessages), "number"),
    element("td", bytes(lane.waitingBytes), "number"),
    fill(lane),
    element("td", lane.oldestWaitingAtMs === null ? "-" : age(now - lane.oldestWaitingAtMs), "number"),
    element("td", rate(lane.arrivingPerSecond) + " / " + rate(lane.leavingPerSecond), "number"),
    element("td", whole(lane.position) + " of " + whole(lane.lastSeq), "number"),
    element("td", whole(lane.tailMessages) + ", " + bytes(lane.tailBytes), "number"),
    dropped(lane.dropped),
  ]));
}

/** By reason; what nothing explains, too. */
function lossesOf(gateway) {
  const { missingMessages, lostMessages } = gateway;
  return lostMessages > 0 ? { ...missingMessages, unexplained: lostMessages } : missingMessages;
}

function ingest(it) {
  show("ingest-part", it !== undefined);
  if (!it) return;
  byId("partitions").textContent = whole(it.partitionsOwned) + " of " + whole(it.partitions) +
    " partitions are this broker's" +
    (it.deadLetters > 0 ? ", " + whole(it.deadLetters) + " dead letters are kept for all gateways" : "");
  rows("gateways", it.gateways.map((gateway) => [
    element("td", gateway.gateway),
    element("td", gateway.state, gateway.state === "online" ? "good" : "bad"),
    element("td", gateway.why, "text"),
    element("td", whole(gateway.ingestedMessages), "number"),
    element("td", gateway.behindMs === 0 ? "-" : age(gateway.behindMs), "number"),
    dropped(lossesOf(gateway)),
    element("td", whole(gateway.deadLetters), "number" + (gateway.deadLetters > 0 ? " bad" : "")),
  ]));
}

function silent(why) {
  document.body.className = "stale";
  byId("fetched").className = "bad";
  byId("fetched").textContent = "No answer from the broker for " + age(Date.now() - answeredAt) + ": " + why;
}

async function refresh() {
  try {
    const response = await fetch("status.json", { signal: AbortSignal.timeout(ANSWER_MS_MAX) });
    if (!response.ok) throw new Error("it answers " + response.status);
    // Ages are by the broker's clock: a board's need not agree with the reader's.
    const now = Date.parse(response.headers.get("date")) || Date.now();
    const status = await response.json();
    head(status, now);
    uplink(status.uplink, now);
    outbox(status.outbox, now);
    ingest(status.ingest);
    answeredAt = Date.now();
    document.body.className = "";
    byId("fetched").className = "dim";
    byId("fetched").textContent = "As of " + new Date(now).toISOString().slice(0, 19) + "Z by the broker's clock.";
  } catch (fault) {
    silent(fault.message);
  }
  setTimeout(refresh, EVERY_MS);
}

refresh();
`;

/** The page; its style and script stand alone so that the policy can name them by their hashes. */
export const PAGE_HTML = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sluice</title>
<link rel="icon" href="data:,">
<style>${PAGE_STYLE}</style>
</head>
<body>
<header>
<h1 id="name">Sluice</h1>
<span id="badge" class="badge dim" role="status">…</span>
<span id="about" class="dim"></span>
</header>
<main>
<section id="reasons-part" hidden>
<h2>What is wrong</h2>
<ul id="reasons"></ul>
</section>
<section id="uplink-part" hidden>
<h2>Uplink</h2>
<div><span id="uplink-state" class="badge"></span> <span id="uplink-since"></span></div>
<div id="uplink-why"></div>
<div id="uplink-counts" class="dim"></div>
</section>
<section id="outbox-part" hidden>
<h2>Outbox</h2>
<table>
<thead><tr>
<th scope="col">Lane</th><th scope="col" class="number">Waiting</th>
<th scope="col" class="number">Bytes</th><th scope="col" class="number">Fill</th>
<th scope="col" class="number">Oldest</th><th scope="col" class="number">In / out a second</th>
<th scope="col" class="number">Position</th>
<th scope="col" class="number">Tail</th><th scope="col" class="number">Dropped</th>
</tr></thead>
<tbody id="lanes"></tbody>
</table>
</section>
<section id="ingest-part" hidden>
<h2>Gateways</h2>
<div id="partitions" class="dim"></div>
<table>
<thead><tr>
<th scope="col">Gateway</th><th scope="col">State</th><th scope="col">Why</th>
<th scope="col" class="number">Ingested</th><th scope="col" class="number">Behind</th>
<th scope="col" class="number">Lost</th><th scope="col" class="number">Dead letters</th>
</tr></thead>
<tbody id="gateways"></tbody>
</table>
</section>
</main>
<p id="fetched" class="dim" role="status">…</p>
<noscript>This page needs JavaScript. The same is at /status.json, /readyz and /metrics.</noscript>
<script>${PAGE_SCRIPT}</script>
</body>
</html>
`;
