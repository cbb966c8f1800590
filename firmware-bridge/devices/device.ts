// device: one device as one MQTT client: its messages, its availability, its commands.
// Path: driver → [device] → broker, and back. Touches: the network, by connection.ts.

import { reasonOf, SluiceError } from "#contract/errors";
import { wait } from "#runtime/backoff";
import type { Log } from "#runtime/log";
import type { About, BrokerDoor, CarryOut, Command, Device, Message, Outcome } from "../driver.ts";
import { Connection } from "./connection.ts";
import { PacketIds } from "./packet-ids.ts";
import { type Pending, Window } from "./window.ts";

const LIMITS = {
  /** Commands that wait for the one that is carried out. */
  commandsMax: 100,
  /** At the end: for the broker to acknowledge what it has. */
  flushMsMax: 2_000,
  availabilityMsMax: 1_000,
  /** Between two corrections of an availability that somebody else wrote. */
  correctionMs: 1_000,
} as const;

type State =
  | { readonly mode: "starting" }
  | { readonly mode: "online"; readonly carryOut: CarryOut }
  | { readonly mode: "offline"; readonly reason: string };

interface ReceivedCommand extends Command {
  /** The topic's end, by which its result names it. */
  readonly name: string;
}

export interface DeviceOptions {
  readonly name: string;
  readonly door: BrokerDoor;
  readonly unacknowledgedMax: number;
  readonly log: Log;
}

/**
 * starting → online ⇄ offline. While starting nobody knows yet whether the link is there: commands
 * wait, so that those sent while the process restarted are carried out.
 */
export class MqttDevice implements Device {
  readonly name: string;
  readonly #topic: string;
  readonly #window: Window;
  readonly #connection: Connection;
  readonly #log: Log;
  readonly #commands: ReceivedCommand[] = [];
  #state: State = { mode: "starting" };
  #working = false;
  #heard = "";
  #correction: NodeJS.Timeout | undefined;
  #discarded = 0;
  #about: About = {};

  constructor(options: DeviceOptions) {
    const { name, door, unacknowledgedMax } = options;
    this.name = name;
    this.#topic = `serial/${name}/`;
    this.#log = options.log.child({ device: name });
    const window = new Window(unacknowledgedMax);
    this.#window = window;
    this.#connection = new Connection({
      clientId: `serial-${name}`,
      door,
      will: { topic: `${this.#topic}availability`, payload: "offline" },
      packetIds: new PacketIds(() => window.packetIds()),
      log: this.#log,
      onConnected: () => this.#onConnected(),
      onMessage: (topic, payload, retained) => this.#onMessage(topic, payload, retained),
    });
    this.#connection.start();
  }

  publish(message: Message): Promise<void> | undefined {
    return this.#enter(message.channel, message.payload);
  }

  online(carryOut: CarryOut): void {
    this.#setState({ mode: "online", carryOut });
  }

  offline(reason: string): void {
    this.#setState({ mode: "offline", reason });
  }

  describe(about: About): void {
    this.#about = { ...this.#about, ...about };
  }

  /** Waits a little for the broker's acknowledgements, then goes offline and disconnects. */
  async stop(): Promise<void> {
    if (this.#connection.connected) await within(LIMITS.flushMsMax, this.#window.empty());
    this.#window.close();
    clearTimeout(this.#correction);
    this.#state = { mode: "offline", reason: "the bridge stops" };
    await within(LIMITS.availabilityMsMax, this.#sayAvailability());
    await this.#connection.close();
    const lost = this.#window.size + this.#discarded;
    if (lost > 0) this.#log.warn({ messages: lost }, "stopped before the broker had all messages");
  }

  #setState(state: State): void {
    const before = this.#availability;
    this.#state = state;
    if (this.#availability !== before) void this.#sayAvailability();
    void this.#work();
  }

  #onConnected(): void {
    this.#connection.subscribe(["availability", "set/#"].map((end) => this.#topic + end));
    void this.#sayAvailability();
    for (const pending of this.#window.pending) this.#send(pending);
  }

  async #enter(channel: string, payload: Uint8Array): Promise<void> {
    const pending = await this.#window.add(this.#topic + channel, payload);
    if (!pending) this.#discarded += 1;
    else if (this.#connection.connected) this.#send(pending);
  }

  #send(pending: Pending): void {
    const { topic, payload, packetId } = pending;
    const publication = { topic, payload, retain: false, packetId };
    pending.packetId = this.#connection.publish(publication, () =>
      this.#window.acknowledge(pending),
    );
  }

  get #availability(): "online" | "offline" {
    return this.#state.mode === "online" ? "online" : "offline";
  }

  /**
   * Tells the state as it is now, outside of the window: it never waits behind messages. Whoever
   * is not connected says it on connecting. Resolves when the broker has it, or cannot get it.
   */
  #sayAvailability(): Promise<void> {
    if (!this.#connection.connected) return Promise.resolve();
    const payload = Buffer.from(this.#availability);
    const publication = { topic: `${this.#topic}availability`, payload, retain: true };
    return new Promise((resolve) => this.#connection.publish(publication, resolve));
  }

  /**
   * A broker may publish the will of an earlier connection after the device is back. So the device
   * listens to its own availability, and corrects it where it is not what was said last.
   */
  #hearAvailability(heard: string): void {
    this.#heard = heard;
    if (heard === this.#availability || this.#correction) return;
    this.#correction = setTimeout(() => {
      this.#correction = undefined;
      if (this.#heard !== this.#availability) void this.#sayAvailability();
    }, LIMITS.correctionMs);
  }

  #onMessage(topic: string, payload: Uint8Array, retained: boolean): void {
    const name = topic.slice(this.#topic.length);
    if (name === "availability") {
      this.#hearAvailability(Buffer.from(payload).toString());
      return;
    }
    const channel = name === "set" ? undefined : name.slice("set/".length);
    const command = { name, channel, payload };
    // It would be carried out again at each connection.
    if (retained) this.#refuse(command, "a command must not be retained");
    else if (this.#commands.length >= LIMITS.commandsMax) {
      this.#refuse(command, `${LIMITS.commandsMax} commands wait already`);
    } else {
      this.#commands.push(command);
      void this.#work();
    }
  }

  async #work(): Promise<void> {
    if (this.#working) return;
    this.#working = true;
    while (this.#state.mode !== "starting") {
      const command = this.#commands.shift();
      if (!command) break;
      const outcome = await this.#carryOut(command);
      await this.#tellResult(command, outcome);
    }
    this.#working = false;
  }

  async #carryOut(command: ReceivedCommand): Promise<Outcome> {
    if (this.#state.mode !== "online") {
      const reason = this.#state.mode === "offline" ? this.#state.reason : "not there yet";
      return { state: "failed", reason };
    }
    try {
      return await this.#state.carryOut(command);
    } catch (fault) {
      if (!(fault instanceof SluiceError)) throw fault;
      return { state: "failed", reason: reasonOf(fault) };
    }
  }

  /** For commands beyond what may wait: told if there is room to tell it, and logged in any case. */
  #refuse(command: ReceivedCommand, reason: string): void {
    const outcome = { state: "failed", reason } as const;
    if (this.#window.hasRoom) void this.#tellResult(command, outcome);
    else this.#logResult(command, outcome);
  }

  async #tellResult(command: ReceivedCommand, outcome: Outcome): Promise<void> {
    this.#logResult(command, outcome);
    const result = JSON.stringify({ command: command.name, ...outcome });
    await this.#enter("result", Buffer.from(result));
  }

  #logResult({ name }: ReceivedCommand, outcome: Outcome): void {
    if (outcome.state === "done") this.#log.debug({ command: name }, "command done");
    else this.#log.warn({ command: name, why: outcome.reason }, "command failed");
  }
}

async function within(ms: number, promise: Promise<void>): Promise<void> {
  const done = new AbortController();
  await Promise.race([promise, wait(ms, done.signal)]);
  done.abort();
}
