// landings: the two Redis servers of a landing, of which one is the master and one copies it.
// Path: faults → [landings] → chain, gates. Touches: both servers and their settings, two gates.

import { readFileSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import type { Chain } from "../chain/chain.ts";
import { freeRun } from "../chain/ports.ts";
import { Gate } from "./gate.ts";

export type LandingName = "landing" | "landing-replica";

const OTHER: Readonly<Record<LandingName, LandingName>> = {
  landing: "landing-replica",
  "landing-replica": "landing",
};

/** Where the cloud's brokers find the master, and the replica its master. */
export interface LandingPorts {
  readonly door: number;
  readonly link: number;
}

export async function freeLandingPorts(): Promise<LandingPorts> {
  const base = await freeRun(2);
  return { door: base, link: base + 1 };
}

/** As Sentinel would, it judges who is the master; gateways find that one by HAProxy's own check. */
export class Landings {
  readonly #chain: Chain;
  readonly #ports: LandingPorts;
  readonly #door: Gate;
  readonly #link: Gate;
  #master: LandingName = "landing";

  private constructor(chain: Chain, ports: LandingPorts, door: Gate, link: Gate) {
    this.#chain = chain;
    this.#ports = ports;
    this.#door = door;
    this.#link = link;
  }

  /** Takes over the two of a chain; the replica reaches its master by a link that can be held up. */
  static async open(chain: Chain, ports: LandingPorts): Promise<Landings> {
    const { landing } = chain.ports;
    const door = await Gate.listen(ports.door, landing);
    const link = await Gate.listen(ports.link, landing);
    const landings = new Landings(chain, ports, door, link);
    await landings.#follow("landing-replica");
    return landings;
  }

  get master(): LandingName {
    return this.#master;
  }

  /**
   * The replica hears nothing for `lagMs`; then the master dies, and what it had not passed on with
   * it. The replica takes over; the old master comes back as its replica after `backMs`.
   */
  async failOver(lagMs: number, backMs: number): Promise<void> {
    const old = this.#master;
    const next = OTHER[old];
    this.#link.hold();
    await sleep(lagMs);
    await this.#chain.part(old).stop("SIGKILL");
    this.#link.shut();
    this.#master = next;
    this.#writeRole(next, undefined);
    await this.#command(next, "REPLICAOF", "NO", "ONE");
    this.#door.open(this.#portOf(next));
    await sleep(backMs);
    this.#writeRole(old, this.#ports.link);
    this.#link.open(this.#portOf(next));
    await this.#chain.part(old).start();
  }

  /** A connection to the master with all rights. */
  connect(): Redis {
    return new Redis({ ...this.#chain.redis(this.#master), maxRetriesPerRequest: null });
  }

  async close(): Promise<void> {
    await Promise.all([this.#door.close(), this.#link.close()]);
  }

  async #follow(name: LandingName): Promise<void> {
    this.#writeRole(name, this.#ports.link);
    await this.#command(name, "REPLICAOF", "127.0.0.1", String(this.#ports.link));
  }

  /** What it is when it is started again. */
  #writeRole(name: LandingName, masterPort: number | undefined): void {
    const path = this.#chain.folder.settingsOf(`${name}.conf`);
    const rest = readFileSync(path, "utf8").replace(/^replicaof .*\n/gm, "");
    const role = masterPort === undefined ? "" : `replicaof 127.0.0.1 ${masterPort}\n`;
    writeFileSync(path, rest + role);
  }

  async #command(name: LandingName, command: string, ...args: string[]): Promise<void> {
    const redis = new Redis({ ...this.#chain.redis(name), maxRetriesPerRequest: null });
    redis.on("error", () => {});
    try {
      await redis.call(command, ...args);
    } finally {
      redis.disconnect();
    }
  }

  #portOf(name: LandingName): number {
    const { landing, landingReplica } = this.#chain.ports;
    return name === "landing" ? landing : landingReplica;
  }
}
