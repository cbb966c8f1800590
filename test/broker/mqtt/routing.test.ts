// routing.test: messages leave in their publisher's order, for all and only those who are entitled.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import type { Aedes } from "aedes";
import fc from "fast-check";
import type { Message, Qos } from "#contract/message";
import { userProperty } from "#contract/properties";
import type { Custody, QueueTarget, Subscription, Taken, Taking } from "#contract/session";
import type { Publication } from "../../../broker/mqtt/publication.ts";
import { type Notice, type Order, type Recipient, Routing } from "../../../broker/mqtt/routing.ts";
import { type Grant, Subscriptions } from "../../../broker/mqtt/subscriptions.ts";
import { waitFor } from "../../support/wait-for.ts";
import { messageOf, textOf } from "./arbitraries.ts";

type Listener = (packet: object, done: () => void) => void;

/** What carries packets between brokers, as Aedes does: all hear all, in one order. */
class Bus {
  readonly #listeners: Listener[] = [];
  /** When a packet that was published has arrived, or why it has not. */
  pace: () => Promise<unknown> | undefined = () => undefined;

  at(id: string): Aedes {
    return {
      id,
      subscribe: (_topic: string, listener: Listener, done: () => void) => {
        this.#listeners.push(listener);
        done();
      },
      publish: (packet: object, done: (fault?: Error) => void) => {
        const arrive = () => {
          for (const listener of this.#listeners) listener(packet, () => {});
          done();
        };
        const pace = this.pace();
        if (pace) pace.then(arrive, done);
        else arrive();
      },
    } as unknown as Aedes;
  }
}

/** A subscriber that writes down what is handed to it. */
class Inbox implements Recipient {
  readonly got: { text: string; topic: string; qos: Qos; shared: string | undefined }[] = [];
  readonly clientId: string;
  isKept = false;
  isHere = true;
  connectedTo: string | undefined = "one";
  wasHere = true;

  constructor(clientId: string, more: Partial<Inbox> = {}) {
    this.clientId = clientId;
    Object.assign(this, more);
  }

  get isConnected(): boolean {
    return this.connectedTo !== undefined;
  }

  get texts(): string[] {
    return this.got.map(({ text }) => text);
  }

  mayReceive(): boolean {
    return true;
  }

  deliver({ message }: Publication, grant: Grant<Recipient>, shared?: string): void {
    const qos = Math.min(message.qos, grant.qos) as Qos;
    this.got.push({ text: textOf(message), topic: message.topic, qos, shared });
  }
}

/** Custody that remembers what it was asked; by default nothing lasting is entitled. */
class TestCustody implements Custody {
  readonly taken: Taking[] = [];
  readonly queued: { message: Message; queues: readonly QueueTarget[] }[] = [];
  taking: (taking: Taking) => Promise<Taken> | undefined = () => undefined;
  queueing: () => Promise<void> | undefined = () => undefined;

  take(taking: Taking): Promise<Taken> | undefined {
    this.taken.push(taking);
    return this.taking(taking);
  }

  queue(message: Message, queues: readonly QueueTarget[]): Promise<void> | undefined {
    this.queued.push({ message, queues });
    return this.queueing();
  }
}

async function open(bus = new Bus(), id = "one") {
  const subscriptions = new Subscriptions<Recipient>();
  const custody = new TestCustody();
  const retained: string[] = [];
  const notices: { notice: Notice; from: string }[] = [];
  const faults: unknown[] = [];
  const routing = new Routing({
    aedes: bus.at(id),
    subscriptions,
    custody,
    retain: (message) => retained.push(textOf(message)),
    noticed: (notice, from) => notices.push({ notice, from }),
    heard: () => {},
    failed: (fault) => faults.push(fault),
  });
  await routing.listen();
  const subscribe = (to: Inbox, filter: string, more: Partial<Subscription> = {}) => {
    const usual = { qos: 2, noLocal: false, retainAsPublished: false, retainHandling: 0 } as const;
    subscriptions.add(to, { filter, ...usual, ...more });
    return to;
  };
  return { bus, routing, subscriptions, custody, retained, notices, faults, subscribe };
}

const newOrder = (): Order => ({ last: undefined });

/** Of one message: custody says nothing, takes it at the time of its rank, or refuses it then. */
const fate = fc.record({
  publisher: fc.nat(2),
  kind: fc.constantFrom("at once", "taken", "taken", "repeat", "refused"),
  rank: fc.nat(1_000),
});

test("each publisher's messages leave in order, whenever custody resolves, but those it refuses", async () => {
  const fates = fc.array(fate, { maxLength: 25 });
  const property = fc.asyncProperty(fates, fc.boolean(), async (all, isBusSlow) => {
    const { bus, routing, custody, subscribe } = await open();
    if (isBusSlow) bus.pace = () => turn();
    const inbox = subscribe(new Inbox("subscriber", { isKept: true }), "#", { qos: 0 });
    const decisions: { rank: number; decide: () => void }[] = [];
    const orders = [newOrder(), newOrder(), newOrder()];
    const outcomes = all.map(async ({ publisher, kind, rank }, index) => {
      custody.taking = () => {
        if (kind === "at once") return undefined;
        const { promise, resolve, reject } = Promise.withResolvers<Taken>();
        const isRefused = kind === "refused";
        const decide = () =>
          isRefused ? reject(new Error("full")) : resolve(kind as "taken" | "repeat");
        decisions.push({ rank, decide });
        return promise;
      };
      const order = orders[publisher] ?? newOrder();
      const text = String(index);
      const publishing = routing.publish(messageOf(`from/${publisher}`, text), order);
      const outcome = await Promise.resolve(publishing).then(
        () => "done",
        (fault: Error) => fault.message,
      );
      assert.equal(outcome, kind === "refused" ? "full" : "done");
      // What is acknowledged has been handed on.
      assert.equal(inbox.texts.includes(text), kind !== "refused");
    });
    for (const { rank, decide } of decisions.toSorted((a, b) => a.rank - b.rank)) {
      decide();
      // Some together, as a batch does, some alone.
      if (rank % 2 === 0) await turn();
    }
    await Promise.all(outcomes);
    for (const publisher of orders.keys()) {
      const isDue = (it: (typeof all)[0]) => it.publisher === publisher && it.kind !== "refused";
      const expected = all.flatMap((it, index) => (isDue(it) ? [String(index)] : []));
      const got = inbox.got.filter(({ topic }) => topic === `from/${publisher}`);
      assert.deepEqual(
        got.map(({ text }) => text),
        expected,
      );
      assert.equal(orders[publisher]?.last, undefined);
    }
  });
  await fc.assert(property, { seed: 1, numRuns: 300 });
});

test("a publisher that waits for custody holds up no other, and its own messages alone", async () => {
  const { routing, custody, subscribe } = await open();
  const inbox = subscribe(new Inbox("subscriber"), "#");
  const [stuck, free] = [newOrder(), newOrder()];
  const custodyOfFirst = Promise.withResolvers<Taken>();
  custody.taking = () => custodyOfFirst.promise;
  const first = routing.publish(messageOf("a", "stuck"), stuck);
  custody.taking = () => Promise.resolve("taken");
  const second = routing.publish(messageOf("a", "behind it"), stuck);
  custody.taking = () => undefined;
  const third = routing.publish(messageOf("a", "QoS 0 behind it", { qos: 0 }), stuck);
  custody.taking = () => Promise.resolve("taken");
  for (const text of ["1", "2", "3"]) await routing.publish(messageOf("a", text), free);
  custody.taking = () => undefined;
  assert.equal(routing.publish(messageOf("a", "4"), free), undefined, "done at once");
  assert.deepEqual(inbox.texts, ["1", "2", "3", "4"]);
  custodyOfFirst.resolve("taken");
  await Promise.all([first, second, third]);
  assert.deepEqual(inbox.texts.slice(4), ["stuck", "behind it", "QoS 0 behind it"]);
});

test("a message that the bus refuses is refused to its publisher, and the next one goes out", async () => {
  const { bus, routing, subscribe } = await open();
  const inbox = subscribe(new Inbox("subscriber"), "#");
  const order = newOrder();
  bus.pace = () => Promise.reject(new Error("away"));
  await assert.rejects(Promise.resolve(routing.publish(messageOf("a", "1"), order)), {
    code: "CLOUD_UNREACHABLE",
    message: /away/,
  });
  bus.pace = () => undefined;
  await routing.publish(messageOf("a", "2"), order);
  assert.deepEqual(inbox.texts, ["2"]);
});

test("in an order that ends at a fault nothing is emitted behind it, nor taken into custody later", async () => {
  const { routing, custody, subscribe } = await open();
  const inbox = subscribe(new Inbox("subscriber"), "#");
  const order: Order = { last: undefined, endsAtFault: true };
  const custodies = ["1", "2", "3"].map(() => Promise.withResolvers<Taken>());
  const publishing = custodies.map(({ promise }, index) => {
    custody.taking = () => promise;
    return Promise.resolve(routing.publish(messageOf("a", String(index + 1)), order));
  });
  const settled = Promise.allSettled(publishing);
  custodies[2]?.resolve("taken");
  custodies[1]?.reject(new Error("full"));
  custodies[0]?.resolve("taken");
  const outcomes = (await settled).map((it) => it.status === "rejected" && it.reason.message);
  assert.deepEqual(outcomes, [false, "full", "full"]);
  custody.taking = () => assert.fail("asked for what is refused anyway");
  await assert.rejects(Promise.resolve(routing.publish(messageOf("a", "4"), order)), /full/);
  assert.deepEqual(inbox.texts, ["1"]);
});

test("custody is asked for those whose sessions are kept, at the lesser QoS, once each", async () => {
  const { routing, custody, subscribe } = await open();
  const kept = subscribe(new Inbox("kept", { isKept: true, isHere: false }), "a/+", {
    qos: 1,
    id: 7,
  });
  subscribe(kept, "a/#", { qos: 0, retainAsPublished: true });
  subscribe(new Inbox("kept at 0", { isKept: true }), "#", { qos: 0 });
  subscribe(new Inbox("not kept"), "#");
  subscribe(new Inbox("kept publisher", { isKept: true }), "#", { noLocal: true });
  subscribe(new Inbox("member", { isKept: true }), "$share/g/#", { qos: 2 });
  const publisher = "kept publisher";
  await routing.publish(messageOf("a/b", "1", { qos: 2, retain: true, publisher }), newOrder());
  const shared = "$share/g/#";
  assert.deepEqual(custody.taken[0]?.queues, [
    { clientId: "kept", qos: 1, retain: true, subscriptionIds: [7] },
    { clientId: "member", qos: 2, retain: false, subscriptionIds: [], shared },
  ]);
  await routing.publish(messageOf("a/b", "0", { qos: 0 }), newOrder());
  assert.deepEqual(custody.taken[1]?.queues, []);
});

test("a QoS 2 message of a kept session is known to custody by its broker, too", async () => {
  const { routing, custody } = await open();
  const incoming = { clientId: "publisher", packetId: 7 };
  await routing.publish(messageOf("a", "1", { qos: 2 }), newOrder(), incoming);
  assert.deepEqual(custody.taken[0]?.incoming, { ...incoming, broker: "one" });
});

test("a repeat reaches who has a queue, and neither those without one nor what is retained", async () => {
  const { routing, custody, retained, subscribe } = await open();
  const [kept, clean] = [new Inbox("kept", { isKept: true }), new Inbox("clean")];
  const members = [new Inbox("member")];
  for (const inbox of [kept, clean]) subscribe(inbox, "a");
  for (const inbox of members) subscribe(inbox, "$share/g/a");
  const message = messageOf("a", "1", { qos: 2, retain: true });
  for (const taken of ["taken", "repeat"] as const) {
    custody.taking = () => Promise.resolve(taken);
    await routing.publish(message, newOrder());
  }
  assert.deepEqual([kept.texts, clean.texts, members[0]?.texts], [["1", "1"], ["1"], ["1"]]);
  assert.deepEqual(retained, ["1"]);
});

test("No Local keeps a client's own messages from it, and a second subscription lets them come", async () => {
  const { routing, subscribe } = await open();
  const inbox = subscribe(new Inbox("me"), "a/#", { noLocal: true });
  const publish = (text: string, publisher: string) =>
    routing.publish(messageOf("a/b", text, { publisher }), newOrder());
  await publish("own", "me");
  await publish("other's", "you");
  subscribe(inbox, "+/b", { qos: 0 });
  await publish("own again", "me");
  assert.deepEqual(
    inbox.got.map(({ text, qos }) => [text, qos]),
    [
      ["other's", 1],
      ["own again", 0],
    ],
  );
});

test("a session that the publisher's broker did not know of is queued for before it is told", async () => {
  const bus = new Bus();
  const [one, two] = [await open(bus, "one"), await open(bus, "two")];
  const inbox = two.subscribe(new Inbox("late", { isKept: true, connectedTo: "two" }), "a");
  const durable = Promise.withResolvers<void>();
  two.custody.queueing = () => durable.promise;
  await one.routing.publish(messageOf("a", "1"), newOrder());
  assert.deepEqual(two.custody.queued[0]?.queues, [
    { clientId: "late", qos: 1, retain: false, subscriptionIds: [] },
  ]);
  assert.deepEqual(inbox.texts, []);
  durable.resolve();
  await waitFor("the message", () => inbox.texts.length === 1);
  two.custody.queueing = () => Promise.reject(new Error("full"));
  await one.routing.publish(messageOf("a", "2"), newOrder());
  await waitFor("the failure to be told", () => two.faults.length === 1);
  assert.deepEqual(inbox.texts, ["1"]);
});

test("of a shared subscription over two brokers one member gets each message, in turn", async () => {
  const bus = new Bus();
  const [one, two] = [await open(bus, "one"), await open(bus, "two")];
  const inboxes = ["one", "two"].map((at) => {
    // Each broker knows both members; a client is at one of them.
    const here = new Inbox(`at ${at}`, { connectedTo: at });
    const elsewhere = new Inbox(`at ${at}`, { connectedTo: at, isHere: false, wasHere: false });
    one.subscribe(at === "one" ? here : elsewhere, "$share/g/a");
    two.subscribe(at === "two" ? here : elsewhere, "$share/g/a");
    return here;
  });
  for (let number = 0; number < 10; number += 1) {
    const { routing } = number % 3 === 0 ? two : one;
    await routing.publish(messageOf("a", String(number)), newOrder());
  }
  const all = inboxes.flatMap(({ texts }) => texts);
  assert.equal(all.length, 10);
  assert.equal(new Set(all).size, 10);
  assert.ok(inboxes.every(({ texts }) => texts.length >= 3));
  assert.ok(inboxes.every(({ got }) => got.every(({ shared }) => shared === "$share/g/a")));
});

test("what changes hands goes to another member, and to nobody who does not share", async () => {
  const { routing, custody, retained, subscribe } = await open();
  const [leaves, stays, ordinary] = [
    new Inbox("leaves"),
    new Inbox("stays"),
    new Inbox("ordinary"),
  ];
  const key = "$share/g/a";
  for (const inbox of [leaves, stays]) subscribe(inbox, key);
  subscribe(ordinary, "#");
  const message = messageOf("a", "1", { qos: 2, retain: true });
  const hand = () => routing.redispatch(message, 1, key, { except: leaves, orAway: false });
  assert.equal(await hand(), true);
  assert.deepEqual([leaves.texts, stays.texts, ordinary.texts, retained], [[], ["1"], [], []]);
  assert.equal(stays.got[0]?.qos, 1);
  stays.connectedTo = undefined;
  stays.isHere = false;
  assert.equal(await hand(), false, "there is no other that is connected");
  stays.isKept = true;
  assert.equal(await routing.redispatch(message, 1, key, { except: leaves, orAway: true }), true);
  assert.deepEqual(custody.queued.at(-1)?.queues, [
    { clientId: "stays", qos: 1, retain: false, subscriptionIds: [], shared: key },
  ]);
  assert.equal(await routing.redispatch(message, 1, "$share/h/a", { orAway: true }), false);
});

test("a message for a member that has gone meanwhile is another member's", async () => {
  const { bus, routing, subscriptions, subscribe } = await open();
  const key = "$share/g/a";
  const [gone, stays] = [new Inbox("gone"), new Inbox("stays")];
  for (const inbox of [gone, stays]) subscribe(inbox, key);
  const arrival = Promise.withResolvers<void>();
  bus.pace = () => arrival.promise;
  const publishing = ["1", "2"].map((it) => routing.publish(messageOf("a", it), newOrder()));
  bus.pace = () => undefined;
  subscriptions.remove(gone, key);
  arrival.resolve();
  await Promise.all(publishing);
  await waitFor("both", () => stays.texts.length === 2);
  assert.deepEqual([stays.texts.toSorted(), gone.texts], [["1", "2"], []]);
});

test("what one broker tells all arrives at all, with its name, and passes for no message", async () => {
  const bus = new Bus();
  const [one, two] = [await open(bus, "one"), await open(bus, "two")];
  const inbox = two.subscribe(new Inbox("spy", { connectedTo: "two" }), "$SYS/#");
  const notice = { kind: "ended", clientId: "x" } as const;
  await one.routing.notify(notice);
  for (const { notices } of [one, two]) assert.deepEqual(notices, [{ notice, from: "one" }]);
  assert.deepEqual(inbox.got, []);
});

test("what goes wrong with one arrival is told, and the next one arrives", async () => {
  const { routing, faults, subscribe } = await open();
  const inbox = subscribe(new Inbox("subscriber"), "a");
  const broken = subscribe(new Inbox("broken"), "b");
  broken.deliver = () => {
    throw new Error("a fault of ours");
  };
  await routing.publish(messageOf("b", "1"), newOrder());
  await routing.publish(messageOf("a", "2"), newOrder());
  assert.equal(faults.length, 1);
  assert.deepEqual(inbox.texts, ["2"]);
});

test("only a command is taken with a command's id, and only it may say that it is one", async () => {
  const { routing, custody } = await open();
  const said = userProperty("sluice-command", "7-0");
  const message = { ...messageOf("a", "1"), properties: said };
  await routing.publish(message, newOrder());
  await routing.publish(message, newOrder(), { clientId: "c", packetId: 1 });
  await routing.publish(message, newOrder(), undefined, "7-0");
  assert.deepEqual(
    custody.taken.map(({ message: { properties }, command }) => [properties?.length, command]),
    [
      [0, undefined],
      [0, undefined],
      [said.length, "7-0"],
    ],
  );
});
