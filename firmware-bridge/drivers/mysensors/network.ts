// network: the conversation with a MySensors gateway, for one time that its link is up.
// Path: link → codec → [network] → nodes → devices, and answers back. Touches: nothing.

import type { Host, Link } from "../../driver.ts";
import { LineSplitter, TOO_LONG } from "../framing/line-splitter.ts";
import { EVERYBODY, ITSELF, parseLine, type SensorMessage, serialiseLine } from "./codec.ts";
import type { Line, Node } from "./node.ts";
import { GATEWAY, type Roster } from "./roster.ts";
import { COMMAND, INTERNAL, valueName } from "./types.ts";

const LIMITS = {
  /** Log messages of a gateway are its longest lines. */
  lineBytesMax: 512,
  /** What a node says of how long it still listens is believed up to here. */
  listenMsMax: 60_000,
  /** Where it says nothing: MY_SMART_SLEEP_WAIT_DURATION_MS. */
  listenMs: 500,
} as const;

export interface NetworkOptions {
  readonly host: Host;
  readonly link: Link;
  readonly roster: Roster;
  readonly givesIds: boolean;
  readonly isMetric: boolean;
}

export class Network {
  readonly #options: NetworkOptions;
  readonly #ended = new AbortController();
  readonly #line: Line;
  readonly #heard = new Set<number>();

  constructor(options: NetworkOptions) {
    this.#options = options;
    const { link } = options;
    const send = (message: SensorMessage) => link.write(serialiseLine(message));
    this.#line = { send, ended: this.#ended.signal };
  }

  async untilEnd(): Promise<void> {
    const { host, link } = this.#options;
    const splitter = new LineSplitter("lf", LIMITS.lineBytesMax);
    try {
      await this.#greet();
      for await (const { bytes, receivedAtMs } of link.readable) {
        for (const line of splitter.push(bytes)) {
          if (line === TOO_LONG) host.fault(`a line is longer than ${LIMITS.lineBytesMax} bytes`);
          else if (line.length > 0) await this.#hearLine(line, receivedAtMs);
        }
      }
    } finally {
      this.#ended.abort();
    }
  }

  /** Whoever is awake answers, the gateway with its version. */
  async #greet(): Promise<void> {
    await this.#send({ node: GATEWAY, type: INTERNAL.version });
    await this.#send({ node: EVERYBODY, type: INTERNAL.discoverRequest });
  }

  async #hearLine(line: Uint8Array, receivedAtMs: number): Promise<void> {
    const { host } = this.#options;
    const message = parseLine(line);
    if (!message) return host.fault("a line is no message", line);
    if (message.node === EVERYBODY && !isIdRequest(message)) {
      return host.fault("a message of a node without an id", line);
    }
    if (message.command === COMMAND.set && message.child === ITSELF) {
      return host.fault("a value of no child", line);
    }
    host.countFrames(1);
    if (message.node === EVERYBODY) await this.#giveId(message);
    else await this.#hear(await this.#nodeOf(message), message, receivedAtMs);
  }

  /** The node, which is there from its first message on. */
  async #nodeOf({ node: id, command }: SensorMessage): Promise<Node> {
    const { roster } = this.#options;
    const node = roster.node(id);
    if (this.#heard.has(id)) return node;
    this.#heard.add(id);
    node.online(this.#line);
    if (!roster.isPresented(id) && command !== COMMAND.presentation) {
      await this.#send({ node: id, type: INTERNAL.presentation });
    }
    return node;
  }

  async #hear(node: Node, message: SensorMessage, receivedAtMs: number): Promise<void> {
    if (message.ack) return node.confirm(message);
    switch (message.command) {
      case COMMAND.presentation:
        return this.#present(message);
      case COMMAND.set: {
        node.keep(message);
        const channel = `${message.child}/${valueName(message.type)}`;
        return node.device.publish({ channel, payload: message.payload, receivedAtMs });
      }
      case COMMAND.request:
        return this.#answer(node, message);
      case COMMAND.internal:
        return this.#hearInternal(node, message, receivedAtMs);
      default:
        // Streams are firmware, sound and pictures: nobody here has any of them.
        this.#options.host.log.debug({ node: node.id, type: message.type }, "stream");
    }
  }

  /** A child says what it is, or the node itself which version of the protocol it speaks. */
  #present({ node, child, type, payload }: SensorMessage): void {
    const { roster } = this.#options;
    if (child === ITSELF) roster.learn(node, "protocol", textOf(payload));
    else roster.learnChild(node, child, type, textOf(payload));
  }

  async #answer(node: Node, { child, type }: SensorMessage): Promise<void> {
    const payload = node.value(child, type);
    if (payload === undefined) return;
    const { set } = COMMAND;
    await this.#line.send({ node: node.id, child, command: set, ack: false, type, payload });
  }

  async #giveId({ child }: SensorMessage): Promise<void> {
    const { givesIds, roster, host } = this.#options;
    if (!givesIds) return host.fault("a node wants an id, and give_ids is false");
    const id = await roster.giveId();
    if (id === undefined) return;
    host.log.info({ id }, "id given to a new node");
    const payload = Buffer.from(String(id));
    await this.#send({ node: EVERYBODY, child, type: INTERNAL.idResponse, payload });
  }

  async #hearInternal(node: Node, message: SensorMessage, receivedAtMs: number): Promise<void> {
    const { payload, type } = message;
    const { roster, host, isMetric } = this.#options;
    switch (type) {
      case INTERNAL.time:
        return this.#reply(message, INTERNAL.time, localSeconds(receivedAtMs));
      case INTERNAL.config:
        return this.#reply(message, INTERNAL.config, isMetric ? "M" : "I");
      case INTERNAL.registrationRequest:
        return this.#reply(message, INTERNAL.registrationResponse, "1");
      case INTERNAL.gatewayReady:
        return this.#greet();
      case INTERNAL.version:
        if (node.id === GATEWAY) roster.learn(GATEWAY, "sketchVersion", textOf(payload));
        return;
      case INTERNAL.sketchName:
        return roster.learn(node.id, "sketchName", textOf(payload));
      case INTERNAL.sketchVersion:
        return roster.learn(node.id, "sketchVersion", textOf(payload));
      case INTERNAL.logMessage:
      case INTERNAL.debug:
        return host.log.debug({ node: node.id, text: textOf(payload) }, "node's log");
      case INTERNAL.locked:
        return host.log.warn({ node: node.id, why: textOf(payload) }, "node is locked");
      default:
        return this.#hearState(node, message, receivedAtMs);
    }
  }

  /** What a node says of its own state. */
  async #hearState(node: Node, message: SensorMessage, receivedAtMs: number): Promise<void> {
    const { payload, type } = message;
    const { roster } = this.#options;
    const publish = (channel: string) => node.device.publish({ channel, payload, receivedAtMs });
    switch (type) {
      case INTERNAL.batteryLevel:
        if (!node.hasBattery) {
          node.hasBattery = true;
          roster.describe(node.id);
        }
        return publish("battery");
      case INTERNAL.heartbeatResponse:
        // Up to 2.1 it is how a node says that it is about to sleep.
        if (/^2\.[01]\b/.test(roster.protocolOf(node.id))) {
          node.sleep.fallsAsleepIn(LIMITS.listenMs);
        }
        return publish("heartbeat");
      case INTERNAL.inclusionMode:
        return publish("inclusion");
      case INTERNAL.preSleepNotification:
        return node.sleep.fallsAsleepIn(listenMs(payload));
      case INTERNAL.postSleepNotification:
        return node.sleep.wakes();
    }
  }

  #reply({ node, child }: SensorMessage, type: number, text: string): Promise<void> {
    return this.#send({ node, child, type, payload: Buffer.from(text) });
  }

  /** An internal message; without a child to the node itself. */
  #send(some: Pick<SensorMessage, "node" | "type"> & Partial<SensorMessage>): Promise<void> {
    const common = { child: ITSELF, command: COMMAND.internal, ack: false };
    return this.#line.send({ ...common, payload: new Uint8Array(0), ...some });
  }
}

function isIdRequest({ command, type }: SensorMessage): boolean {
  return command === COMMAND.internal && type === INTERNAL.idRequest;
}

/** Seconds since 1970 in this machine's time zone, which is what nodes count (serial API, I_TIME). */
function localSeconds(unixMs: number): string {
  const offsetMinutes = new Date(unixMs).getTimezoneOffset();
  return String(Math.floor(unixMs / 1_000) - offsetMinutes * 60);
}

/** How long a node that is about to sleep listens. */
function listenMs(payload: Uint8Array): number {
  const text = textOf(payload);
  return /^\d{1,6}$/.test(text) ? Math.min(Number(text), LIMITS.listenMsMax) : LIMITS.listenMs;
}

function textOf(payload: Uint8Array): string {
  return Buffer.from(payload).toString();
}
