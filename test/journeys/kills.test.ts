import assert from "node:assert/strict";
import { test } from "node:test";
import type { MqttClient } from "mqtt";
import type { PartName } from "../../scripts/chain/plans.ts";
import { waitFor } from "../support/wait-for.ts";
import {
  assertLandedOnce,
  collect,
  connectCloud,
  connectGateway,
  startChain,
} from "./support/journey.ts";

const KILLED: readonly PartName[] = [
  "firmware-bridge",
  "gateway",
  "cloud-1",
  "cloud-2",
  "cluster",
  "landing",
  "haproxy",
];
const PUBLISH_EVERY_MS = 5;
const UNDER_LOAD_MESSAGES = 200;
const RECOVERY_MS_MAX = 90_000;

/** Publishes 1, 2, 3 … at QoS 1 until ended, and remembers what was acknowledged. */
class Load {
  readonly acknowledged: number[] = [];
  readonly #publisher: MqttClient;
  #number = 0;
  #underWay = 0;
  readonly #timer: NodeJS.Timeout;

  constructor(publisher: MqttClient) {
    this.#publisher = publisher;
    this.#timer = setInterval(() => this.#publish(), PUBLISH_EVERY_MS);
  }

  get last(): number {
    return this.acknowledged.at(-1) ?? 0;
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** Publishes no more; resolves when all that was published is acknowledged. */
  async end(): Promise<void> {
    this.stop();
    await waitFor("the last acknowledgements", () => this.#underWay === 0, RECOVERY_MS_MAX);
  }

  #publish(): void {
    const number = ++this.#number;
    this.#underWay += 1;
    this.#publisher.publish("load", String(number), { qos: 1 }, (fault) => {
      this.#underWay -= 1;
      if (!fault) this.acknowledged.push(number);
    });
  }
}

test("kill -9 of any process loses nothing that was acknowledged, and needs no hands", async (t) => {
  const chain = await startChain(t);
  const consumer = await connectCloud(t, chain, { clientId: "consumer", clean: false });
  const all = collect(consumer);
  await consumer.subscribeAsync("from/gw-001/load", { qos: 1 });
  const publisher = await connectGateway(t, chain, { clientId: "publisher", clean: false });
  const load = new Load(publisher);
  t.after(() => load.stop());
  const received = () => new Set(all.map(({ payload }) => Number(payload)));
  /** Something acknowledged from now on has gone the whole way. */
  const flows = async (what: string) => {
    const from = load.last + UNDER_LOAD_MESSAGES;
    await waitFor(`${what}: acknowledgements`, () => load.last >= from, RECOVERY_MS_MAX);
    await waitFor(`${what}: ${from} to arrive`, () => received().has(from), RECOVERY_MS_MAX);
  };

  await flows("before");
  for (const name of KILLED) {
    await t.test(`${name} comes back by itself`, async () => {
      const part = chain.part(name);
      part.kill();
      await part.waitForExit();
      await waitFor(`${name} to be started again`, () => part.restartCount === 1);
      await flows(`after kill -9 of ${name}`);
    });
  }
  // What is still under way will be acknowledged, too, and must then arrive.
  await load.end();
  const isAll = () => received().size >= load.acknowledged.length;
  await waitFor("the rest", isAll, RECOVERY_MS_MAX);

  const arrived = received();
  const lost = load.acknowledged.filter((number) => !arrived.has(number));
  assert.deepEqual(lost, [], `${lost.length} of ${load.acknowledged.length} acknowledged are lost`);
  const firsts = [...arrived];
  assert.deepEqual(
    firsts,
    firsts.toSorted((a, b) => a - b),
    "in order of their first arrival",
  );
  await assertLandedOnce(chain);
});
