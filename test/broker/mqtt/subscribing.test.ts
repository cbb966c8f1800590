// subscribing.test: what SUBSCRIBE and UNSUBSCRIBE grant, when it counts, and what is replayed.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import type { Message } from "#contract/message";
import type { QueueTarget, Subscription } from "#contract/session";
import { steadyNowMs } from "#runtime/clock";
import type { Settings } from "#runtime/settings-schema";
import type { Outgoing, Retained as Replayed } from "../../../broker/mqtt/outgoing.ts";
import { Retained } from "../../../broker/mqtt/retained.ts";
import { Rights } from "../../../broker/mqtt/rights.ts";
import type { Recipient } from "../../../broker/mqtt/routing.ts";
import { Session } from "../../../broker/mqtt/session.ts";
import { Subscribing } from "../../../broker/mqtt/subscribing.ts";
import { bytesOf, Subscriptions } from "../../../broker/mqtt/subscriptions.ts";
import { waitFor } from "../../support/wait-for.ts";
import { messageOf, textOf } from "./arbitraries.ts";
import { LIMITS } from "./open.ts";

interface Options {
  readonly limits?: Partial<Settings["limits"]>;
  readonly isKept?: boolean;
  readonly subscribe?: readonly string[];
  /** What saving the session takes; undefined: it is not kept. */
  readonly save?: () => Promise<void> | undefined;
  readonly queue?: () => Promise<void> | undefined;
  readonly refusal?: (filter: string) => string | undefined;
}

function open({ limits = {}, isKept = false, subscribe = ["#"], ...options }: Options = {}) {
  const subscriptions = new Subscriptions<Recipient>();
  const retained = new Retained();
  const queued: { message: Message; target: QueueTarget }[] = [];
  const replayed: Replayed[] = [];
  const ended: number[] = [];
  const refused: number[] = [];
  const log: string[] = [];
  const outgoing = {
    replay: (some: readonly Replayed[]) => replayed.push(...some),
    poke: () => log.push("poked"),
  } as unknown as Outgoing;
  const end = (reasonCode: number) => ended.push(reasonCode);
  const sessionOf = (clientId: string) => {
    const identity = { clientId, user: undefined, certificateName: undefined };
    const rights = new Rights([{ publish: [], subscribe: [...subscribe] }]).of(identity);
    const session = new Session(identity, rights);
    session.isKept = isKept;
    session.attach({ outgoing, settled: undefined, end }, "here");
    return session;
  };
  const session = sessionOf("me");
  let isCurrent = true;
  const subscribing = new Subscribing({
    sessions: {
      save: () => {
        log.push("saved");
        return options.save?.();
      },
      isCurrent: () => isCurrent,
    },
    subscriptions,
    retained,
    custody: {
      take: () => assert.fail("nothing is published"),
      queue: (message, targets) => {
        for (const target of targets) queued.push({ message, target });
        return options.queue?.();
      },
    },
    limits: { ...LIMITS, ...limits },
    refusal: options.refusal ?? (() => undefined),
    refused: (reasonCode) => refused.push(reasonCode),
  });
  const answers: number[][] = [];
  const answer = (codes: number[]) => {
    log.push("answered");
    answers.push(codes);
  };
  return {
    ...{ session, subscriptions, retained, queued, replayed, ended, refused, log, answers },
    end: () => {
      isCurrent = false;
    },
    ask: (...all: readonly (string | Partial<Subscription>)[]) =>
      subscribing.subscribe(session, all.map(subscriptionOf), answer),
    /** By another client. */
    askAs: (clientId: string, filter: string) =>
      subscribing.subscribe(sessionOf(clientId), [subscriptionOf(filter)], answer),
    unsubscribe: (...filters: readonly string[]) =>
      subscribing.unsubscribe(session, filters, answer),
    entitled: (topic: string) => subscriptions.entitled(topic).grants,
  };
}

function subscriptionOf(asked: string | Partial<Subscription>): Subscription {
  const usual = { qos: 1, noLocal: false, retainAsPublished: false, retainHandling: 0 } as const;
  const own = typeof asked === "string" ? { filter: asked } : asked;
  return { filter: "", ...usual, ...own };
}

const FILTER_INVALID = 0x8f;
const NOT_AUTHORIZED = 0x87;
const QUOTA_EXCEEDED = 0x97;

test("each filter is answered, in order, and of equal ones the last counts [MQTT-3.8.4-6]", () => {
  const { ask, answers, entitled, session, refused } = open();
  ask({ filter: "a", qos: 2 }, "a#", { filter: "b", qos: 0 }, { filter: "a", qos: 1 });
  assert.deepEqual(answers, [[2, FILTER_INVALID, 0, 1]]);
  assert.deepEqual(
    entitled("a").map(({ qos }) => qos),
    [1],
  );
  assert.deepEqual([...session.subscriptions.keys()], ["a", "b"]);
  assert.deepEqual(refused, [FILTER_INVALID]);
});

test("what is no filter, too long or too deep is refused, inside a shared subscription too", () => {
  const { ask, answers, subscriptions } = open({
    limits: { topic_bytes_max: 6, topic_levels_max: 3 },
  });
  ask("a/#/b", "+a", "$share/g/a#", "$share//a", "$share/+/a", "$share/g", "$share/g/");
  ask("aaaaaaa", "éééé", "a/b/c/d", "$share/g/a/b/c/d", "$share/g/aaaaaaa");
  assert.deepEqual(answers, [new Array(7).fill(FILTER_INVALID), new Array(5).fill(FILTER_INVALID)]);
  assert.equal(subscriptions.count, 0);
  ask("aaaaaa", "a/b/c", "$share/group/a/b/c");
  assert.deepEqual(answers[2], [1, 1, 1]);
});

test("a filter is granted only with the right to all that it selects, shared or not", () => {
  const refusal = (filter: string) => (filter.startsWith("own/role") ? "not here" : undefined);
  const { ask, answers } = open({ subscribe: ["own/#"], refusal });
  ask("own/a", "own/+/b", "#", "other", "$share/g/own/a", "$share/g/other", "own/role/a");
  assert.deepEqual(answers, [
    [1, 1, NOT_AUTHORIZED, NOT_AUTHORIZED, 1, NOT_AUTHORIZED, NOT_AUTHORIZED],
  ]);
});

test("a client has as many subscriptions as it may, and may change those that it has", () => {
  const { ask, answers, unsubscribe } = open({ limits: { subscriptions_per_client_max: 2 } });
  ask("a", "b", "c", "a");
  assert.deepEqual(answers, [[1, 1, QUOTA_EXCEEDED, 1]]);
  unsubscribe("a");
  ask("c");
  assert.deepEqual(answers[2], [1]);
});

test("one client's subscriptions take a share of the room for all, in one packet and in many", () => {
  const filters = Array.from({ length: 100 }, (_, index) => `level/${index + 100}`);
  const limits = { subscriptions_bytes_max: 16 * 20 * bytesOf("level/100") };
  const [one, many] = [open({ limits }), open({ limits })];
  for (const filter of filters) many.ask(filter);
  one.ask(...filters);
  for (const { answers, subscriptions } of [many, one]) {
    const expected = filters.map((_, index) => (index < 20 ? 1 : QUOTA_EXCEEDED));
    assert.deepEqual(answers.flat(), expected);
    assert.equal(subscriptions.bytes * 16, limits.subscriptions_bytes_max);
  }
});

test("subscriptions count and are answered when they are kept, and not before", async () => {
  const durable = Promise.withResolvers<void>();
  const { ask, unsubscribe, answers, entitled, log } = open({ save: () => durable.promise });
  const asking = ask("a");
  assert.deepEqual([answers, entitled("a")], [[], []]);
  durable.resolve();
  await asking;
  assert.deepEqual([answers, entitled("a").length], [[[1]], 1]);
  await unsubscribe("a", "b");
  assert.deepEqual([answers[1], entitled("a")], [[0, 0x11], []]);
  assert.deepEqual(log, ["saved", "answered", "saved", "answered"]);
});

test("nothing is saved where nothing was granted or removed", () => {
  const { ask, unsubscribe, log } = open();
  ask("a#");
  unsubscribe("never");
  assert.deepEqual(log, ["answered", "answered"]);
});

test("a session that ended while its subscriptions were kept leaves none behind", async () => {
  const durable = Promise.withResolvers<void>();
  const { ask, end, answers, subscriptions } = open({ save: () => durable.promise });
  const asking = ask("a", "$share/g/b");
  end();
  durable.resolve();
  await asking;
  assert.deepEqual([answers, subscriptions.count], [[], 0]);
});

test("subscriptions that cannot be kept are not granted, and those of before stay", async () => {
  let saved: Promise<void> = Promise.resolve();
  const { ask, answers, entitled, session } = open({ save: () => saved });
  await ask({ filter: "a", qos: 2 });
  saved = Promise.reject(new Error("full"));
  await assert.rejects(Promise.resolve(ask("a", "b")), /full/);
  assert.deepEqual(answers, [[2]]);
  assert.deepEqual([...session.subscriptions.keys()], ["a"]);
  assert.equal(session.subscriptions.get("a")?.qos, 2);
  assert.deepEqual([entitled("a")[0]?.qos, entitled("b").length], [2, 0]);
});

test("what is being kept takes its room already, and gives it back when it cannot be", async () => {
  const durable = Promise.withResolvers<void>();
  const limits = { subscriptions_bytes_max: 16 * bytesOf("a") };
  const { askAs, answers } = open({ save: () => durable.promise, limits });
  const asking = Array.from({ length: 16 }, (_, index) => askAs(String(index), "a"));
  askAs("one more", "a");
  assert.deepEqual(answers, [[QUOTA_EXCEEDED]]);
  durable.reject(new Error("full"));
  await Promise.allSettled(asking);
  const again = askAs("again", "a");
  assert.deepEqual(answers.length, 1, "not refused");
  await assert.rejects(Promise.resolve(again), /full/);
});

const textsOf = (all: readonly { message: Message }[]) =>
  all.map(({ message }) => textOf(message)).sort();

test("a retained message comes once, at the highest QoS of those that select it [MQTT-3.3.5-1]", () => {
  const { ask, retained, replayed } = open();
  for (const topic of ["a/b", "a/c"]) retained.set(messageOf(topic, topic, { qos: 2 }));
  ask({ filter: "a/+", qos: 0, id: 3 }, { filter: "a/b", qos: 1, id: 4 });
  assert.deepEqual(
    replayed.map(({ message, form }) => [message.topic, form]),
    [
      ["a/b", { qos: 1, retain: true, subscriptionIds: [4] }],
      ["a/c", { qos: 0, retain: true, subscriptionIds: [3] }],
    ],
  );
});

test("Retain Handling says when retained messages come (MQTT 5.0 §3.8.3.1)", () => {
  const { ask, retained, replayed } = open();
  for (const topic of ["0", "1", "2"]) retained.set(messageOf(topic, topic));
  const all = ([0, 1, 2] as const).map((retainHandling) => ({
    filter: String(retainHandling),
    retainHandling,
  }));
  ask(...all);
  assert.deepEqual(textsOf(replayed.splice(0)), ["0", "1"]);
  ask(...all);
  assert.deepEqual(textsOf(replayed.splice(0)), ["0"]);
  // New is what was not there before this SUBSCRIBE, however often it stands in it.
  retained.set(messageOf("new", "new"));
  ask({ filter: "new", retainHandling: 1 }, { filter: "new", retainHandling: 1 });
  assert.deepEqual(textsOf(replayed), ["new"]);
});

test("nobody is sent retained messages that are not for it", async () => {
  const { ask, retained, replayed } = open({ subscribe: ["mine/#", "$share/g/#"] });
  retained.set(messageOf("mine/own", "own", { publisher: "me" }));
  retained.set(messageOf("mine/expired", "expired", { expiresAtMs: steadyNowMs() - 1 }));
  retained.set(messageOf("other", "other"));
  // What a shared subscription is called selects nothing.
  retained.set(messageOf("$share/g/mine/x", "no member's"));
  ask({ filter: "mine/#", noLocal: true }, "$share/g/mine/#", "#");
  await turn();
  assert.deepEqual(replayed, []);
});

test("a kept session has retained QoS 1 and 2 queued in one turn, and QoS 0 sent", async () => {
  const durable = Promise.withResolvers<void>();
  const { ask, retained, replayed, queued, log } = open({
    isKept: true,
    queue: () => durable.promise,
  });
  for (const qos of [0, 1, 2] as const) {
    retained.set(messageOf(`t/${qos}`, String(qos), { qos, retain: true }));
  }
  ask({ filter: "t/#", qos: 1, id: 9 });
  assert.deepEqual(textsOf(replayed), ["0"]);
  const common = { clientId: "me", qos: 1, retain: true, subscriptionIds: [9] };
  assert.deepEqual(
    queued.map(({ target }) => target),
    [common, common],
  );
  await turn();
  assert.deepEqual(log, ["saved", "answered"], "it is not in its queue yet");
  durable.resolve();
  await waitFor("the poke", () => log.includes("poked"));
});

test("a queue that cannot take what is retained ends the connection", async () => {
  const { ask, retained, ended } = open({
    isKept: true,
    queue: () => Promise.reject(new Error("full")),
  });
  retained.set(messageOf("t", "1"));
  ask("t");
  await waitFor("the end", () => ended.length > 0);
  assert.deepEqual(ended, [0x89]);
});

test("a client that leaves while much is looked for gets no more of it", async (t) => {
  let nowMs = 0;
  // Each look at the clock finds that the search has taken its time.
  t.mock.method(performance, "now", () => {
    nowMs += 6;
    return nowMs;
  });
  const { ask, retained, replayed, session } = open();
  for (const topic of ["a", "b"]) retained.set(messageOf(topic, topic));
  ask("a", "b");
  session.detach();
  await turn();
  await turn();
  assert.deepEqual(replayed, []);
});
