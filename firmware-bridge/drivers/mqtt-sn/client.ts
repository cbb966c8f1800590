// client: one MQTT-SN client and its session at the broker (MQTT-SN 1.2, §6.2 to §6.14).
// Path: gateway → [client] → broker-session, and back. Touches: the clock; the network, by broker-session.ts.

import { backoffMs, wait } from "#runtime/backoff";
import type { Log } from "#runtime/log";
import {
  type BrokerSession,
  type BrokerSessionOptions,
  TAKEN_OVER,
  type Will,
} from "./broker-session.ts";
import { Conversation, type ConversationLimits } from "./conversation.ts";
import { Inbox } from "./inbox.ts";
import { type Connect, encodePacket, type Packet, RETURN_CODES } from "./packets.ts";
import { connectReturnCodeOf } from "./return-codes.ts";
import { type Prompted, WillPrompt, type WillTopic, willQosOf } from "./will-prompt.ts";
import type { Wills } from "./wills.ts";

const LIMITS = {
  /** A session that is to end with its connection has this to outlive a change of the will. */
  cleanSessionSeconds: 60,
  /** Around a payload: a topic, and properties that the device will not see. */
  mqttBytesMax: 131_072,
  returnMsLeast: 1_000,
  returnMsMost: 30_000,
} as const;

/** Where a client is (§6.14); `lost` and `disconnected` are both `ended`, with another reason. */
export type ClientMode = "new" | "asking" | "opening" | "active" | "asleep" | "awake" | "ended";

export interface ClientLimits extends ConversationLimits {
  /** For how long the broker keeps a session that is not clean. */
  readonly sessionSeconds: number;
}

export interface ClientOptions {
  readonly clientId: string;
  readonly limits: ClientLimits;
  readonly predefined: ReadonlyMap<number, string>;
  readonly wills: Wills;
  readonly log: Log;
  readonly openSession: (
    some: Omit<BrokerSessionOptions, "door" | "username" | "password">,
  ) => BrokerSession;
  /** To the device; resolves when the line took it, never rejects. */
  readonly say: (packet: Packet) => Promise<void>;
  readonly onFault: (reason: string) => void;
  readonly onEnded: () => void;
  /** What waited behind the end of this client, as the CONNECT of one that restarts. */
  readonly onLate: (packet: Packet) => void;
}

/** §7.2: the tolerance is 50 %, and 10 % when the duration is longer than a minute. */
export function toleratedMs(durationSeconds: number): number {
  return durationSeconds * 1_000 * (durationSeconds > 60 ? 1.1 : 1.5);
}

/**
 * new → (asking →) opening → active ⇄ asleep ⇄ awake → asleep; asleep, awake → active by CONNECT;
 * any → ended, which is final. Only #setMode writes #mode.
 */
export class Client {
  readonly clientId: string;
  readonly #options: ClientOptions;
  readonly #conversation: Conversation;
  readonly #willPrompt: WillPrompt;
  readonly #inbox: Inbox;
  readonly #ending = new AbortController();
  #mode: ClientMode = "new";
  #session: BrokerSession | undefined;
  #connect: Connect | undefined;
  #will: Will | undefined;
  /** Nothing came since our CONNACK, so the same CONNECT again means that it was not heard. */
  #isQuiet = false;
  /** The broker has lost the session while the client slept. */
  #isForgotten = false;
  #sleepSeconds = 0;
  #silence: NodeJS.Timeout | undefined;

  constructor(options: ClientOptions) {
    const { clientId, limits, onFault } = options;
    this.clientId = clientId;
    this.#options = options;
    this.#inbox = new Inbox(
      (packet) => this.#handle(packet),
      ({ type }) => onFault(`${type} is dropped: too many wait for the broker`),
    );
    this.#conversation = new Conversation({
      ...options,
      onUnanswered: () => this.#onUnanswered(),
      onDrained: () => this.#onDrained(),
    });
    this.#willPrompt = new WillPrompt({
      ...limits,
      say: (packet) => this.#say(packet),
      onGivenUp: () => this.#lose("it does not tell its will"),
    });
  }

  get mode(): ClientMode {
    return this.#mode;
  }

  /** Takes a message of the device, after the ones before. */
  take(packet: Packet): void {
    this.#inbox.take(packet);
  }

  /** Ends it as a connection that broke: the broker publishes the will. */
  cut(reason: string): void {
    if (this.#mode === "ended") return;
    this.#session?.cut();
    this.#end(reason);
  }

  #handle(packet: Packet): Promise<void> | undefined {
    if (this.#mode === "ended") {
      this.#options.onLate(packet);
      return undefined;
    }
    this.#silence?.refresh();
    if (packet.type !== "connect" && packet.type !== "willmsg") this.#isQuiet = false;
    switch (packet.type) {
      case "connect":
        return this.#onConnect(packet);
      case "willtopic":
        if (this.#mode !== "asking") return undefined;
        return this.#onPrompted(this.#willPrompt.onTopic(packet.will));
      case "willmsg":
        return this.#onWillMessage(packet.message);
      case "disconnect":
        return this.#onDisconnect(packet.durationSeconds ?? 0);
      case "pingreq":
        this.#onPing();
        return undefined;
      default:
        return this.#onSessionPacket(packet);
    }
  }

  /** What needs an open session. */
  #onSessionPacket(packet: Packet): Promise<void> | undefined {
    const session = this.#session;
    if (this.#mode === "asking" || this.#mode === "new") {
      this.#options.onFault(`${packet.type} came before CONNACK`);
    } else if (!session?.isOpen || this.#isForgotten) {
      this.#dismiss("its session is gone");
    } else if (packet.type === "willtopicupd") {
      return this.#onWillTopicUpdate(packet.will);
    } else if (packet.type === "willmsgupd") {
      return this.#onWillMessageUpdate(packet.message);
    } else {
      this.#conversation.take(packet, session);
    }
    return undefined;
  }

  /** §6.2, §6.3; and §6.14, when a client that slept comes back. */
  async #onConnect(packet: Connect): Promise<void> {
    const isSleeping = this.#mode === "asleep" || this.#mode === "awake";
    const last = this.#connect;
    const isSame = last && encodePacket(last).equals(encodePacket(packet));
    if (this.#mode === "active" && this.#isQuiet && isSame) {
      return this.#say({ type: "connack", returnCode: RETURN_CODES.accepted });
    }
    this.#connect = packet;
    this.#conversation.untellTopics();
    if (isSleeping && !last?.cleanSession && this.#canContinue(packet)) return this.#welcome();
    await this.#leaveSession(isSleeping);
    if (this.#ending.signal.aborted) return;
    if (packet.cleanSession) this.#conversation.forgetTopics();
    if (packet.will) {
      this.#setMode("asking", "it has a will to tell");
      return this.#willPrompt.ask();
    }
    await this.#open(packet, await this.#keptWill(packet, isSleeping));
  }

  /** That of a clean session is not on disk, but was not taken back while the client slept. */
  async #keptWill({ cleanSession }: Connect, isSleeping: boolean): Promise<Will | undefined> {
    if (cleanSession) return undefined;
    return isSleeping ? this.#will : this.#options.wills.of(this.clientId);
  }

  #canContinue({ cleanSession, will }: Connect): boolean {
    return !cleanSession && !will && !this.#isForgotten && this.#session?.isOpen === true;
  }

  /** Who slept has said goodbye; who was active and connects anew has restarted: its will is due. */
  async #leaveSession(isSleeping: boolean): Promise<void> {
    this.#conversation.use(undefined);
    const session = this.#session;
    this.#session = undefined;
    this.#isForgotten = false;
    if (isSleeping) await session?.close(false);
    else session?.cut();
  }

  #onWillMessage(message: Uint8Array): Promise<void> | undefined {
    if (this.#mode === "asking") return this.#onPrompted(this.#willPrompt.onMessage(message));
    // Our CONNACK was not heard.
    if (this.#isQuiet) this.#say({ type: "connack", returnCode: RETURN_CODES.accepted });
    return undefined;
  }

  async #onPrompted(prompted: Prompted): Promise<void> {
    if (prompted === "asking" || !this.#connect) return;
    if (prompted === "refused")
      return this.#refuse(RETURN_CODES.notSupported, "a will that cannot be");
    await this.#open(this.#connect, prompted.will);
  }

  async #open(connect: Connect, will: Will | undefined): Promise<void> {
    // Its link may have gone while it was asked for, or looked up.
    if (this.#ending.signal.aborted) return;
    this.#willPrompt.stop();
    this.#setMode("opening", "the broker is asked");
    this.#will = will;
    const session = this.#useNewSession(connect.cleanSession);
    const { reasonCode, reason } = await session.connect();
    if (this.#ending.signal.aborted) return session.cut();
    if (reasonCode !== 0) return this.#refuse(connectReturnCodeOf(reasonCode), reason);
    await this.#options.wills.set(this.clientId, connect.cleanSession ? undefined : will);
    if (this.#ending.signal.aborted) return session.cut();
    this.#welcome();
  }

  /** What the broker tells right behind its CONNACK is taken already. */
  #useNewSession(clean: boolean): BrokerSession {
    const { openSession, limits } = this.#options;
    const session: BrokerSession = openSession({
      clientId: this.clientId,
      clean,
      sessionSeconds: this.#connect?.cleanSession
        ? LIMITS.cleanSessionSeconds
        : limits.sessionSeconds,
      will: this.#will,
      receiveMax: limits.queueMessagesMax,
      packetBytesMax: limits.messageBytesMax + LIMITS.mqttBytesMax,
      onPacket: (packet) => {
        if (this.#session === session) this.#conversation.takeMqtt(packet);
      },
      onEnd: (reason) => {
        if (this.#session === session) this.#onBrokerGone(reason);
      },
    });
    this.#session = session;
    this.#conversation.use(session);
    return session;
  }

  #welcome(): void {
    this.#watch(this.#connect?.durationSeconds ?? 0, "it was silent for too long");
    this.#isQuiet = true;
    this.#say({ type: "connack", returnCode: RETURN_CODES.accepted });
    this.#setMode("active", "connected");
    this.#conversation.resume();
  }

  #refuse(returnCode: number, reason: string): void {
    this.#options.onFault(`a CONNECT is refused: ${reason}`);
    this.#say({ type: "connack", returnCode });
    this.#end(reason);
  }

  /** §6.4: an empty topic takes the will back, its message included. */
  async #onWillTopicUpdate(will: WillTopic | undefined): Promise<void> {
    const qos = will && willQosOf(will);
    if (will && qos === undefined) {
      return this.#say({ type: "willtopicresp", returnCode: RETURN_CODES.notSupported });
    }
    const payload = this.#will?.payload ?? new Uint8Array();
    const next = will && qos !== undefined ? { ...will, qos, payload } : undefined;
    await this.#changeWill(next, "willtopicresp");
  }

  async #onWillMessageUpdate(payload: Uint8Array): Promise<void> {
    if (!this.#will)
      return this.#say({ type: "willmsgresp", returnCode: RETURN_CODES.notSupported });
    await this.#changeWill({ ...this.#will, payload }, "willmsgresp");
  }

  /**
   * A will stands at the broker, which alone is sure to be there when this process is killed, and
   * MQTT changes it by a new connection only. The next one is on its way already when the last says
   * goodbye, so the client is without a will for one exchange with the broker; the session stays.
   */
  async #changeWill(will: Will | undefined, type: "willtopicresp" | "willmsgresp"): Promise<void> {
    const last = this.#session;
    this.#will = will;
    const session = this.#useNewSession(false);
    await last?.close(false);
    const { reasonCode, sessionPresent } = await session.connect();
    if (this.#ending.signal.aborted) return session.cut();
    if (reasonCode !== 0 || !sessionPresent) {
      this.#say({ type, returnCode: RETURN_CODES.congestion });
      return this.#dismiss("its session is gone");
    }
    if (!this.#connect?.cleanSession) await this.#options.wills.set(this.clientId, will);
    this.#say({ type, returnCode: RETURN_CODES.accepted });
    if (this.#mode === "active" || this.#mode === "awake") this.#conversation.resume();
  }

  /** §6.12 without a duration, §6.14 with one: it goes to sleep. */
  async #onDisconnect(durationSeconds: number): Promise<void> {
    const isSleeping = this.#mode === "asleep" || this.#mode === "awake";
    if (durationSeconds > 0 && (isSleeping || this.#session?.isOpen)) {
      this.#sleepSeconds = durationSeconds;
      this.#conversation.pause();
      this.#fallAsleep(`for ${durationSeconds} s`);
      return this.#say({ type: "disconnect", durationSeconds: undefined });
    }
    const session = this.#session;
    this.#session = undefined;
    await session?.close(this.#connect?.cleanSession ?? false);
    if (this.#ending.signal.aborted) return;
    this.#say({ type: "disconnect", durationSeconds: undefined });
    this.#end("disconnected");
  }

  #fallAsleep(reason: string): void {
    this.#setMode("asleep", reason);
    this.#watch(this.#sleepSeconds, "it slept for too long");
  }

  /** §6.11 while active; §6.14 while asleep: what is kept comes first, and PINGRESP ends it. */
  #onPing(): void {
    if (this.#mode === "active") {
      this.#say({ type: "pingresp" });
      return;
    }
    if (this.#mode !== "asleep" && this.#mode !== "awake") return;
    if (!this.#session?.isOpen || this.#isForgotten) {
      this.#dismiss("its session is gone");
      return;
    }
    // The sleep timer stands still; who does not answer is noticed by the retries.
    this.#watch(0);
    this.#setMode("awake", "it asks for its messages");
    this.#conversation.resume();
  }

  #onDrained(): void {
    if (this.#mode !== "awake") return;
    this.#conversation.pause();
    this.#say({ type: "pingresp" });
    this.#fallAsleep("all messages are told");
  }

  /** Asleep before all was told, it will ask again, or its time runs out. */
  #onUnanswered(): void {
    if (this.#mode !== "awake") {
      this.#lose("it does not answer");
      return;
    }
    this.#conversation.pause();
    this.#fallAsleep("it does not answer");
  }

  #onBrokerGone(reason: string): void {
    this.#conversation.use(undefined);
    // It cannot be told while it sleeps; so the session is held open for it, and with it the will.
    if (this.#mode === "asleep" && reason !== TAKEN_OVER) void this.#comeBack();
    else this.#dismiss(reason);
  }

  async #comeBack(): Promise<void> {
    const { signal } = this.#ending;
    for (let attempt = 0; this.#mode === "asleep" && !this.#session?.isOpen; attempt += 1) {
      await wait(backoffMs(attempt, LIMITS.returnMsLeast, LIMITS.returnMsMost), signal);
      if (this.#mode !== "asleep" || this.#session?.isOpen) return;
      const session = this.#useNewSession(false);
      const { reasonCode, sessionPresent } = await session.connect();
      if (signal.aborted || this.#session !== session) return session.cut();
      if (reasonCode !== 0) continue;
      this.#isForgotten = !sessionPresent;
      this.#options.log.info({ client: this.clientId, sessionPresent }, "at the broker again");
    }
  }

  /** Tells the device that it has to connect again. */
  #dismiss(reason: string): void {
    this.#say({ type: "disconnect", durationSeconds: undefined });
    this.cut(reason);
  }

  /** §6.14, lost. */
  #lose(reason: string): void {
    this.#options.onFault(`a client is lost: ${reason}`);
    this.#dismiss(reason);
  }

  #end(reason: string): void {
    clearTimeout(this.#silence);
    this.#willPrompt.stop();
    this.#conversation.pause();
    this.#setMode("ended", reason);
    this.#ending.abort();
    this.#options.onEnded();
  }

  /** Begins to count the silence; a duration of 0 allows any. */
  #watch(durationSeconds: number, reason = ""): void {
    clearTimeout(this.#silence);
    this.#silence = undefined;
    if (durationSeconds === 0) return;
    this.#silence = setTimeout(() => this.#lose(reason), toleratedMs(durationSeconds));
  }

  #say(packet: Packet): void {
    void this.#options.say(packet);
  }

  #setMode(next: ClientMode, why: string): void {
    const fields = { client: this.clientId, from: this.#mode, to: next, why };
    this.#mode = next;
    this.#options.log.debug(fields, "client mode");
  }
}
