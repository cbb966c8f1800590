// fake-landing.test: the landing in memory answers as the functions in Redis do.
// Path: test. Touches: a real Redis on loopback.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { encodeFrame } from "#contract/frame";
import { encodeGap } from "#contract/message";
import { loadLandingLibrary } from "../../../broker/ingest/landing-library.ts";
import { Landing } from "../../../broker/uplink/landing.ts";
import { startRedis } from "../../support/redis-server.ts";
import { FakeLanding } from "./fake-landing.ts";

const writer = fc.constantFrom("one", "two", "three");
const epoch = fc.integer({ min: 5, max: 7 });

const append = fc
  .record({ epoch, writer, prev: fc.nat(6), count: fc.integer({ min: 1, max: 3 }) })
  .map(({ prev, count, ...who }) => {
    const gap = { from: prev + 1, to: prev + count, count, reason: "x" };
    const frame = encodeFrame(prev + 1, [encodeGap(gap)]);
    return { ...who, lane: "default", prev, last: prev + count, frame, sentMs: 1 };
  });
const probe = fc
  .record({ epoch, writers: fc.uniqueArray(writer, { minLength: 1 }) })
  .map((it) => ({ ...it, lane: "default", downCursor: "0-0" }));

test("whatever is asked, it answers as the functions in Redis do", async (t) => {
  const redis = await startRedis(t);
  await loadLandingLibrary(redis.client);
  const real = await Landing.connect({ url: redis.url }, "gw-001");
  t.after(() => real.close());
  await fc.assert(
    fc.asyncProperty(fc.array(fc.oneof(append, probe), { maxLength: 25 }), async (requests) => {
      await redis.client.flushdb();
      const fake = new FakeLanding().connect(() => {});
      for (const request of requests) {
        const ask = (landing: typeof fake) =>
          "frame" in request ? landing.append(request) : landing.probe(request);
        assert.deepEqual(await ask(fake), await ask(real), JSON.stringify(request));
      }
    }),
    { seed: 20_261_128, numRuns: 200 },
  );
});
