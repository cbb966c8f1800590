// cluster-sessions.test: two brokers of a cluster are one broker to their clients.
// Path: journeys → brokers → chain. Touches: what a chain touches.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { Chain } from "../../scripts/chain/chain.ts";
import { CODE, ended, kept } from "../conformance/mqtt-5/clients.ts";
import type { ConnectOptions } from "../conformance/support/wire-build.ts";
import { fresh, type WireClient } from "../conformance/support/wire-client.ts";
import type { Packet } from "../conformance/support/wire-read.ts";
import { waitFor } from "../support/wait-for.ts";
import {
  type Automatic,
  automaticAt,
  BROKERS,
  type BrokerNumber,
  connectAt,
  numbers,
  OTHER,
  openAt,
  publishAt,
  sorted,
} from "./support/brokers.ts";
import { startChain } from "./support/journey.ts";

/** The device of the chain says nothing meanwhile. */
const SILENT = { deviceIntervalMs: 3_600_000 };

/** Both brokers live, so nothing is to be waited for but each other's word. */
const TAKEOVER_MS_MAX = 750;
const BOUNDED = { timeout: 30_000 } as const;

test("two brokers of a cluster are one to their clients", async (t) => {
  const chain = await startChain(t, SILENT);
  const run = (name: string, body: (t: TestContext, chain: Chain) => Promise<void>) =>
    t.test(name, BOUNDED, (inner) => body(inner, chain));
  await run("a session left at one broker is collected at the other, in order, once", collected);
  await run("a subscription counts at both brokers once it is acknowledged", subscribedAtOnce);
  await run("one publisher's messages are in order at the other broker, live and queued", ordered);
  await run("a message in flight at one broker comes again from the other, with DUP", redelivered);
  await run(
    "[MQTT-3.1.4-3] who connects at the other broker takes over; the old one hears",
    takeover,
  );
  await run("of two CONNECTs at the same time at both brokers exactly one survives", simultaneous);
  await run(
    "a session that has expired is over at both brokers, one that has not at none",
    expired,
  );
  await run(
    "a delayed will is not published when its client returns at the other broker",
    willDelay,
  );
  await run("a will of before is not published for a client that hopped in time", hoppedWills);
  await run("members of a shared subscription at both brokers share, each message once", balanced);
  for (const how of ["DISCONNECT", "a broken connection"] as const) {
    for (const isKept of [false, true]) {
      const who = isKept ? "kept members" : "members that are not kept";
      await run(`what ${who} did not acknowledge before ${how} goes to others`, (inner) =>
        leaving(inner, chain, how, isKept),
      );
    }
  }
  await run("what is retained at one broker is retained at the other, and cleared there", retained);
  await run("QoS 2 is exactly once from a publisher that hops between brokers", hoppingPublisher);
  await run("QoS 2 is exactly once to a subscriber that hops between brokers", hoppingSubscriber);
  await run("[MQTT-3.8.3-3] No Local holds for a session at whatever broker", noLocal);
  await run("no character means anything in a topic, filter or client id but MQTT's own", strange);
});

async function collected(t: TestContext, chain: Chain): Promise<void> {
  const [clientId, level] = [fresh("kept"), fresh("t")];
  const first = await connectAt(t, chain, 1, kept(clientId));
  const subscriptionIdentifier = 268_435_455;
  const filter = { filter: `${level}/#`, qos: 2, retainAsPublished: true };
  await first.subscribe([filter], 0, { properties: { subscriptionIdentifier } });
  await first.disconnect();
  const publisher = await connectAt(t, chain, 2);
  const all = numbers(200);
  for (const [at, payload] of all.entries()) {
    const options = { qos: 1 + (at % 2), retain: at % 5 === 0 };
    await publisher.publish(`${level}/${at % 3}`, payload, options);
  }
  const back = await connectAt(t, chain, 2, kept(clientId), true);
  const packets = await back.take(all.length);
  assert.deepEqual(payloadsOf(packets), all);
  for (const [at, { qos, retain, properties }] of packets.entries()) {
    assert.deepEqual([qos, retain], [1 + (at % 2), at % 5 === 0]);
    assert.deepEqual(properties, { subscriptionIdentifier: [subscriptionIdentifier] });
  }
  await back.nothing();
  await back.disconnect();
  const again = await connectAt(t, chain, 1, kept(clientId), true);
  await again.nothing();
}

async function subscribedAtOnce(t: TestContext, chain: Chain): Promise<void> {
  const publisher = await connectAt(t, chain, 2);
  for (let round = 0; round < 30; round += 1) {
    const [clientId, topic] = [fresh("new"), fresh("t")];
    const client = await connectAt(t, chain, 1, kept(clientId));
    await client.subscribe(topic, 1);
    client.sendDisconnect();
    await publisher.publish(topic, "1", { qos: 1 });
    const back = await connectAt(t, chain, 1, kept(clientId), true);
    await back.take(1);
    back.cut();
  }
}

async function ordered(t: TestContext, chain: Chain): Promise<void> {
  const [topic, count] = [fresh("t"), 400];
  const live = await automaticAt(t, chain, 2);
  const queued = await automaticAt(t, chain, 2, {
    clean: false,
    properties: { sessionExpiryInterval: 600 },
  });
  for (const { client } of [live, queued]) await client.subscribeAsync(topic, { qos: 1 });
  const { client } = await automaticAt(t, chain, 1);
  const payloads = numbers(count).map((it) => it.padEnd(1 + (Number(it) % 7) * 900));
  // All at once: small and large, retained and not, with a queue to write and without.
  await Promise.all(
    payloads.map((payload, at) =>
      client.publishAsync(topic, payload, { qos: 1, retain: at % 3 === 0 }),
    ),
  );
  for (const { received } of [live, queued]) {
    await waitFor("all of them", () => received.length >= count, 10_000);
    assert.deepEqual(
      received.map(({ payload }) => payload.trim()),
      numbers(count),
    );
  }
}

async function redelivered(t: TestContext, chain: Chain): Promise<void> {
  const [clientId, topic] = [fresh("kept"), fresh("t")];
  const first = await connectAt(t, chain, 1, kept(clientId));
  await first.subscribe(topic, 1);
  await publishAt(t, chain, 2, topic, "1");
  const { packetId } = await first.expect("publish", { topic, payload: "1", dup: false });
  first.cut();
  const back = await connectAt(t, chain, 2, kept(clientId), true);
  await back.expect("publish", { topic, payload: "1", dup: true, packetId });
  back.sendPuback({ packetId });
  await back.nothing();
}

async function takeover(t: TestContext, chain: Chain): Promise<void> {
  const sessions: readonly (readonly [ConnectOptions, boolean])[] = [
    [kept(fresh("kept")), true],
    [{ clientId: fresh("clean") }, false],
    [{ ...kept(fresh("fresh")), clean: true }, false],
  ];
  for (const [options, isPresent] of sessions) {
    for (const at of BROKERS) {
      const level = fresh("t");
      const old = await connectAt(t, chain, at, options, isPresent && at === 2);
      await old.subscribe(level, 1);
      const sinceMs = performance.now();
      const newer = await connectAt(t, chain, OTHER[at], options, isPresent);
      const tookMs = performance.now() - sinceMs;
      assert.ok(tookMs < TAKEOVER_MS_MAX, `it took ${tookMs} ms`);
      await ended(old, CODE.sessionTakenOver);
      await publishAt(t, chain, at, level, "1");
      if (isPresent) await newer.take(1);
      else await newer.nothing();
      await newer.disconnect();
    }
  }
}

async function simultaneous(t: TestContext, chain: Chain): Promise<void> {
  for (let round = 0; round < 20; round += 1) {
    const options = { ...kept(fresh("both"), 60), clean: round % 2 === 0 };
    const both = await Promise.all(BROKERS.map((at) => openAt(t, chain, at)));
    // Neither broker is always the first.
    for (const client of round % 4 < 2 ? both : both.toReversed()) client.sendConnect(options);
    await waitFor(`round ${round}: one to be ended`, () => both.some((it) => it.isClosed));
    const survivor = both.find((it) => !it.isClosed);
    assert.ok(survivor, `round ${round}: one of them is served`);
    await survivor.expect("connack", { code: 0 });
    for (const other of both) if (other !== survivor) await assertTakenOver(other);
    // The whole cluster knows the survivor's session, and no other.
    const topic = fresh("t");
    await survivor.subscribe(topic, 1);
    for (const at of BROKERS) await publishAt(t, chain, at, topic, String(at));
    assert.deepEqual(payloadsOf(await survivor.take(2)), ["1", "2"]);
    await survivor.nothing();
    await survivor.disconnect();
  }
}

/** It lost against another connection, before or after its CONNACK, and was told so. */
async function assertTakenOver(client: WireClient): Promise<void> {
  const said = (await client.closed()).map(({ name, code }) => `${name} ${code}`);
  const code = CODE.sessionTakenOver;
  const allowed = [`connack ${code}`, `connack 0,disconnect ${code}`];
  assert.ok(allowed.includes(said.join()), `the one that lost heard: ${said.join()}`);
}

async function expired(t: TestContext, chain: Chain): Promise<void> {
  const level = fresh("over");
  const watcher = await connectAt(t, chain, 2);
  await watcher.subscribe(`${level}/+`);
  const brief = BROKERS.map((at) => ({ at, clientId: fresh("brief") }));
  for (const { at, clientId } of brief) {
    // A session's end publishes its will before the delay is over (§3.1.3.2.2).
    const will = { topic: `${level}/${at}`, properties: { willDelayInterval: 3_600 } };
    const client = await connectAt(t, chain, at, { ...kept(clientId, 1), will });
    await client.subscribe(fresh("t"), 1);
    client.cut();
  }
  const long = fresh("long");
  await (await connectAt(t, chain, 1, kept(long))).disconnect();
  const ending = fresh("ending");
  const last = await connectAt(t, chain, 1, kept(ending));
  await last.disconnect({ properties: { sessionExpiryInterval: 0 } });

  await watcher.take(2);
  for (const { at, clientId } of brief) {
    const back = await connectAt(t, chain, OTHER[at], { clientId, clean: false });
    await back.disconnect();
  }
  await connectAt(t, chain, 2, { clientId: ending, clean: false });
  await connectAt(t, chain, 2, kept(long), true);
}

async function willDelay(t: TestContext, chain: Chain): Promise<void> {
  const level = fresh("will");
  const watcher = await connectAt(t, chain, 2);
  await watcher.subscribe(`${level}/+`);
  const delayed = (name: string) => ({
    ...kept(`${level}-${name}`),
    will: { topic: `${level}/${name}`, properties: { willDelayInterval: 2 } },
  });
  for (const at of BROKERS) {
    const returning = await connectAt(t, chain, at, delayed(`returns-${at}`));
    returning.cut();
    await connectAt(t, chain, OTHER[at], kept(`${level}-returns-${at}`), true);
  }
  // Away later, it must be heard of later than the others would be.
  const staying = await connectAt(t, chain, 1, delayed("stays-away"));
  staying.cut();
  await watcher.expect("publish", { topic: `${level}/stays-away` }, 10_000);
  await watcher.nothing();
}

async function hoppedWills(t: TestContext, chain: Chain): Promise<void> {
  const [clientId, topic] = [fresh("hops"), fresh("will")];
  const watcher = await connectAt(t, chain, 1);
  await watcher.subscribe(topic);
  const last = 20;
  for (let round = 0; round <= last; round += 1) {
    const willDelayInterval = round < last ? 3_600 : 0;
    const will = { topic, payload: String(round), properties: { willDelayInterval } };
    const at = round % 2 === 0 ? 1 : 2;
    const client = await connectAt(t, chain, at, { ...kept(clientId), will }, round > 0);
    if (round % 3 > 0) await client.ping();
    client.cut();
  }
  await watcher.expect("publish", { topic, payload: String(last) }, 10_000);
  await watcher.nothing();
}

async function balanced(t: TestContext, chain: Chain): Promise<void> {
  const topic = fresh("t");
  const members: Automatic[] = [];
  for (const at of [1, 2, 1, 2] as const) {
    const member = await automaticAt(t, chain, at);
    await member.client.subscribeAsync(`$share/group/${topic}`, { qos: 1 });
    members.push(member);
  }
  const each = 200;
  await Promise.all(
    BROKERS.map(async (at) => {
      const { client } = await automaticAt(t, chain, at);
      for (const number of numbers(each)) {
        await client.publishAsync(topic, String(at * 1_000 + Number(number)), { qos: 1 });
      }
    }),
  );
  const all = () => members.flatMap(({ received }) => received.map(({ payload }) => payload));
  await waitFor("all of them", () => all().length >= 2 * each, 10_000);
  const expected = BROKERS.flatMap((at) =>
    numbers(each).map((it) => String(at * 1_000 + Number(it))),
  );
  assert.deepEqual(sorted(all()), expected, "each once");
  for (const { received } of members) {
    assert.ok(received.length >= each / 4, `one member got ${received.length} of ${2 * each}`);
  }
}

/** Members at both brokers get messages, acknowledge none, and leave in the middle of the stream. */
async function leaving(
  t: TestContext,
  chain: Chain,
  how: "DISCONNECT" | "a broken connection",
  isKept: boolean,
): Promise<void> {
  const [topic, count] = [fresh("t"), 300];
  const filter = `$share/group/${topic}`;
  const stays = await automaticAt(t, chain, 1);
  await stays.client.subscribeAsync(filter, { qos: 1 });
  const leavers = await Promise.all(
    BROKERS.map(async (at) => {
      const options = isKept ? kept(fresh("leaves")) : { clientId: fresh("leaves") };
      const client = await connectAt(t, chain, at, options);
      await client.subscribe(filter, 1);
      return client;
    }),
  );
  const publishers = await Promise.all(BROKERS.map((at) => automaticAt(t, chain, at)));
  const publish = (payload: string) =>
    publishers[Number(payload) % 2]?.client.publishAsync(topic, payload, { qos: 1 });
  const all = numbers(count);
  await Promise.all(all.slice(0, 100).map(publish));
  const rest = all.slice(100).map(publish);
  for (const leaver of leavers) {
    // It has been given some by now, and is being given more.
    await leaver.expect("publish", { topic });
    if (how === "DISCONNECT") leaver.sendDisconnect();
    else leaver.cut();
  }
  await Promise.all(rest);
  const received = () => stays.received.map(({ payload }) => payload);
  const missing = () => all.filter((it) => !received().includes(it));
  await waitFor("all of them", () => missing().length === 0, 5_000).catch(() => {});
  assert.deepEqual(missing(), [], "all that was acknowledged reaches the member that stays");
  assert.deepEqual(sorted(received()), all, "each once");
}

async function retained(t: TestContext, chain: Chain): Promise<void> {
  const topic = fresh("t");
  for (const at of BROKERS) {
    // When live subscribers have it, everybody has it.
    const live = await Promise.all(
      BROKERS.map(async (where) => {
        const client = await connectAt(t, chain, where);
        await client.subscribe([{ filter: topic, qos: 1, retainHandling: 2 }]);
        return client;
      }),
    );
    const publish = async (where: BrokerNumber, payload: string) => {
      await publishAt(t, chain, where, topic, payload, { retain: true });
      for (const client of live) await client.take(1);
    };
    const isRetained = async (where: BrokerNumber, payload: string | undefined) => {
      const client = await connectAt(t, chain, where);
      await client.subscribe(topic, 1);
      if (payload === undefined) await client.nothing();
      else await client.expect("publish", { topic, payload, retain: true, qos: 1 });
    };
    await publish(at, "old");
    await publish(at, "new");
    for (const where of BROKERS) await isRetained(where, "new");
    await publish(OTHER[at], "");
    for (const where of BROKERS) await isRetained(where, undefined);
  }
}

/** How far a QoS 2 exchange got before the connection broke. */
const STAGES = ["PUBLISH", "PUBREC", "PUBREL", "PUBCOMP"] as const;
const HOPS = 120;

async function hoppingPublisher(t: TestContext, chain: Chain): Promise<void> {
  const [clientId, topic, away] = [fresh("hops"), fresh("t"), fresh("away")];
  const [one, two] = [await connectAt(t, chain, 1), await connectAt(t, chain, 2)];
  for (const client of [one, two]) await client.subscribe(topic, 2);
  const leaver = await connectAt(t, chain, 1, kept(away));
  await leaver.subscribe(topic, 2);
  await leaver.disconnect();

  let client = await connectAt(t, chain, 1, kept(clientId));
  for (let hop = 0; hop < HOPS; hop += 1) {
    const packetId = client.nextId();
    const message = { topic, payload: String(hop), qos: 2, packetId };
    const stage = STAGES[hop % STAGES.length];
    client.sendPublish(message);
    if (stage !== "PUBLISH") await client.expect("pubrec", { packetId, code: 0 });
    if (stage === "PUBREL" || stage === "PUBCOMP") client.sendPubrel({ packetId });
    if (stage === "PUBCOMP") await client.expect("pubcomp", { packetId });
    client.cut();
    client = await connectAt(t, chain, hop % 2 === 0 ? 2 : 1, kept(clientId), true);
    if (stage === "PUBLISH") {
      client.sendPublish({ ...message, dup: true });
      await client.expect("pubrec", { packetId, code: 0 });
    }
    if (stage === "PUBCOMP") continue;
    client.sendPubrel({ packetId });
    await client.expect("pubcomp", { packetId });
  }
  const back = await connectAt(t, chain, 2, kept(away), true);
  for (const [name, subscriber] of Object.entries({ one, two, back })) {
    const payloads = payloadsOf(await subscriber.take(HOPS));
    assert.deepEqual(sorted(payloads), numbers(HOPS), `each once, to ${name}`);
    assert.deepEqual(payloads, numbers(HOPS), `in order, to ${name}`);
    await subscriber.nothing();
  }
}

async function hoppingSubscriber(t: TestContext, chain: Chain): Promise<void> {
  const [clientId, topic] = [fresh("hops"), fresh("t")];
  const first = await connectAt(t, chain, 1, kept(clientId));
  await first.subscribe(topic, 2);
  first.cut();
  const publisher = await connectAt(t, chain, 2);
  const publishing = (async () => {
    for (const payload of numbers(HOPS)) await publisher.publish(topic, payload, { qos: 2 });
  })();

  const payloads: string[] = [];
  /** What a receiver remembers of QoS 2 (§4.3.3): ids that it has and that are not released yet. */
  const unreleased = new Set<number>();
  for (let hop = 0; payloads.length < HOPS || unreleased.size > 0; hop += 1) {
    assert.ok(hop < 10 * HOPS, `${payloads.length} of ${HOPS} after ${hop} connections`);
    const client = await connectAt(t, chain, hop % 2 === 0 ? 2 : 1, kept(clientId), true);
    // 1, 2, 3, … packets, so that it breaks at every place of the exchange.
    for (let packets = 0; packets <= hop % 5; packets += 1) {
      if (payloads.length === HOPS && unreleased.size === 0) break;
      const { name, packetId, payload } = await client.next();
      if (name === "publish") {
        if (!unreleased.has(packetId)) payloads.push(payload);
        unreleased.add(packetId);
        client.sendPubrec({ packetId });
      } else {
        assert.equal(name, "pubrel");
        unreleased.delete(packetId);
        client.sendPubcomp({ packetId });
      }
    }
    client.cut();
  }
  await publishing;
  assert.deepEqual(payloads, numbers(HOPS), "each once, in order");
  const last = await connectAt(t, chain, 1, kept(clientId), true);
  // The last PUBCOMP may have been lost with its connection; a message would be one too many.
  await publishAt(t, chain, 2, topic, "end");
  for (;;) {
    const { name, packetId, payload } = await last.next();
    if (name === "pubrel") last.sendPubcomp({ packetId });
    else return assert.equal(payload, "end");
  }
}

async function noLocal(t: TestContext, chain: Chain): Promise<void> {
  const [clientId, topic] = [fresh("own"), fresh("t")];
  for (const at of BROKERS) {
    const client = await connectAt(t, chain, at, kept(clientId), at === 2);
    if (at === 1) await client.subscribe([{ filter: topic, qos: 1, noLocal: true }]);
    await client.publish(topic, "own", { qos: 1 });
    for (const where of BROKERS) await publishAt(t, chain, where, topic, `of ${where}`);
    assert.deepEqual(payloadsOf(await client.take(2)), ["of 1", "of 2"]);
    await client.publish(topic, "own, left behind", { qos: 1 });
    await client.disconnect();
  }
}

async function strange(t: TestContext, chain: Chain): Promise<void> {
  const parts = [
    "*",
    "?",
    "[ab]",
    "\\",
    "a*",
    "{a,b}",
    "^a",
    "constructor",
    "__proto__",
    "ü €",
    "",
  ];
  const level = fresh("t");
  for (const part of parts) {
    // The client id is as strange as the topic; each subscribes at one broker, and is away.
    const options = kept(`${level}:${part}`);
    const client = await connectAt(t, chain, 1, options);
    await client.subscribe([
      { filter: `${part}/${level}`, qos: 1 },
      { filter: `${level}/${part}`, qos: 1 },
    ]);
    await client.disconnect();
  }
  const publisher = await connectAt(t, chain, 2);
  for (const decoy of ["a", "b", "ab", "x", "toString", "\\\\", ...parts]) {
    await publisher.publish(`${decoy}/${level}`, decoy, { qos: 1 });
    await publisher.publish(`${level}/${decoy}`, decoy, { qos: 1 });
  }
  for (const part of parts) {
    const back = await connectAt(t, chain, 2, kept(`${level}:${part}`), true);
    const found = (await back.take(2)).map(({ topic }) => topic);
    assert.deepEqual(found, [`${part}/${level}`, `${level}/${part}`]);
    await back.nothing();
  }
}

function payloadsOf(packets: readonly Packet[]): string[] {
  return packets.map(({ payload }) => payload);
}
