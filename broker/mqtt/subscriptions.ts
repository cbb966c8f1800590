// subscriptions: who is entitled to a message on a topic, by all sessions' subscriptions.
// Path: routing → [subscriptions] → session. Touches: nothing.

import assert from "node:assert";
import type { Qos } from "#contract/message";
import type { Subscription } from "#contract/session";
import { TopicTree } from "./topic-tree.ts";

/** What subscriptions need to know of a session. */
export interface Subscriber {
  readonly clientId: string;
  /** Does it outlive its connection, so that QoS 1 and 2 are queued for it in the store? */
  readonly isKept: boolean;
  /** Is its client connected to this broker? */
  readonly isHere: boolean;
  /** Is its client connected to any broker? */
  readonly isConnected: boolean;
  mayReceive(topic: string): boolean;
}

/** What one subscriber is entitled to, by one subscription or by several that overlap. */
export interface Grant<S extends Subscriber> {
  readonly subscriber: S;
  /** The highest of those that overlap [MQTT-3.3.5-1]. */
  readonly qos: Qos;
  readonly retainAsPublished: boolean;
  /** Identifiers of all that overlap [MQTT-3.3.4-4]. */
  readonly ids: readonly number[];
  /** What it is entitled to of its own messages: none where all have No Local [MQTT-3.8.3-3]. */
  readonly ofOwn: Grant<S> | undefined;
}

/** The members of one shared subscription (MQTT 5.0 §4.8.2); each message is for one of them. */
export class SharedGroup<S extends Subscriber> {
  /** `$share/<group>/<filter>`. */
  readonly key: string;
  readonly #members = new Map<S, Grant<S>>();
  #turn = 0;

  constructor(key: string) {
    this.key = key;
  }

  get isEmpty(): boolean {
    return this.#members.size === 0;
  }

  set(grant: Grant<S>): void {
    this.#members.set(grant.subscriber, grant);
  }

  delete(subscriber: S): void {
    this.#members.delete(subscriber);
  }

  grantOf(clientId: string): Grant<S> | undefined {
    return [...this.#members.values()].find(({ subscriber }) => subscriber.clientId === clientId);
  }

  /** The next in turn for a message: who is connected goes before who is kept and away. */
  choose(topic: string, except?: Subscriber): Grant<S> | undefined {
    const members = [...this.#members.values()].filter(
      ({ subscriber }) => subscriber !== except && subscriber.mayReceive(topic),
    );
    const connected = members.filter(({ subscriber }) => subscriber.isConnected);
    const candidates = connected.length > 0 ? connected : members;
    this.#turn = (this.#turn + 1) % Math.max(1, candidates.length);
    return candidates[this.#turn];
  }
}

/** All who are entitled to a topic; kept until a subscription changes, so it is not to be changed. */
export interface Entitled<S extends Subscriber> {
  readonly grants: readonly Grant<S>[];
  readonly groups: readonly SharedGroup<S>[];
  /** Is there one whose QoS 1 and 2 messages are queued in the store? */
  readonly hasKept: boolean;
}

/** Topics whose entitlement is remembered, and what those take: grants, or bytes of a topic's text. */
const REMEMBERED_TOPICS_MAX = 16_384;
const REMEMBERED_GRANTS_MAX = 262_144;
const TOPIC_BYTES_A_GRANT = 32;

/** What one subscription, and one level of its filter, take beside the text, about. */
const SUBSCRIPTION_BYTES = 400;
const LEVEL_BYTES = 200;

/** The subscriptions of one subscriber, by filter, and what they take. */
interface Own<S extends Subscriber> {
  readonly grants: Map<string, Grant<S>>;
  bytes: number;
}

export class Subscriptions<S extends Subscriber> {
  readonly #tree = new TopicTree<Grant<S> | SharedGroup<S>>();
  readonly #groups = new Map<string, SharedGroup<S>>();
  readonly #own = new Map<S, Own<S>>();
  readonly #remembered = new Map<string, Entitled<S>>();
  #rememberedGrants = 0;
  #count = 0;
  #bytes = 0;

  get count(): number {
    return this.#count;
  }

  /** What all of them take, about. */
  get bytes(): number {
    return this.#bytes;
  }

  /** What those of one subscriber take of it. */
  bytesFor(subscriber: S): number {
    return this.#own.get(subscriber)?.bytes ?? 0;
  }

  /** Adds the subscription, or puts it in place of the one with the same filter [MQTT-3.8.4-3]. */
  add(subscriber: S, subscription: Subscription): void {
    this.remove(subscriber, subscription.filter);
    const grant = grantOf(subscriber, subscription);
    const own = this.#own.get(subscriber) ?? { grants: new Map<string, Grant<S>>(), bytes: 0 };
    own.grants.set(subscription.filter, grant);
    own.bytes += bytesOf(subscription.filter);
    this.#own.set(subscriber, own);
    const inner = sharedFilter(subscription.filter);
    if (inner === undefined) this.#tree.add(subscription.filter, grant);
    else this.#groupOf(subscription.filter, inner).set(grant);
    this.#count += 1;
    this.#bytes += bytesOf(subscription.filter);
    this.forget();
  }

  remove(subscriber: S, filter: string): void {
    const own = this.#own.get(subscriber);
    const grant = own?.grants.get(filter);
    if (!own || !grant) return;
    own.grants.delete(filter);
    own.bytes -= bytesOf(filter);
    if (own.grants.size === 0) this.#own.delete(subscriber);
    const inner = sharedFilter(filter);
    if (inner === undefined) this.#tree.remove(filter, grant);
    else this.#leave(filter, inner, subscriber);
    this.#count -= 1;
    this.#bytes -= bytesOf(filter);
    this.forget();
  }

  removeAll(subscriber: S): void {
    for (const filter of [...(this.#own.get(subscriber)?.grants.keys() ?? [])]) {
      this.remove(subscriber, filter);
    }
  }

  group(key: string): SharedGroup<S> | undefined {
    return this.#groups.get(key);
  }

  /** Who is entitled to messages on `topic`, each subscriber once. */
  entitled(topic: string): Entitled<S> {
    const known = this.#remembered.get(topic);
    if (known) return known;
    const found = this.#find(topic);
    const cost = found.grants.length + 1 + Math.floor(topic.length / TOPIC_BYTES_A_GRANT);
    this.#rememberedGrants += cost;
    if (
      this.#remembered.size >= REMEMBERED_TOPICS_MAX ||
      this.#rememberedGrants > REMEMBERED_GRANTS_MAX
    ) {
      this.forget();
      this.#rememberedGrants = cost;
    }
    this.#remembered.set(topic, found);
    return found;
  }

  /** Rights or subscriptions have changed: what was found before counts no more. */
  forget(): void {
    this.#remembered.clear();
    this.#rememberedGrants = 0;
  }

  #find(topic: string): Entitled<S> {
    const bySubscriber = new Map<S, Grant<S>[]>();
    const groups: SharedGroup<S>[] = [];
    for (const found of this.#tree.match(topic)) {
      if (found instanceof SharedGroup) {
        groups.push(found);
        continue;
      }
      const others = bySubscriber.get(found.subscriber);
      if (others) others.push(found);
      else if (found.subscriber.mayReceive(topic)) bySubscriber.set(found.subscriber, [found]);
    }
    const grants = [...bySubscriber.values()].map(merged);
    return { grants, groups, hasKept: grants.some(({ subscriber }) => subscriber.isKept) };
  }

  #groupOf(key: string, inner: string): SharedGroup<S> {
    let group = this.#groups.get(key);
    if (!group) {
      group = new SharedGroup(key);
      this.#groups.set(key, group);
      this.#tree.add(inner, group);
    }
    return group;
  }

  #leave(key: string, inner: string, subscriber: S): void {
    const group = this.#groups.get(key);
    group?.delete(subscriber);
    if (!group?.isEmpty) return;
    this.#groups.delete(key);
    this.#tree.remove(inner, group);
  }
}

/** What a subscription to the filter takes, about; levels that filters share count for each. */
export function bytesOf(filter: string): number {
  return SUBSCRIPTION_BYTES + filter.length + filter.split("/").length * LEVEL_BYTES;
}

/** The filter inside `$share/<group>/<filter>`; undefined for one that is not shared. */
export function sharedFilter(filter: string): string | undefined {
  if (!filter.startsWith("$share/")) return undefined;
  const end = filter.indexOf("/", "$share/".length);
  return end < 0 ? undefined : filter.slice(end + 1);
}

function grantOf<S extends Subscriber>(subscriber: S, subscription: Subscription): Grant<S> {
  const { qos, retainAsPublished, id } = subscription;
  const all = { subscriber, qos, retainAsPublished, ids: id === undefined ? [] : [id] };
  if (subscription.noLocal) return { ...all, ofOwn: undefined };
  const grant = { ...all, ofOwn: undefined as Grant<S> | undefined };
  grant.ofOwn = grant;
  return grant;
}

/** Those that overlap: delivered once, with all that each of them asks for (§3.3.4). */
function merged<S extends Subscriber>(grants: readonly Grant<S>[]): Grant<S> {
  const [first] = grants;
  if (first && grants.length === 1) return first;
  const all = { ...together(grants), ofOwn: undefined as Grant<S> | undefined };
  const own = grants.filter((grant) => grant.ofOwn !== undefined);
  if (own.length === grants.length) all.ofOwn = all;
  else if (own.length > 0) all.ofOwn = merged(own);
  return all;
}

function together<S extends Subscriber>(grants: readonly Grant<S>[]): Omit<Grant<S>, "ofOwn"> {
  const [first] = grants;
  assert(first, "a subscriber is entitled by some subscription");
  return {
    subscriber: first.subscriber,
    qos: Math.max(...grants.map(({ qos }) => qos)) as Qos,
    retainAsPublished: grants.some(({ retainAsPublished }) => retainAsPublished),
    ids: grants.flatMap(({ ids }) => ids),
  };
}
