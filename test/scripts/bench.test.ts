// bench.test: what scripts/bench promises to whoever types it; no figure is judged here.
// Path: scripts/bench → benchmark/main → [brokers, loads]. Touches: temporary folders, processes.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { planOf, whyMissing } from "../../scripts/benchmark/brokers.ts";
import { Arrivals } from "../../scripts/benchmark/load/arrivals.ts";
import { connectPacket, messageTemplate, pubacks } from "../../scripts/benchmark/load/packets.ts";
import { PacketScanner } from "../../scripts/benchmark/load/scanner.ts";
import { castOf } from "../../scripts/benchmark/load/shapes.ts";
import { SCENARIOS } from "../../scripts/benchmark/scenarios.ts";
import { ENVIRONMENT, NODE_FLAGS } from "../../scripts/benchmark/serial/bridge-process.ts";
import { tablesOf } from "../../scripts/benchmark/table.ts";
import { waitFor } from "../support/wait-for.ts";
import { ROOT, temporaryFolder } from "./support.ts";

const MAIN = join(ROOT, "scripts/benchmark/main.ts");
const MS_MAX = 60_000;

/** The command lines of all processes that have `text` in theirs. */
function processesWith(text: string): string[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(commandLine)
    .filter((line) => line.includes(text));
}

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8");
  } catch {
    return "";
  }
}

test("--list names every scenario, and nothing is set up or run", () => {
  const { status, stdout } = spawnSync(join(ROOT, "scripts/bench"), ["--list"], {
    encoding: "utf8",
  });
  assert.equal(status, 0);
  const names =
    "p2p-q0 p2p-q1 p2p-q1-w1 fanin-q1 fanout-q0 fanout-q1 wild-q0 wild-q1 p2p-1k retain conns idle frozen custody-q1 custody-slow-disk drain outbox-memory bridged outage serial-saturated serial-quiet serial-start serial-many";
  assert.deepEqual(
    stdout
      .trimEnd()
      .split("\n")
      .map((line) => line.split(" ")[0]),
    names.split(" "),
  );
});

test("--help says what there is, and a wrong word is refused with code 2", () => {
  const bench = (command: string, ...args: string[]) =>
    spawnSync(command, args, { encoding: "utf8" });
  const script = join(ROOT, "scripts/bench");
  assert.match(bench(script, "--help").stdout, /--only NAMES/);
  const refusals = [bench(script, "--fast"), bench(script, "p2p-q1")];
  for (const words of [
    ["--only", "p2p-q1,p2p-q9"],
    ["--brokers", "emqx"],
    ["--repeats", "0"],
    ["--repeats", "1.5"],
    ["--seconds", "soon"],
    ["--seconds"],
  ]) {
    refusals.push(bench(process.execPath, MAIN, ...words));
  }
  for (const { status, stdout, stderr } of refusals) {
    assert.equal(status, 2, stderr);
    assert.equal(stdout, "");
    assert.match(stderr, /--help/);
  }
});

test("a run prints a row with a figure of each broker, and leaves nothing behind", async () => {
  const folder = await temporaryFolder();
  const results = await temporaryFolder();
  const json = join(results.path, "runs.json");
  // Mosquitto is no part of the tests' machine; where there is one, it takes part.
  const brokers = ["aedes", "sluice", ...(whyMissing("mosquitto") ? [] : ["mosquitto"])];
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [
      MAIN,
      ...["--only", "p2p-q1", "--seconds", "0.3", "--repeats", "1"],
      ...["--brokers", brokers.join(","), "--json", json],
    ],
    { encoding: "utf8", env: { ...process.env, TMPDIR: folder.path }, timeout: MS_MAX },
  );
  assert.equal(status, 0, stderr);
  const figures = "( \\d[\\d.]* \\|)".repeat(brokers.length);
  assert.match(stdout, new RegExp(`^\\| p2p-q1 \\| CPU µs per delivery \\|${figures}`, "m"));
  assert.match(stdout, /Linux \S+; Node v?24\./);
  const { runs } = JSON.parse(readFileSync(json, "utf8"));
  const measured = runs.map((run: { broker: string }) => run.broker);
  assert.deepEqual(measured.sort(), brokers.sort());
  assert.deepEqual(readdirSync(folder.path), []);
  assert.deepEqual(processesWith(folder.path), []);
  await folder.remove();
  await results.remove();
});

test("the promises are measured: a row each, and nothing is lost in an outage", async () => {
  const folder = await temporaryFolder();
  const only = "custody-q1,custody-slow-disk,drain,bridged,outage,serial-saturated";
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [MAIN, "--only", only, "--seconds", "0.5", "--repeats", "1", "--brokers", "sluice"],
    { encoding: "utf8", env: { ...process.env, TMPDIR: folder.path }, timeout: MS_MAX },
  );
  assert.equal(status, 0, stderr);
  for (const row of [
    /^\| custody-q1 \| PUBACKs per second \| \d+ \| ≥ 15000 \|/m,
    /^\| custody-slow-disk \| p99 ms of the PUBACK, 1,000 per second \| (?:[2-9]\d|\d{3,})/m,
    /^\| drain \| CPU µs per delivery of 5,000 \| [\d.]+ \| ≤ 12 \|/m,
    /^\| bridged \| CPU µs per message, 10,000 at full speed \| [\d.]+ \| ≤ 60 \|/m,
    /^\| outage \| lost of 417 in 0.5 s, with defaults \| 0 \| ≤ 0 \| reached \|/m,
    /^\| serial-saturated \| lines lost \| 0 \| ≤ 0 \| reached \|/m,
    /^\| outage \| drained per second, into the landing \| [\d.]+ \|/m,
  ]) {
    assert.match(stdout, row);
  }
  // The slow disk is compiled once for all runs.
  const left = readdirSync(folder.path).filter((name) => !name.startsWith("sluice-disk-shim"));
  assert.deepEqual(left, []);
  assert.deepEqual(processesWith(folder.path), []);
  await folder.remove();
});

test("Sluice is measured as its unit runs it", () => {
  const { args } = planOf("sluice", { folder: "/nowhere", port: 1, setup: {} });
  const flags = args.slice(0, args.indexOf(join(ROOT, "dist/broker.cjs"))).join(" ");
  const unit = readFileSync(join(ROOT, "systemd/sluice-broker.service"), "utf8");
  assert.match(unit, new RegExp(`^ExecStart=\\S+/node ${flags} \\S+broker.cjs`, "m"));
});

test("the firmware-bridge is measured as its unit runs it", () => {
  const unit = readFileSync(join(ROOT, "systemd/sluice-firmware-bridge.service"), "utf8");
  assert.ok(unit.includes(`/node ${NODE_FLAGS.join(" ")} /`), "its flags");
  for (const [name, value] of Object.entries(ENVIRONMENT)) {
    assert.ok(unit.includes(`\nEnvironment=${name}=${value}\n`), name);
  }
});

test("what was lost is what never came, however often the rest did", () => {
  const arrivals = new Arrivals(5);
  for (const number of [0, 1, 1, 4, 0, 0]) arrivals.add(number);
  assert.equal(arrivals.lost, 2);
  assert.equal(arrivals.repeated, 3);
});

test("Ctrl-C ends it, and what it started, long before the run would be over", async (t) => {
  const folder = await temporaryFolder();
  const words = ["--only", "p2p-q1", "--seconds", "600", "--brokers", "aedes"];
  const child = spawn(process.execPath, [MAIN, ...words], {
    stdio: "ignore",
    env: { ...process.env, TMPDIR: folder.path },
  });
  t.after(() => child.kill("SIGKILL"));
  const children = () => {
    const list = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, "utf8");
    return list.trim().split(" ");
  };
  const hasLoad = () => children().some((pid) => commandLine(pid).includes('"kind":"live"'));
  await waitFor("the load", hasLoad, MS_MAX);
  const pids = children();
  assert.equal(pids.length, 2);
  child.kill("SIGINT");
  await waitFor("its end", () => child.exitCode !== null, MS_MAX);
  assert.equal(child.exitCode, 1);
  assert.deepEqual(readdirSync(folder.path), []);
  assert.deepEqual(pids.map(commandLine).join(""), "");
  await folder.remove();
});

test("the load finds the same packets however the bytes that carry them are cut", () => {
  const long = messageTemplate({ topic: "a/b", qos: 1, retain: false, payloadBytes: 20_000 });
  const short = messageTemplate({ topic: "a", qos: 0, retain: true, payloadBytes: 0 });
  const packets = [connectPacket("c"), long.bytes, pubacks([7]), short.bytes, long.bytes];
  const bytes = Buffer.concat(packets);
  const cuts = fc.array(fc.nat(bytes.length), { maxLength: 20 });
  const property = fc.property(cuts, (places) => {
    const found: Buffer[] = [];
    const scanner = new PacketScanner((all, start, _, end) => {
      found.push(Buffer.from(all.subarray(start, end)));
    });
    const edges = [0, ...places.sort((a, b) => a - b), bytes.length];
    for (const [index, edge] of edges.entries()) {
      scanner.push(Buffer.from(bytes.subarray(edge, edges[index + 1])));
    }
    // What lies behind the last edge is pushed with it, too: nothing.
    assert.deepEqual(found, packets);
  });
  fc.assert(property, { seed: 1 });
});

test("wild has 10,000 topics, 1,000 subscribers, and about 11 deliveries of a message", () => {
  const { publishers, filters } = castOf("wild");
  const topics = publishers.flat();
  assert.equal(new Set(topics.map(({ topic }) => topic)).size, 10_000);
  assert.equal(filters.length, 1_000);
  const deliveries = topics.reduce((sum, topic) => sum + topic.deliveries, 0);
  assert.ok(Math.abs(deliveries / topics.length - 11) < 1);
});

test("the ratio is the median of the ratios of runs that followed each other", () => {
  const scenarios = SCENARIOS.filter(({ name }) => name === "p2p-q0");
  const run = (broker: "mosquitto" | "sluice", repeat: number, cpuUsPerDelivery: number) => ({
    scenario: "p2p-q0",
    broker,
    repeat,
    figures: { cpuUsPerDelivery },
  });
  const runs = [
    ...[run("mosquitto", 0, 10), run("sluice", 0, 5)],
    ...[run("mosquitto", 1, 100), run("sluice", 1, 40)],
    // Its other half failed.
    ...[run("mosquitto", 2, 1)],
    ...[run("mosquitto", 3, 20), run("sluice", 3, 14)],
  ];
  const text = tablesOf(scenarios, ["mosquitto", "sluice"], runs, 3);
  assert.match(text, /\| 15 \| 14 \| 0\.5 \| ≤ 0\.6 × mosquitto \| reached \|/);
  const slower = runs.map((one) => (one.broker === "sluice" ? { ...one, ...slow } : one));
  assert.match(tablesOf(scenarios, ["mosquitto", "sluice"], slower, 3), /\| not reached \|/);
  const alone = runs.filter(({ broker }) => broker === "mosquitto");
  assert.match(tablesOf(scenarios, ["mosquitto", "sluice"], alone, 3), /\| not measured \|/);
});

test("a goal that is a least is reached from there on", () => {
  const scenarios = SCENARIOS.filter(({ name }) => name === "custody-q1");
  const run = (messagesPerSecond: number) => ({
    scenario: "custody-q1",
    broker: "sluice" as const,
    repeat: 0,
    figures: { messagesPerSecond },
  });
  const text = (perSecond: number) => tablesOf(scenarios, ["sluice"], [run(perSecond)], 3);
  assert.match(text(15_000), /\| 15000 \| ≥ 15000 \| reached \|/);
  assert.match(text(14_999), /\| 14999 \| ≥ 15000 \| not reached \|/);
});

const slow = { figures: { cpuUsPerDelivery: 1_000 } };
