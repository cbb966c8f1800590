// modbus: two meters, RTU on a serial port and TCP on loopback: libmodbus' slaves.
// Path: tests → [modbus] → slaves.c. Touches: cc, a cache in the temporary folder, one process.

import { join } from "node:path";
import type { TestContext } from "node:test";
import { made, run } from "../made.ts";
import { PeerProcess } from "../peer-process.ts";

export type Table = "coil" | "discrete" | "holding" | "input";

/** How a slave misbehaves: no answer, a broken check sum (RTU), 400 ms late, exception 6. */
export type Fault = "none" | "silent" | "garbled" | "late" | "busy";

/**
 * What the slaves hold when they start; where a pair is given, it is that of slaves 1 and 2.
 * Addresses count from 0, up to 15 for bits and 127 for registers; beyond, exception 2.
 */
export const CONTENTS = {
  coil: "1, 0, 1, 0 …",
  discrete: "0, 1, 0, 1 …",
  input: { 0: "uint16 2305", 1: "float32 49.75" },
  holding: {
    0: "uint16 1234 | 4321",
    1: "int16 -5",
    2: "float32 21.5 | 42.25, ABCD",
    4: "the same, CDAB",
    6: "the same, BADC",
    8: "the same, DCBA",
    10: "int32 -123456, ABCD",
    12: "uint32 4000000000, CDAB",
    14: "float64 230.25",
    18: "bits 0 and 15 of 16",
    19: "uint16 2305, in tenths",
    20: 'text "METER 01"',
    24: "uint64 9000000000",
    100: "uint16 7; writing it answers exception 2",
  },
} as const;

export class ModbusSlaves {
  readonly #process: PeerProcess;
  /** The device node of the RTU line. */
  readonly path: string;
  /** The TCP port on 127.0.0.1; an absent unit answers exception 11 there, and is silent on RTU. */
  readonly port: number;

  private constructor(process: PeerProcess) {
    this.#process = process;
    const [, path = "", , port = ""] = process.firstLine.split(" ");
    this.path = path;
    this.port = Number(port);
  }

  /** Slaves 1 and 2, until `unplug`, or until the test ends. */
  static async start(t: Pick<TestContext, "after">): Promise<ModbusSlaves> {
    return new ModbusSlaves(await PeerProcess.start(t, "libmodbus", [program()]));
  }

  /** Changes a slave's contents, as its own sensors would; resolves when it is done. */
  async set(id: number, table: Table, address: number, ...values: number[]): Promise<void> {
    await this.#tell(`set ${id} ${table} ${address} ${values.join(" ")}`);
  }

  async fail(id: number, fault: Fault): Promise<void> {
    await this.#tell(`fault ${id} ${fault}`);
  }

  /** The requests so far, as `ID FUNCTION ADDRESS COUNT`. */
  get asked(): readonly string[] {
    return this.#linesOf("asked ");
  }

  /** What masters wrote so far, as `ID TABLE ADDRESS VALUE…`. */
  get written(): readonly string[] {
    return this.#linesOf("wrote ");
  }

  async unplug(): Promise<void> {
    await this.#process.end();
  }

  #linesOf(verb: string): string[] {
    return this.#process.lines
      .filter((line) => line.startsWith(verb))
      .map((line) => line.slice(verb.length));
  }

  async #tell(command: string): Promise<void> {
    const before = this.#process.count("done");
    this.#process.tell(command);
    await this.#process.saysTimes("done", before + 1);
  }
}

function program(): string {
  const source = join(import.meta.dirname, "slaves.c");
  return made("slaves", [source, import.meta.filename], (file) => {
    run("cc", ["-O2", "-Wall", "-I/usr/include/modbus", "-o", file, source, "-lmodbus"]);
  });
}
