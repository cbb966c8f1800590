// device: one device as one MQTT client: its messages, its presence, its document, its commands.
// Path: driver → [device] → broker, and back. Touches: the network, by connection.ts.

import type { IPublishPacket } from "mqtt-packet";
import { within } from "#runtime/backoff";
import type { Log } from "#runtime/log";
import type { ChannelSettings } from "#runtime/settings-devices";
import type { About, BrokerDoor, CarryOut, Device, Message, Policy } from "../driver.ts";
import { ChannelRules } from "./channel-rules.ts";
import type { CommandJournal } from "./command-journal.ts";
import { type CommandCounts, Commands } from "./commands.ts";
import { Connection, mendOf } from "./connection.ts";
import { discoveryOf, discoveryTopic } from "./discovery.ts";
import { Description, type DeviceDocument, documentTopic, type Origin } from "./document.ts";
import { Outgoing, type Refusal } from "./outgoing.ts";
import { Presence } from "./presence.ts";
import { REASON, reasonWords } from "./reasons.ts";
import { RetainedTopic } from "./retained-topic.ts";
import { Telemetry } from "./telemetry.ts";

const LIMITS = {
  /** At the end: for the broker to acknowledge what it has, and for the command under way. */
  flushMsMax: 2_000,
  /** Refusals are told in the log at most so often. */
  refusalLogMsLeast: 60_000,
} as const;

/** Who the device is at the broker, and what the settings know of it. */
export interface Identity {
  readonly clientId: string;
  readonly door: BrokerDoor;
  readonly about: About;
  readonly silentMsMax: number;
}

export interface DeviceOptions {
  readonly origin: Origin;
  readonly identity: Identity;
  readonly channels: readonly ChannelSettings[];
  readonly unacknowledgedMax: number;
  readonly tellsTime: boolean;
  readonly discoveryPrefix: string | undefined;
  readonly journal: CommandJournal;
  readonly log: Log;
}

export interface DeviceCounts {
  /** Given by the driver. */
  readonly messages: number;
  /** By the broker, of messages and all else. */
  readonly acknowledged: number;
  /** By the broker, for good. */
  readonly refused: number;
  readonly droppedByPolicy: number;
  /** For want of room, by a driver that does not wait for it. */
  readonly droppedWithoutRoom: number;
  /** Not acknowledged yet. */
  readonly unacknowledged: number;
  readonly commands: Readonly<CommandCounts>;
}

export class MqttDevice implements Device {
  readonly name: string;
  readonly #options: DeviceOptions;
  readonly #base: string;
  readonly #log: Log;
  readonly #rules: ChannelRules;
  readonly #description: Description;
  readonly #outgoing: Outgoing;
  readonly #telemetry: Telemetry;
  readonly #presence: Presence;
  readonly #document: RetainedTopic;
  readonly #discovery: RetainedTopic | undefined;
  readonly #commands: Commands;
  readonly #connection: Connection;
  #messages = 0;
  #refusalLoggedAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: DeviceOptions) {
    const { origin, identity, channels, log } = options;
    this.#options = options;
    this.name = origin.name;
    this.#base = `serial/${origin.name}/`;
    this.#log = log.child({ device: origin.name });
    this.#rules = new ChannelRules(origin.name, channels);
    this.#description = new Description(this.#rules, identity.about);
    this.#outgoing = this.#createOutgoing();
    this.#telemetry = this.#createTelemetry();
    this.#presence = new Presence({
      silentMsMax: identity.silentMsMax,
      onAvailability: () => this.#onAvailability(),
      onChange: () => this.#tellDocument(),
    });
    const say = this.#outgoing.say.bind(this.#outgoing);
    this.#document = new RetainedTopic(documentTopic(origin.name), say);
    this.#discovery = options.discoveryPrefix === undefined ? undefined : this.#createDiscovery();
    this.#commands = this.#createCommands();
    this.#connection = this.#createConnection();
    this.#tellDocument();
    this.#connection.start();
  }

  get isOnline(): boolean {
    return this.#presence.availability === "online";
  }

  /** Why it is offline, or nobody hears of it; undefined when neither is so. */
  get why(): string | undefined {
    return this.#presence.why ?? this.#connection.trouble?.why;
  }

  /** Since when that is so, in ms of Unix time. */
  get sinceMs(): number {
    const { why, sinceMs } = this.#presence;
    return why === undefined ? (this.#connection.trouble?.sinceMs ?? sinceMs) : sinceMs;
  }

  get counts(): DeviceCounts {
    return {
      messages: this.#messages,
      acknowledged: this.#outgoing.acknowledged,
      refused: this.#outgoing.refusedForGood,
      droppedByPolicy: this.#telemetry.dropped,
      droppedWithoutRoom: this.#outgoing.discarded,
      unacknowledged: this.#outgoing.size,
      commands: { ...this.#commands.counts },
    };
  }

  publish(message: Message): Promise<void> | undefined {
    this.#messages += 1;
    this.#presence.heard();
    return this.#telemetry.take(message);
  }

  online(carryOut: CarryOut): void {
    this.#presence.set({ mode: "online", carryOut });
    this.#commands.work();
  }

  offline(reason: string): void {
    this.#telemetry.flush();
    this.#presence.set({ mode: "offline", reason });
    this.#commands.work();
  }

  describe(about: About): void {
    this.#description.describe(about);
    this.#telemetry.reset();
    this.#tellDocument();
  }

  /** Waits a little for the broker's acknowledgements, then goes offline and disconnects. */
  async stop(): Promise<void> {
    this.#telemetry.stop();
    if (this.#connection.connected) {
      const said = Promise.all([this.#outgoing.idle(), this.#commands.idle()]);
      await within(LIMITS.flushMsMax, said);
    }
    this.#outgoing.close();
    this.#presence.set({ mode: "offline", reason: "the bridge stops" });
    this.#presence.stop();
    this.#discovery?.stop();
    this.#document.now(this.#documentText());
    await this.#connection.close();
    const lost = this.#outgoing.size + this.#outgoing.discarded;
    if (lost > 0) this.#log.warn({ messages: lost }, "stopped before the broker had all messages");
  }

  #createOutgoing(): Outgoing {
    return new Outgoing({
      messagesMax: this.#options.unacknowledgedMax,
      onRefused: (refusal) => this.#onRefused(refusal),
      onHeld: (reason) => {
        if (!reason) this.#log.info("the broker has room again");
        else {
          const why = reasonWords(reason.reasonCode, reason.said);
          this.#log.warn({ topic: reason.topic, why }, "the broker takes nothing now; waiting");
        }
      },
    });
  }

  #createTelemetry(): Telemetry {
    return new Telemetry({
      base: this.#base,
      tellsTime: this.#options.tellsTime,
      policyOf: (name) => this.#policyOf(name),
      onChannel: (name) => {
        if (this.#description.saw(name)) this.#tellDocument();
      },
      publish: (publication) => this.#outgoing.publish(publication),
      hasRoom: () => this.#outgoing.hasRoom,
    });
  }

  /** What is not in the document nobody would clear: noise could have topics retained without end. */
  #policyOf(name: string): Policy {
    const { policy } = this.#rules.of(name, this.#description.channel(name));
    return policy.retain && !this.#description.has(name) ? { ...policy, retain: false } : policy;
  }

  #createDiscovery(): RetainedTopic {
    const { origin, discoveryPrefix = "" } = this.#options;
    const topic = discoveryTopic(discoveryPrefix, origin.bridge, origin.name);
    return new RetainedTopic(topic, (publication) => this.#outgoing.say(publication));
  }

  #createCommands(): Commands {
    return new Commands({
      device: this.name,
      base: this.#base,
      journal: this.#options.journal,
      log: this.#log,
      target: () => {
        const { link } = this.#presence;
        if (link.mode === "online") return link.carryOut;
        return link.mode === "offline" ? { offline: link.reason } : undefined;
      },
      say: (publication) => this.#outgoing.say(publication),
      acknowledge: (cmd, packetId) => this.#connection.acknowledge(cmd, packetId),
    });
  }

  #createConnection(): Connection {
    const { clientId, door } = this.#options.identity;
    return new Connection({
      clientId,
      door,
      will: { topic: `${this.#base}availability`, payload: "offline" },
      isKept: true,
      outgoing: this.#outgoing,
      // QoS 2: a command keeps the quality with which it was published. What is said of ourselves
      // must not wait behind a command that is under way.
      filters: [
        { filter: `${this.#base}availability`, qos: 0 },
        { filter: `${this.#base}set/#`, qos: 2 },
      ],
      log: this.#log,
      onConnected: (sessionPresent) => {
        this.#commands.connected(sessionPresent);
        if (!sessionPresent) this.#tellDocumentAgain();
        this.#sayAvailability();
      },
      onMessage: (packet) => this.#onMessage(packet),
    });
  }

  #onMessage(packet: IPublishPacket): void {
    if (packet.topic !== `${this.#base}availability`) this.#commands.receive(packet);
    else this.#presence.hearAvailability(packet.payload.toString());
  }

  #onAvailability(): void {
    this.#telemetry.repeat(this.isOnline);
    this.#sayAvailability();
  }

  #sayAvailability(): void {
    const topic = `${this.#base}availability`;
    const payload = Buffer.from(this.#presence.availability);
    this.#outgoing.say({ topic, payload, retain: true });
  }

  #tellDocument(): void {
    this.#document.change(this.#documentText);
    this.#discovery?.change(this.#discoveryText);
  }

  #tellDocumentAgain(): void {
    this.#document.again(this.#documentText);
    this.#discovery?.again(this.#discoveryText);
  }

  readonly #documentText = (): string => JSON.stringify(this.#documentNow());

  readonly #discoveryText = (): string => discoveryOf(this.#documentNow()) ?? "";

  #documentNow(): DeviceDocument {
    const { model, firmware, channels } = this.#description;
    const { state, why, sinceMs } = this.#presence;
    return {
      ...this.#options.origin,
      ...(model !== undefined && { model }),
      ...(firmware !== undefined && { firmware }),
      state,
      ...(why !== undefined && { why }),
      since: new Date(sinceMs).toISOString(),
      channels,
    };
  }

  #onRefused({ topic, reasonCode, said }: Refusal): void {
    const nowMs = performance.now();
    if (nowMs - this.#refusalLoggedAtMs < LIMITS.refusalLogMsLeast) return;
    this.#refusalLoggedAtMs = nowMs;
    const { door, clientId } = this.#options.identity;
    const mend = mendOf("publish", topic, door.username, clientId);
    const fields = {
      topic,
      why: reasonWords(reasonCode, said),
      ...(reasonCode === REASON.notAuthorized && { mend }),
      refused: this.#outgoing.refusedForGood,
    };
    this.#log.warn(fields, "refused by the broker, so dropped");
  }
}

/** What a document says of where more is retained. */
interface Retaining {
  readonly name: string;
  readonly bridge: string;
  readonly channels: readonly { readonly name: string; readonly retain?: true | undefined }[];
}

/** All that the broker retains of a device. */
export function retainedTopicsOf(
  { name, bridge, channels }: Retaining,
  discoveryPrefix: string | undefined,
): string[] {
  const retained = channels.filter(({ retain }) => retain);
  return [
    ...(discoveryPrefix === undefined ? [] : [discoveryTopic(discoveryPrefix, bridge, name)]),
    ...retained.map((channel) => `serial/${name}/${channel.name}`),
    `serial/${name}/availability`,
    documentTopic(name),
  ];
}
