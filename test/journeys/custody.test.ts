import assert from "node:assert/strict";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { connectAsync } from "mqtt";
import { decodeRecord } from "#contract/message";
import { Lane } from "../../broker/outbox/lane.ts";
import { Store } from "../../broker/store/store.ts";
import { waitFor } from "../support/wait-for.ts";
import { freePlace, type Place, startGateway } from "./support/gateway.ts";

const ROUNDS = 5;
/** How many messages the publisher has under way: what an early PUBACK would lose of. */
const WINDOW = 1_000;
const KILL_AFTER_ACKNOWLEDGED = 1_500;
const NOWHERE = { uplink: { url: "redis://127.0.0.1:1" } };

/** Publishes at QoS 1 with a full window until the gateway is killed in the middle of it. */
async function publishUntilKilled(
  t: TestContext,
  place: Place,
  durability: string,
  round: number,
): Promise<string[]> {
  const gateway = startGateway(t, place, { ...NOWHERE, store: { durability } });
  await waitFor("the gateway", gateway.status, 15_000);
  const url = `mqtt://127.0.0.1:${place.mqttPort}`;
  const client = await connectAsync(url, { protocolVersion: 4, reconnectPeriod: 0 });
  client.on("error", () => {});
  const acknowledged: string[] = [];
  let sent = 0;
  const publish = () => {
    const payload = `${round}.${++sent}`;
    client.publish("custody", payload, { qos: 1 }, (fault) => {
      if (fault) return;
      acknowledged.push(payload);
      if (acknowledged.length === KILL_AFTER_ACKNOWLEDGED) gateway.child.kill("SIGKILL");
      publish();
    });
  };
  const closed = new Promise<void>((resolve) => client.once("close", resolve));
  for (let number = 0; number < WINDOW; number += 1) publish();
  await closed;
  await gateway.exited;
  client.end(true);
  return acknowledged;
}

/** What lies in the outbox on disk. */
async function heldBy(place: Place): Promise<Set<string>> {
  const store = await Store.open(join(place.folder, "data"));
  const limits = { bytesMax: 1e9, tailBytesMax: 1e9, tailSecondsMax: 600 };
  const more = { diskFreeBytesMin: 0, whenFull: "reject" } as const;
  const lane = await Lane.open("default", { store, limits: { ...limits, ...more } });
  const held = new Set<string>();
  for (let seq = 0; seq < lane.lastSeq; ) {
    const run = await lane.readAfter(seq);
    assert(run, `sequence ${seq + 1} is missing`);
    for (const { record } of run.records) {
      const decoded = decodeRecord(record);
      if (decoded.kind === "message") held.add(new TextDecoder().decode(decoded.message.payload));
    }
    seq = run.lastSeq;
  }
  await store.close();
  return held;
}

for (const durability of ["fsync", "os"]) {
  test(`keeps what it acknowledged through kill -9 at full load: durability ${durability}`, async (t) => {
    const place = await freePlace(t);
    const acknowledged: string[] = [];
    for (let round = 1; round <= ROUNDS; round += 1) {
      acknowledged.push(...(await publishUntilKilled(t, place, durability, round)));
    }
    const held = await heldBy(place);
    const lost = acknowledged.filter((payload) => !held.has(payload));
    assert.equal(lost.length, 0, `${lost.length} of ${acknowledged.length} acknowledged are lost`);
    t.diagnostic(`${acknowledged.length} acknowledged, ${ROUNDS} kills, 0 lost`);
  });
}
