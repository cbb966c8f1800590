// bus: how a message reaches every broker of the cluster while it is live.
// Path: mqtt → [bus] → cluster Redis → the other brokers. Touches: the cluster Redis.

import type { Redis } from "ioredis";
import mqemitterRedis from "mqemitter-redis";

/** What travels: topic and payload, and what the publishing broker put beside them. */
export type BusPacket = Record<string, unknown> & { topic: string; payload: Uint8Array | string };

type Listener = (packet: BusPacket, done: () => void) => void;
type Decoded = (packet: mqemitterRedis.Message, done: () => void) => void;

/**
 * mqemitter-redis behind a guard, with the surface of an mqemitter: anybody who may PUBLISH to the
 * cluster Redis would end the process with bytes that it cannot decode.
 */
export class Bus {
  readonly #emitter: mqemitterRedis.MQEmitterRedis;
  readonly #guarded = new WeakMap<Listener, Decoded>();

  /** `foreign` hears of what is no broker's packet, with the reason. */
  constructor(publisher: Redis, subscriber: Redis, foreign: (why: unknown) => void) {
    this.#emitter = mqemitterRedis({
      pubConn: publisher,
      subConn: subscriber,
      matchEmptyLevels: true,
    });
    // The connections' own error events tell what there is to tell.
    const { state } = this.#emitter as unknown as { state: NodeJS.EventEmitter };
    state.on("error", () => {});
    guard(subscriber, foreign);
  }

  on(topic: string, listener: Listener, done?: () => void): this {
    this.#emitter.on(topic, this.#outside(listener), done);
    return this;
  }

  removeListener(topic: string, listener: Listener, done?: () => void): void {
    this.#emitter.removeListener(topic, this.#outside(listener), done);
  }

  emit(packet: BusPacket, done?: (fault?: Error) => void): void {
    this.#emitter.emit(packet, done);
  }

  close(done: () => void): void {
    this.#emitter.close(done);
  }

  /** Runs outside of the guard, which must not hide what a listener throws. */
  #outside(listener: Listener): Decoded {
    const known = this.#guarded.get(listener);
    if (known) return known;
    const outside: Decoded = (packet, done) => {
      if (!isBusPacket(packet)) throw new TypeError(`a packet on ${packet.topic} has no payload`);
      queueMicrotask(() => listener(packet, done));
    };
    this.#guarded.set(listener, outside);
    return outside;
  }
}

function isBusPacket(packet: mqemitterRedis.Message): packet is BusPacket {
  return typeof packet.payload === "string" || packet.payload instanceof Uint8Array;
}

/** Puts a guard around the decoders that mqemitter-redis has just set on its own connection. */
function guard(subscriber: Redis, foreign: (why: unknown) => void): void {
  for (const event of ["messageBuffer", "pmessageBuffer"] as const) {
    const decoders = subscriber.listeners(event);
    subscriber.removeAllListeners(event);
    subscriber.on(event, (...args: Buffer[]) => {
      try {
        for (const decode of decoders) decode(...args);
      } catch (why) {
        foreign(why);
      }
    });
  }
}
