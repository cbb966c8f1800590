import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { waitFor } from "../support/wait-for.ts";
import {
  assertLandedOnce,
  collect,
  connectCloud,
  connectGateway,
  landedPayloads,
  startChain,
} from "./support/journey.ts";

const MESSAGES = 5_000;
const OUTAGE_MS = 30_000;
/** The uplink's longest wait between two tries, and time to drain. */
const RECOVERY_MS_MAX = 90_000;

test("what is acknowledged during an outage of the network arrives after it, in order, once", async (t) => {
  const chain = await startChain(t);
  const consumer = await connectCloud(t, chain, { clientId: "consumer", clean: false });
  const all = collect(consumer);
  await consumer.subscribeAsync("from/gw-001/outage", { qos: 1 });
  const publisher = await connectGateway(t, chain);

  await chain.networkOff();
  const outageEnds = sleep(OUTAGE_MS);
  const expected = Array.from({ length: MESSAGES }, (_, index) => String(index + 1));
  await Promise.all(
    expected.map((payload) => publisher.publishAsync("outage", payload, { qos: 1 })),
  );
  const isLocal = await landedPayloads(chain, "outage");
  assert.deepEqual(isLocal, [], "all of it waits on the gateway");
  await outageEnds;
  await chain.networkOn();

  await waitFor(
    "the last message",
    () => all.at(-1)?.payload === String(MESSAGES),
    RECOVERY_MS_MAX,
  );
  assert.deepEqual(
    all.map(({ payload }) => payload),
    expected,
  );
  assert.deepEqual(await landedPayloads(chain, "outage"), expected);
  await assertLandedOnce(chain);
});
