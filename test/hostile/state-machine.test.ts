// state-machine.test: whatever order a client's packets come in, its session does what MQTT says.
// Path: test → a gateway as a process. Touches: what that touches.

import { test } from "node:test";
import fc from "fast-check";
import { conformanceBroker } from "../conformance/support/broker.ts";
import type { Qos, Version } from "../conformance/support/wire-build.ts";
import { SessionModel, type Step } from "./support/session-model.ts";

const broker = conformanceBroker();

const RUNS = process.env.SLUICE_TEST_LONG ? 5_000 : 400;
const STEPS_MAX = 30;

const qos = fc.constantFrom<Qos>(0, 1, 2);
const some = fc.array(qos, { minLength: 1, maxLength: 5 });
const at = fc.nat({ max: 20 });
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("connect"), clean: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("connect"), clean: fc.constant(false) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constantFrom("disconnect", "cut", "repeat") }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("subscribe"), qos }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("unsubscribe") }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("feed"), qos: some }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("publish"), qos: some }) },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("acknowledge"),
      at,
      how: fc.constantFrom("right", "right", "right", "right", "refuse", "wrong"),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("release"), at }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("stray"),
      name: fc.constantFrom("puback", "pubrec", "pubrel", "pubcomp"),
    }),
  },
) as fc.Arbitrary<Step>;

test("any order of packets: QoS 2 once, QoS 1 at least once, in order, answered as is due", async (t) => {
  const version = fc.constantFrom<Version>(4, 5);
  const steps = fc.array(step, { minLength: 5, maxLength: STEPS_MAX, size: "max" });
  const property = fc.asyncProperty(version, steps, async (level, all) => {
    const model = await SessionModel.start(t, broker, level);
    await model.take({ kind: "connect", clean: false });
    for (const one of all) await model.take(one);
    await model.end();
  });
  await fc.assert(property, { seed: 1, numRuns: RUNS });
});
