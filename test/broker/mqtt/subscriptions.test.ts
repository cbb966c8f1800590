// subscriptions.test: who is entitled to a topic is what all subscriptions one by one would say.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Qos } from "#contract/message";
import type { Subscription } from "#contract/session";
import { filterMatches } from "#contract/topics";
import {
  bytesOf,
  type Entitled,
  type Grant,
  type Subscriber,
  Subscriptions,
  sharedFilter,
} from "../../../broker/mqtt/subscriptions.ts";
import { ALL_TOPICS, topicFilter } from "./arbitraries.ts";

interface Member extends Subscriber {
  isConnected: boolean;
}

/** One that may receive what does not begin with `refused`. */
function member(clientId: string, isKept: boolean, isConnected = true, refused = "none"): Member {
  const mayReceive = (topic: string) => !topic.startsWith(refused);
  return { clientId, isKept, isHere: isConnected, isConnected, mayReceive };
}

function subscriptionOf(filter: string, more: Partial<Subscription> = {}): Subscription {
  const usual = { qos: 1, noLocal: false, retainAsPublished: false, retainHandling: 0 } as const;
  return { filter, ...usual, ...more };
}

const asked: fc.Arbitrary<Subscription> = fc
  .record({
    inner: topicFilter,
    group: fc.constantFrom("", "", "", "$share/g/", "$share/h/"),
    qos: fc.constantFrom<Qos>(0, 1, 2),
    noLocal: fc.boolean(),
    retainAsPublished: fc.boolean(),
    id: fc.option(fc.integer({ min: 1, max: 9 }), { nil: undefined }),
  })
  .map(({ inner, group, noLocal, id, ...more }) => {
    // No Local on a shared subscription is a protocol error [MQTT-3.8.3-4].
    const own = { ...more, noLocal: noLocal && group === "" };
    return subscriptionOf(`${group}${inner}`, id === undefined ? own : { ...own, id });
  });

const change = fc.record({
  kind: fc.constantFrom("add", "add", "add", "remove", "removeAll"),
  subscription: asked,
  who: fc.nat(2),
});

type Model = Map<Member, Map<string, Subscription>>;

interface Expected {
  readonly clientId: string;
  readonly qos: Qos;
  readonly retainAsPublished: boolean;
  readonly ids: readonly number[];
  readonly ofOwn: Omit<Expected, "clientId" | "ofOwn"> | undefined;
}

/** What several subscriptions of one subscriber come to together. */
function together(all: readonly Subscription[]): Omit<Expected, "clientId" | "ofOwn"> | undefined {
  if (all.length === 0) return undefined;
  return {
    qos: Math.max(...all.map(({ qos }) => qos)) as Qos,
    retainAsPublished: all.some(({ retainAsPublished }) => retainAsPublished),
    ids: all.flatMap(({ id }) => (id === undefined ? [] : [id])).sort(),
  };
}

function naiveGrants(model: Model, topic: string): Expected[] {
  return [...model].flatMap(([{ clientId, mayReceive }, own]) => {
    const all = [...own.values()].filter(
      ({ filter }) => sharedFilter(filter) === undefined && filterMatches(filter, topic),
    );
    const grant = mayReceive(topic) ? together(all) : undefined;
    const ofOwn = together(all.filter(({ noLocal }) => !noLocal));
    return grant ? [{ clientId, ...grant, ofOwn }] : [];
  });
}

function naiveGroups(model: Model, topic: string): string[] {
  const filters = [...model.values()].flatMap((own) => [...own.keys()]);
  const isMeant = (filter: string) => filterMatches(sharedFilter(filter) ?? "", topic);
  return [...new Set(filters.filter((it) => sharedFilter(it) !== undefined && isMeant(it)))].sort();
}

function told({ qos, retainAsPublished, ids }: Grant<Member>) {
  return { qos, retainAsPublished, ids: ids.toSorted() };
}

function assertEntitled(
  { grants, groups, hasKept }: Entitled<Member>,
  model: Model,
  topic: string,
) {
  const seen = grants.map((grant) => {
    const { ofOwn } = grant;
    return { clientId: grant.subscriber.clientId, ...told(grant), ofOwn: ofOwn && told(ofOwn) };
  });
  const byId = (a: { clientId: string }, b: { clientId: string }) =>
    a.clientId < b.clientId ? -1 : 1;
  assert.deepEqual(seen.sort(byId), naiveGrants(model, topic).sort(byId), topic);
  assert.deepEqual(groups.map(({ key }) => key).sort(), naiveGroups(model, topic), topic);
  assert.equal(
    hasKept,
    grants.some(({ subscriber }) => subscriber.isKept),
  );
}

function apply(
  subscriptions: Subscriptions<Member>,
  model: Model,
  member: Member,
  { kind, subscription }: { kind: string; subscription: Subscription },
): void {
  const own = model.get(member) ?? new Map<string, Subscription>();
  model.set(member, own);
  if (kind === "add") {
    subscriptions.add(member, subscription);
    own.set(subscription.filter, subscription);
  } else if (kind === "remove") {
    subscriptions.remove(member, subscription.filter);
    own.delete(subscription.filter);
  } else {
    subscriptions.removeAll(member);
    own.clear();
  }
}

const SOME_TOPICS = ALL_TOPICS.filter((topic) => topic.split("/").length < 3);

test("entitles as all subscriptions one by one do, right after each that comes or goes", () => {
  const property = fc.property(fc.array(change, { maxLength: 25 }), (changes) => {
    const subscriptions = new Subscriptions<Member>();
    const model: Model = new Map();
    const members = [member("a", true), member("b", false), member("c", true, false, "b")];
    for (const one of changes) {
      const who = members[one.who];
      assert(who);
      apply(subscriptions, model, who, one);
      // Asked each time: what was remembered before must not be told again.
      for (const topic of SOME_TOPICS) {
        assertEntitled(subscriptions.entitled(topic), model, topic);
      }
      const bytes = (of: Member) =>
        [...(model.get(of)?.keys() ?? [])].reduce((sum, filter) => sum + bytesOf(filter), 0);
      for (const of of members) assert.equal(subscriptions.bytesFor(of), bytes(of));
      assert.equal(
        subscriptions.bytes,
        members.reduce((sum, of) => sum + bytes(of), 0),
      );
      assert.equal(
        subscriptions.count,
        [...model.values()].reduce((sum, own) => sum + own.size, 0),
      );
    }
    for (const of of members) subscriptions.removeAll(of);
    assert.deepEqual([subscriptions.count, subscriptions.bytes], [0, 0]);
    assert.equal(subscriptions.group("$share/g/a"), undefined);
  });
  fc.assert(property, { seed: 1, numRuns: 300 });
});

test("remembers the entitlement to a topic, and asks for rights anew when told to", () => {
  const subscriptions = new Subscriptions<Member>();
  let may = true;
  const one = { ...member("a", true), mayReceive: () => may };
  subscriptions.add(one, subscriptionOf("a/#"));
  const before = subscriptions.entitled("a/b");
  assert.equal(subscriptions.entitled("a/b"), before);
  may = false;
  subscriptions.forget();
  assert.deepEqual(subscriptions.entitled("a/b").grants, []);
});

test("stays right for more topics than it remembers", () => {
  const subscriptions = new Subscriptions<Member>();
  subscriptions.add(member("a", true), subscriptionOf("many/+"));
  for (let round = 0; round < 2; round += 1) {
    for (let index = 0; index < 20_000; index += 1) {
      assert.equal(subscriptions.entitled(`many/${index}`).grants.length, 1);
    }
  }
  subscriptions.add(member("b", true), subscriptionOf("many/7"));
  assert.equal(subscriptions.entitled("many/7").grants.length, 2);
});

const membersOfGroup = fc.array(
  fc.record({ isKept: fc.boolean(), isConnected: fc.boolean(), isRefused: fc.boolean() }),
  { minLength: 1, maxLength: 6 },
);

test("the members of a group take turns: who is connected, or else who is kept and away", () => {
  const ROUNDS = 5;
  const property = fc.property(membersOfGroup, fc.nat(5), (wanted, left) => {
    const subscriptions = new Subscriptions<Member>();
    const members = wanted.map(({ isKept, isConnected, isRefused }, index) =>
      // Who is away without being kept is no member any more.
      member(String(index), isKept || !isConnected, isConnected, isRefused ? "t" : "none"),
    );
    for (const it of members) subscriptions.add(it, subscriptionOf("$share/g/t"));
    const gone = members[left];
    if (gone) subscriptions.removeAll(gone);
    const here = members.filter((it) => it !== gone && it.mayReceive("t"));
    const connected = here.filter(({ isConnected }) => isConnected);
    const candidates = connected.length > 0 ? connected : here;
    const group = subscriptions.group("$share/g/t");
    assert.equal(
      group === undefined,
      members.every((it) => it === gone),
    );
    const turns = new Map<string | undefined, number>();
    for (let turn = 0; turn < ROUNDS * Math.max(1, candidates.length); turn += 1) {
      const clientId = group?.choose("t")?.subscriber.clientId;
      turns.set(clientId, (turns.get(clientId) ?? 0) + 1);
    }
    const expected = new Map<string | undefined, number>(
      candidates.length > 0
        ? candidates.map(({ clientId }) => [clientId, ROUNDS])
        : [[undefined, ROUNDS]],
    );
    assert.deepEqual(turns, expected);
  });
  fc.assert(property, { seed: 1, numRuns: 500 });
});

test("a message that changes hands within a group goes to another than the one it was for", () => {
  const subscriptions = new Subscriptions<Member>();
  const [one, other] = [member("one", true), member("other", true)];
  for (const it of [one, other]) subscriptions.add(it, subscriptionOf("$share/g/t", { qos: 2 }));
  const group = subscriptions.group("$share/g/t");
  for (let turn = 0; turn < 5; turn += 1) assert.equal(group?.choose("t", one)?.subscriber, other);
  assert.equal(group?.grantOf("one")?.subscriber, one);
  subscriptions.remove(other, "$share/g/t");
  assert.equal(group?.choose("t", one), undefined);
  assert.equal(group?.grantOf("other"), undefined);
});
