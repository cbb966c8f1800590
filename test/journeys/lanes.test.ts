import assert from "node:assert/strict";
import { test } from "node:test";
import type { LaneStatus, StatusDocument } from "#contract/status";
import type { Chain } from "../../scripts/chain/chain.ts";
import { waitFor } from "../support/wait-for.ts";
import {
  assertLandedOnce,
  collect,
  connectCloud,
  connectGateway,
  landedPayloads,
  startChain,
} from "./support/journey.ts";

const LANE_BYTES = 65_536;
const PAYLOAD_BYTES = 100;
const MESSAGES = 3_000;
const ALARMS = 10;
const RECOVERY_MS_MAX = 60_000;
const QUOTA_EXCEEDED = 0x97;

const FORWARD = [{ filter: "alarm/#", lane: "alarms" }, { filter: "#" }];

function lanes(whenFull: string) {
  return {
    uplink: { forward: FORWARD },
    outbox: {
      lanes: [{ name: "alarms" }, { name: "default", bytes_max: LANE_BYTES, when_full: whenFull }],
    },
  };
}

function numbered(number: number): string {
  return String(number).padStart(PAYLOAD_BYTES, "0");
}

async function statusOf(chain: Chain): Promise<StatusDocument> {
  const answer = await fetch(`http://127.0.0.1:${chain.ports.gatewayStatus}/status.json`);
  return (await answer.json()) as StatusDocument;
}

async function laneOf(chain: Chain, name: string): Promise<LaneStatus> {
  const lane = (await statusOf(chain)).outbox?.find((it) => it.lane === name);
  assert(lane, `lane ${name}`);
  return lane;
}

/** What the cloud's brokers counted of gap records. */
async function gapsAtCloud({ ports }: Chain): Promise<number> {
  const counts = [ports.cloud1Status, ports.cloud2Status].map(async (port) => {
    const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
    const values = text.match(/^sluice_ingest_gaps_total\{.*\} (\d+)$/gm) ?? [];
    return values.reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
  });
  return (await Promise.all(counts)).reduce((sum, count) => sum + count, 0);
}

async function drained(chain: Chain): Promise<void> {
  await waitFor(
    "the outbox to drain",
    async () => ((await statusOf(chain)).outbox ?? []).every((it) => it.waitingMessages === 0),
    RECOVERY_MS_MAX,
  );
}

for (const whenFull of ["drop_oldest", "drop_newest"] as const) {
  test(`what a lane drops by its limit is a gap record, counted at both ends: ${whenFull}`, async (t) => {
    const chain = await startChain(t, { gatewaySettings: lanes(whenFull) });
    const consumer = await connectCloud(t, chain, { clientId: "consumer", clean: false });
    const all = collect(consumer);
    await consumer.subscribeAsync(["from/+/load", "from/+/alarm/#"], { qos: 1 });
    const publisher = await connectGateway(t, chain);

    await chain.networkOff();
    const numbers = Array.from({ length: MESSAGES }, (_, index) => index + 1);
    await Promise.all(
      numbers.map((it) => publisher.publishAsync("load", numbered(it), { qos: 1 })),
    );
    for (let alarm = 1; alarm <= ALARMS; alarm += 1) {
      await publisher.publishAsync("alarm/fire", String(alarm), { qos: 1 });
    }
    const held = await laneOf(chain, "default");
    assert.ok(held.waitingBytes <= LANE_BYTES + PAYLOAD_BYTES, `${held.waitingBytes} bytes wait`);
    const { reasons } = await statusOf(chain);
    assert.ok(
      reasons.some((it) => /lane default drops its/.test(it)),
      reasons.join("; "),
    );
    await chain.networkOn();
    await drained(chain);

    const { dropped, lastSeq } = await laneOf(chain, "default");
    const lost = Object.values(dropped).reduce((sum, count) => sum + count, 0);
    assert.deepEqual(Object.keys(dropped), ["over bytes_max"]);
    const kept = (await landedPayloads(chain, "load")).map(Number);
    assert.ok(kept.length > 0 && kept.length < MESSAGES, `${kept.length} are kept`);
    const [first, last] = [kept[0], kept.at(-1)];
    if (whenFull === "drop_oldest") assert.equal(last, MESSAGES, "the newest is kept");
    else assert.equal(first, 1, "the oldest is kept");
    await waitFor("the gaps to be counted", async () => (await gapsAtCloud(chain)) === lost);
    await waitFor("all that is left", () => all.length >= kept.length + ALARMS, RECOVERY_MS_MAX);
    const received = (topic: string) =>
      all.filter((it) => it.topic === topic).map(({ payload }) => Number(payload));
    assert.deepEqual(received("from/gw-001/load"), kept);
    assert.equal(received("from/gw-001/alarm/fire").length, ALARMS, "another lane's are all there");
    assert.ok(lastSeq >= MESSAGES, "what was dropped has its numbers");
    await assertLandedOnce(chain);
  });
}

test("a full lane acknowledges nothing more, says why, and goes on once the cloud takes some", async (t) => {
  const chain = await startChain(t, { gatewaySettings: lanes("reject") });
  const publisher = await connectGateway(t, chain, { protocolVersion: 5 });
  const publish = (number: number): Promise<number> =>
    new Promise((resolve) => {
      publisher.publish("load", numbered(number), { qos: 1 }, (fault) => {
        resolve(fault ? ((fault as { code?: number }).code ?? -1) : 0);
      });
    });
  await chain.networkOff();
  const numbers = Array.from({ length: MESSAGES }, (_, index) => index + 1);
  const codes = await Promise.all(numbers.map(publish));
  const acknowledged = numbers.filter((_, index) => codes[index] === 0);
  const refused = codes.filter((code) => code === QUOTA_EXCEEDED).length;
  assert.ok(acknowledged.length > 0 && refused > 0, `${acknowledged.length} and ${refused}`);
  assert.equal(acknowledged.length + refused, MESSAGES);
  const { reasons } = await statusOf(chain);
  assert.ok(
    reasons.some((it) => /lane default takes nothing more: it holds/.test(it)),
    reasons.join("; "),
  );
  await chain.networkOn();
  await drained(chain);
  assert.equal(await publish(MESSAGES + 1), 0);
  await drained(chain);
  const landed = (await landedPayloads(chain, "load")).map(Number);
  assert.deepEqual(landed, [...acknowledged, MESSAGES + 1]);
  assert.deepEqual(
    (await laneOf(chain, "default")).dropped,
    {},
    "nothing was promised and dropped",
  );
});
