// session-model: one client's session as the specification has it, beside the broker's own.
// Path: state-machine.test → [session-model] → wire-client. Touches: TCP connections.
//
// Three clients: the subject, whose session is looked at; a feeder, which publishes to what the
// subject subscribes to; a witness, which receives all that the subject publishes. After each step
// all that it sets off has come, and a PINGREQ shows that nothing else has.

import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import type { ConformanceBroker } from "../../conformance/support/broker.ts";
import { publishPacket, type Qos, type Version } from "../../conformance/support/wire-build.ts";
import { fresh, type WireClient } from "../../conformance/support/wire-client.ts";
import type { Packet } from "../../conformance/support/wire-read.ts";

export type Step =
  | { readonly kind: "connect"; readonly clean: boolean }
  | { readonly kind: "disconnect" | "cut" | "repeat" | "unsubscribe" }
  | { readonly kind: "subscribe"; readonly qos: Qos }
  /** The feeder publishes these, one after the other. */
  | { readonly kind: "feed"; readonly qos: readonly Qos[] }
  /** The subject publishes these, in one write. */
  | { readonly kind: "publish"; readonly qos: readonly Qos[] }
  /** Of the exchanges that are open, the `at`-th, counted round and round. */
  | {
      readonly kind: "acknowledge";
      readonly at: number;
      readonly how: "right" | "wrong" | "refuse";
    }
  | { readonly kind: "release"; readonly at: number }
  | { readonly kind: "stray"; readonly name: "puback" | "pubrec" | "pubrel" | "pubcomp" };

/** A message that the subject has not acknowledged to the end. */
interface Owed {
  readonly payload: string;
  readonly qos: Qos;
  /** `waiting`: the subject cannot know whether it was sent. */
  state: "waiting" | "sent" | "released";
  packetId: number;
}

/** No exchange of the model's has these. */
const STRAY_ID = 60_000;
const PROTOCOL_ERROR = 0x82;
const TAKEN_OVER = 0x8e;
const NOT_FOUND = 0x92;
const UNSPECIFIED = 0x80;

type Scope = Pick<TestContext, "after">;

export class SessionModel {
  readonly #version: Version;
  readonly #clientId = fresh("subject");
  readonly #topics = { in: fresh("in"), out: fresh("out") };
  readonly #connect: (options: { clean: boolean }) => Promise<WireClient>;
  readonly #feeder: WireClient;
  readonly #witness: WireClient;
  #subject: WireClient | undefined;
  #isThere = false;
  #isKept = false;
  #granted: Qos | undefined;
  #owed: Owed[] = [];
  /** QoS 2 messages of the subject that it has not released, by packet id. */
  #unreleased = new Map<number, string>();
  #number = 0;

  private constructor(
    version: Version,
    connect: (options: { clean: boolean }) => Promise<WireClient>,
    feeder: WireClient,
    witness: WireClient,
  ) {
    this.#version = version;
    this.#connect = connect;
    this.#feeder = feeder;
    this.#witness = witness;
  }

  static async start(t: Scope, broker: ConformanceBroker, version: Version): Promise<SessionModel> {
    const [feeder, witness] = [await broker.connect(t), await broker.connect(t, { version: 5 })];
    const properties = { sessionExpiryInterval: 600 };
    const connect = ({ clean }: { clean: boolean }) =>
      broker.connect(t, { version, clean, clientId: model.#clientId, properties });
    const model: SessionModel = new SessionModel(version, connect, feeder, witness);
    await witness.subscribe(model.#topics.out, 2);
    return model;
  }

  async take(step: Step): Promise<void> {
    if (step.kind === "connect") await this.#reconnect(step.clean);
    else if (step.kind === "feed") await this.#feed(step.qos);
    else if (this.#subject) await this.#act(this.#subject, step);
    await this.#subject?.nothing();
  }

  /** Completes what is open: what is owed has come, and nobody has got anything twice. */
  async end(): Promise<void> {
    if (!this.#subject) await this.take({ kind: "connect", clean: false });
    while (this.#owed.length > 0) await this.take({ kind: "acknowledge", at: 0, how: "right" });
    while (this.#unreleased.size > 0) await this.take({ kind: "release", at: 0 });
    await this.#witness.nothing();
    for (const it of [this.#subject, this.#feeder, this.#witness]) it?.cut();
  }

  async #act(subject: WireClient, step: Step): Promise<void> {
    switch (step.kind) {
      case "disconnect":
        await subject.disconnect();
        this.#gone();
        break;
      case "cut":
        subject.cut();
        this.#gone();
        break;
      case "subscribe":
        assert.deepEqual((await subject.subscribe(this.#topics.in, step.qos)).codes, [step.qos]);
        this.#granted = step.qos;
        break;
      case "unsubscribe":
        await subject.unsubscribe(this.#topics.in);
        this.#granted = undefined;
        break;
      case "publish":
        await this.#publish(subject, step.qos);
        break;
      case "repeat":
        await this.#repeat(subject);
        break;
      case "release":
        await this.#release(subject, step.at);
        break;
      case "acknowledge":
        await this.#acknowledge(subject, step.at, step.how);
        break;
      case "stray":
        await this.#stray(subject, step.name);
    }
  }

  /** Also where the subject is connected: that connection is taken over. */
  async #reconnect(clean: boolean): Promise<void> {
    const before = this.#subject;
    this.#subject = await this.#connect({ clean });
    const isResumed = this.#isThere && this.#isKept && !clean;
    assert.equal(this.#subject.connack.sessionPresent, isResumed, "session present");
    if (before) await this.#assertEnded(before, TAKEN_OVER);
    if (!isResumed) {
      this.#owed = [];
      this.#unreleased.clear();
      this.#granted = undefined;
    }
    this.#isThere = true;
    this.#isKept = this.#version === 5 || !clean;
    await this.#redelivery(this.#subject);
  }

  /** All that is owed comes again: PUBLISH in its order, PUBREL for what was received. */
  async #redelivery(subject: WireClient): Promise<void> {
    const packets: Packet[] = [];
    while (packets.length < this.#owed.length) packets.push(await subject.next());
    const publishes = packets.filter(({ name }) => name === "publish");
    const pubrels = packets.filter(({ name }) => name === "pubrel");
    const released = this.#owed.filter(({ state }) => state === "released");
    const idsOf = (all: readonly { packetId: number }[]) => all.map(({ packetId }) => packetId);
    assert.deepEqual(idsOf(pubrels), idsOf(released));
    const unreleased = this.#owed.filter(({ state }) => state !== "released");
    assert.equal(publishes.length, unreleased.length);
    for (const [index, owed] of unreleased.entries()) {
      const packet = publishes[index];
      assert.ok(packet);
      this.#received(owed, packet, owed.state === "waiting" ? packet.dup : true);
    }
  }

  #received(owed: Owed, packet: Packet, dup: boolean): void {
    const { payload, qos } = owed;
    const packetId = owed.state === "sent" ? owed.packetId : packet.packetId;
    assert.partialDeepStrictEqual(packet, { payload, qos, dup, packetId, retain: false });
    const others = this.#owed.filter((it) => it !== owed && it.state !== "waiting");
    assert.ok(
      others.every((it) => it.packetId !== packetId),
      `packet id ${packetId} is in use [MQTT-2.3.1-4]`,
    );
    Object.assign(owed, { state: "sent", packetId });
  }

  /** The connection is over; the session goes on if it is kept. */
  #gone(): void {
    this.#subject = undefined;
    this.#isThere &&= this.#isKept;
    if (this.#isThere) return;
    this.#owed = [];
    this.#unreleased.clear();
    this.#granted = undefined;
  }

  async #feed(all: readonly Qos[]): Promise<void> {
    for (const published of all) {
      const payload = this.#payload();
      await this.#feeder.publish(this.#topics.in, payload, { qos: published });
      await this.#feeder.ping();
      if (this.#granted === undefined) continue;
      const qos = Math.min(published, this.#granted) as Qos;
      const owed: Owed = { payload, qos, state: "waiting", packetId: 0 };
      if (qos > 0) this.#owed.push(owed);
      const packet = await this.#subject?.expect("publish", { payload, qos });
      if (packet && qos > 0) this.#received(owed, packet, false);
    }
  }

  /** Acknowledgements come in the order of what they acknowledge [MQTT-4.6.0-2, 4.6.0-3]. */
  async #publish(subject: WireClient, all: readonly Qos[]): Promise<void> {
    const sent = all.map((qos) => ({ qos, payload: this.#payload(), packetId: this.#freeId(qos) }));
    for (const { qos, packetId, payload } of sent) {
      if (qos === 2) this.#unreleased.set(packetId, payload);
    }
    const topic = this.#topics.out;
    subject.send(...sent.map((it) => publishPacket({ topic, ...it }, this.#version)));
    const acks: Packet[] = [];
    const awaited = sent.filter(({ qos }) => qos > 0);
    while (acks.length < awaited.length) acks.push(await subject.next());
    for (const [name, qos] of [["puback", 1] as const, ["pubrec", 2] as const]) {
      assert.deepEqual(
        acks.filter((it) => it.name === name && it.code === 0).map(({ packetId }) => packetId),
        sent.filter((it) => it.qos === qos).map(({ packetId }) => packetId),
      );
    }
    const seen = await this.#witness.take(sent.length);
    for (const qos of [0, 1, 2]) {
      assert.deepEqual(
        seen.filter((it) => it.qos === qos).map(({ payload }) => payload),
        sent.filter((it) => it.qos === qos).map(({ payload }) => payload),
        `messages of QoS ${qos}, in order`,
      );
    }
  }

  /** A message that was not released is received again, and not delivered again [MQTT-4.3.3-2]. */
  async #repeat(subject: WireClient): Promise<void> {
    for (const [packetId, payload] of this.#unreleased) {
      subject.sendPublish({ topic: this.#topics.out, payload, qos: 2, packetId, dup: true });
      await subject.expect("pubrec", { packetId, code: 0 });
    }
  }

  async #release(subject: WireClient, at: number): Promise<void> {
    const ids = [...this.#unreleased.keys()];
    const packetId = ids[at % ids.length];
    if (packetId === undefined) return;
    subject.sendPubrel({ packetId });
    await subject.expect("pubcomp", { packetId, code: 0 });
    this.#unreleased.delete(packetId);
  }

  async #acknowledge(
    subject: WireClient,
    at: number,
    how: "right" | "wrong" | "refuse",
  ): Promise<void> {
    const owed = this.#owed[at % this.#owed.length];
    if (!owed) return;
    if (how === "wrong") await this.#acknowledgeWrongly(subject, owed);
    else if (how === "refuse" && this.#version === 5) this.#refuse(subject, owed);
    else await this.#acknowledgeRightly(subject, owed);
  }

  async #acknowledgeRightly(subject: WireClient, owed: Owed): Promise<void> {
    const { packetId, qos, state } = owed;
    if (qos === 1) subject.sendPuback({ packetId });
    else if (state === "released") subject.sendPubcomp({ packetId });
    else {
      subject.sendPubrec({ packetId });
      await subject.expect("pubrel", { packetId, code: 0 });
      owed.state = "released";
      return;
    }
    this.#owed = this.#owed.filter((it) => it !== owed);
  }

  /** A reason code of failure ends the exchange (MQTT 5.0 §4.3.3). */
  #refuse(subject: WireClient, owed: Owed): void {
    const { packetId, qos, state } = owed;
    if (state === "released") subject.sendPubcomp({ packetId, code: NOT_FOUND });
    else if (qos === 1) subject.sendPuback({ packetId, code: UNSPECIFIED });
    else subject.sendPubrec({ packetId, code: UNSPECIFIED });
    this.#owed = this.#owed.filter((it) => it !== owed);
  }

  /** Of another kind than the message's QoS asks for: a protocol error. */
  async #acknowledgeWrongly(subject: WireClient, { packetId, qos }: Owed): Promise<void> {
    if (qos === 1) subject.sendPubrec({ packetId });
    else subject.sendPuback({ packetId });
    await this.#assertEnded(subject, PROTOCOL_ERROR);
    this.#gone();
  }

  async #assertEnded(client: WireClient, code: number): Promise<void> {
    const last = await client.closed();
    const said = last.map((it) => [it.name, it.code]);
    assert.deepEqual(said, this.#version === 5 ? [["disconnect", code]] : []);
  }

  /** What fits no exchange is answered where the sender waits for an answer (MQTT 5.0 §4.3.3). */
  async #stray(subject: WireClient, name: (Step & { kind: "stray" })["name"]): Promise<void> {
    const packetId = STRAY_ID;
    const code = this.#version === 5 ? NOT_FOUND : 0;
    switch (name) {
      case "puback":
        return subject.sendPuback({ packetId });
      case "pubcomp":
        return subject.sendPubcomp({ packetId });
      case "pubrec":
        subject.sendPubrec({ packetId });
        await subject.expect("pubrel", { packetId, code });
        return;
      default:
        subject.sendPubrel({ packetId });
        await subject.expect("pubcomp", { packetId, code });
    }
  }

  #payload(): string {
    this.#number += 1;
    return String(this.#number);
  }

  /** As low as it may be, so that ids come again as soon as they are free. */
  #freeId(qos: Qos): number {
    if (qos === 0) return 0;
    if (qos === 1) return STRAY_ID - this.#number;
    let packetId = 1;
    while (this.#unreleased.has(packetId)) packetId += 1;
    this.#unreleased.set(packetId, "");
    return packetId;
  }
}
