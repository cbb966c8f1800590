// schedule.test: one seed is one schedule, and no kind of fault is forgotten.
// Path: [schedule] → trouble. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { FAULT_NAMES, schedule } from "../../../scripts/ordeal/schedule.ts";

const options = { seed: 1, seconds: 60, gateways: 2, faults: FAULT_NAMES };

test("one seed is one schedule, another one another", () => {
  assert.deepEqual(schedule(options), schedule(options));
  assert.notDeepEqual(schedule(options), schedule({ ...options, seed: 2 }));
});

test("every fault is over when the time is", () => {
  for (const { atMs, lastsMs } of schedule(options)) assert.ok(atMs + lastsMs <= 60_000);
});

test("a longer run has every kind of fault, and kills every kind of process", () => {
  const planned = schedule({ ...options, seconds: 600 });
  assert.deepEqual(new Set(planned.map(({ fault }) => fault)), new Set(FAULT_NAMES));
  const killed = planned.filter(({ fault }) => fault === "kill").map(({ target }) => target);
  const gateways = ["gateway", "gateway-2", "firmware-bridge", "device"];
  const cloud = ["cloud-1", "cloud-2", "haproxy", "landing", "landing-replica", "cluster"];
  assert.deepEqual(new Set(killed), new Set([...gateways, ...cloud]));
});

test("only the faults that are asked for come, to gateways that are there", () => {
  const planned = schedule({ ...options, gateways: 3, faults: ["power-cut", "outage"] });
  assert.deepEqual(new Set(planned.map(({ fault }) => fault)), new Set(["power-cut", "outage"]));
  const hit = planned.filter(({ fault }) => fault === "power-cut").map(({ target }) => target);
  assert.deepEqual(new Set(hit), new Set(["gateway", "gateway-2", "gateway-3"]));
});
