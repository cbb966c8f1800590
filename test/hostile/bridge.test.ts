// bridge.test: whatever devices say on all links at once, the firmware-bridge lives, and the others go on.
// Path: test → a gateway and a bridge as processes. Touches: what those touch, pseudo-terminals.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { connectAsync } from "mqtt";
import type { LinksDocument } from "#contract/links";
import { ROOT } from "../../scripts/chain/folder.ts";
import { startBridge } from "../journeys/support/bridge.ts";
import { freePlace, startGateway } from "../journeys/support/gateway.ts";
import { Pty } from "../support/pty.ts";
import { waitFor } from "../support/wait-for.ts";
import { Noise, SPEAKERS } from "./support/serial-noise.ts";

const MIB = 2 ** 20;
/** Of each link: what 115,200 baud bring. */
const BYTES_PER_SECOND = 11_520;
/** What noise at 921,600 baud may cost of a core. */
const CPU_PER_BYTE_PER_SECOND = 0.15 / 92_160;
/** What is measured on a machine that does other things at the same time. */
const TOLERANCE = 2;
const BEAT_MS = 20;
const LINE_MS = 50;
const WARM_MS = 6_000;
const NOISE_MS = 12_000;
/** A process from its sources needs this much more than the one that ships. */
const SOURCES_BYTES = 64 * MIB;

const UNIT = readFileSync(join(ROOT, "systemd/sluice-firmware-bridge.service"), "utf8");
const HEAP_BOUNDS = (UNIT.match(/--max-[\w-]+=\d+/g) ?? []).join(" ");
const MEMORY_BYTES_MAX = Number(/^MemoryMax=(\d+)M$/m.exec(UNIT)?.[1]) * MIB;

/** A gateway, and a bridge with a link for each driver and one more, whose device is well. */
async function besieged(t: TestContext) {
  const place = await freePlace(t);
  const bridgePlace = await freePlace(t);
  startGateway(t, place);
  const broker = `mqtt://127.0.0.1:${place.mqttPort}`;
  const client = await waitFor(
    "the broker",
    () => {
      return connectAsync(broker, { reconnectPeriod: 0 }).catch(() => undefined);
    },
    20_000,
  );
  t.after(() => client.endAsync(true));
  const well = await Pty.open(t);
  const names = Object.keys(SPEAKERS);
  const ptys = await Promise.all(names.map(() => Pty.open(t)));
  const links = Object.values(SPEAKERS).map(({ settings }, index) => {
    return `[[links]]\npath = "${ptys[index]?.path}"\nname = "${names[index]}"\n${settings}`;
  });
  const file = join(bridgePlace.folder, "sluice.toml");
  const head = `role = "gateway"
    data = "${join(bridgePlace.folder, "data")}"
    bridge = { broker = "${broker}", status = { address = "127.0.0.1:${bridgePlace.statusPort}" } }
    [[links]]
    path = "${well.path}"
    device = "well"\n`;
  writeFileSync(file, head + links.join("\n"));
  const child = await startBridge(t, file, links.length, { NODE_OPTIONS: HEAP_BOUNDS });
  const document = async () => {
    const answer = await fetch(`http://127.0.0.1:${bridgePlace.statusPort}/links`);
    return (await answer.json()) as LinksDocument;
  };
  return { client, well, ptys, child, document };
}

/** Each port gets what its baud rate brings, until it is stopped; tells how many bytes there were. */
function siege(ptys: readonly Pty[]) {
  const noises = Object.values(SPEAKERS).map((speaker, index) => new Noise(speaker, index + 1));
  const startedMs = performance.now();
  const sent = ptys.map(() => 0);
  const timer = setInterval(() => {
    const due = ((performance.now() - startedMs) / 1_000) * BYTES_PER_SECOND;
    for (const [index, pty] of ptys.entries()) {
      while ((sent[index] ?? 0) < due) {
        const bytes = noises[index]?.next() ?? Buffer.alloc(1);
        sent[index] = (sent[index] ?? 0) + bytes.length;
        pty.write(bytes);
      }
    }
  }, BEAT_MS);
  return { sent, stop: () => clearInterval(timer) };
}

/** In seconds: utime and stime of proc_pid_stat(5), in clock ticks. */
function cpuSeconds(pid = 0): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

function memoryBytes(pid = 0, what: "VmRSS" | "VmHWM"): number {
  const text = readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(new RegExp(`^${what}:\\s*(\\d+) kB$`, "m").exec(text)?.[1]) * 1_024;
}

test("noise on a link of each driver at once costs its share, and no other link a line", async (t) => {
  const { client, well, ptys, child, document } = await besieged(t);
  const heard: number[] = [];
  const waitedMs: number[] = [];
  client.on("message", (_topic, payload) => {
    const [count, atMs] = payload.toString().split(" ").map(Number);
    heard.push(count ?? Number.NaN);
    waitedMs.push(performance.now() - (atMs ?? 0));
  });
  await client.subscribeAsync("serial/well/line", { qos: 1 });
  let said = 0;
  const speaking = setInterval(() => well.write(`${said++} ${performance.now()}\n`), LINE_MS);
  const { sent, stop } = siege(ptys);
  await wait(WARM_MS);
  const before = {
    cpu: cpuSeconds(child.pid),
    rss: memoryBytes(child.pid, "VmRSS"),
    bytes: sum(sent),
  };
  const startedMs = performance.now();
  await wait(NOISE_MS);
  const seconds = (performance.now() - startedMs) / 1_000;
  const share = (cpuSeconds(child.pid) - before.cpu) / seconds;
  const rate = (sum(sent) - before.bytes) / seconds;
  const grownBytes = memoryBytes(child.pid, "VmRSS") - before.rss;
  stop();
  clearInterval(speaking);
  await waitFor("all lines", () => heard.length === said);
  const worstMs = Math.max(...waitedMs);
  t.diagnostic(
    `${(100 * share).toFixed(1)} % of a core for ${(rate / 1_000).toFixed(0)} kB/s; ` +
      `grown by ${(grownBytes / MIB).toFixed(1)} MiB; a line waited ${worstMs.toFixed(0)} ms at most`,
  );
  assert.deepEqual(
    heard,
    Array.from({ length: said }, (_, index) => index),
  );
  assert.ok(worstMs < 1_000, `a line of the bystander waited ${worstMs} ms`);
  assert.ok(share < rate * CPU_PER_BYTE_PER_SECOND * TOLERANCE, `${share} of a core`);
  assert.ok(grownBytes < 24 * MIB, `grown by ${grownBytes} bytes`);
  assert.ok(memoryBytes(child.pid, "VmHWM") - SOURCES_BYTES < MEMORY_BYTES_MAX);
  assert.equal(child.exitCode, null);
  const { links } = await document();
  for (const { link, state, faults, frames, bytesIn } of links) {
    assert.equal(state, "up", link);
    assert.ok(faults + frames > 0, `${link} heard nothing`);
    assert.ok(
      link === "well" || bytesIn > (BYTES_PER_SECOND * NOISE_MS) / 1_000,
      `${link} ${bytesIn}`,
    );
  }
});

function sum(numbers: readonly number[]): number {
  return numbers.reduce((all, it) => all + it, 0);
}
