// avr: an Arduino Uno on a serial port, in simavr: real firmware, built with Debian's toolchain.
// Path: tests → [avr] → runner.c, sketches. Touches: compilers, a cache in the temporary folder.

import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { made, run } from "../made.ts";
import { PeerProcess } from "../peer-process.ts";

const ARDUINO = "/usr/share/arduino/hardware/arduino/avr";

/** Two of ours, and an example of Arduino's, unchanged: lines of address, tab, byte; 9600 baud. */
const SKETCHES = {
  lines: join(import.meta.dirname, "lines/lines.ino"),
  mqtt: join(import.meta.dirname, "mqtt/mqtt.ino"),
  "eeprom-read": `${ARDUINO}/libraries/EEPROM/examples/eeprom_read/eeprom_read.ino`,
} as const;

export type Sketch = keyof typeof SKETCHES;

/** The Uno's first bootloader: STK500, 57,600 baud. Debian's newer one does not fit its section. */
const BOOTLOADER = `${ARDUINO}/bootloaders/atmega/ATmegaBOOT_168_atmega328.hex`;

/** How avrdude reaches a board with that bootloader. */
export const AVRDUDE_ARGUMENTS = ["-c", "arduino", "-p", "m328p", "-b", "57600", "-D"] as const;

export interface UnoOptions {
  /** Intel's hexadecimal form, as of `sketchHex`; without it the flash is empty. */
  readonly hex?: string;
  /** Starts with Arduino's bootloader after each reset, as boards do that avrdude can flash. */
  readonly hasBootloader?: boolean;
  /** Whoever opens the port resets the board, as the DTR line of a real one does. */
  readonly resetsOnOpen?: boolean;
}

export class Uno {
  readonly #process: PeerProcess;
  /** The device node. */
  readonly path: string;

  private constructor(process: PeerProcess) {
    this.#process = process;
    this.path = process.firstLine;
  }

  /** A board that runs until `unplug`, or until the test ends. */
  static async plugIn(t: Pick<TestContext, "after">, options: UnoOptions): Promise<Uno> {
    const words = [
      ...(options.hasBootloader ? ["--bootloader", BOOTLOADER] : []),
      ...(options.resetsOnOpen ? ["--reset-on-open"] : []),
      ...(options.hex ? [options.hex] : []),
    ];
    return new Uno(await PeerProcess.start(t, "simavr", [runnerProgram(), ...words]));
  }

  /** A board with that sketch. */
  static async with(t: Pick<TestContext, "after">, sketch: Sketch): Promise<Uno> {
    return Uno.plugIn(t, { hex: sketchHex(sketch) });
  }

  /** The button: the sketch, or the bootloader, begins anew. */
  reset(): void {
    this.#process.signal("SIGUSR1");
  }

  /** The board stands still, its port stays: a firmware that hangs. */
  freeze(): void {
    this.#process.signal("SIGSTOP");
  }

  thaw(): void {
    this.#process.signal("SIGCONT");
  }

  /** Hangs the terminal up; resolves when it is gone. */
  async unplug(): Promise<void> {
    await this.#process.end();
  }
}

/** The sketch as a file in Intel's hexadecimal form, which avrdude takes too. */
export function sketchHex(sketch: Sketch): string {
  return builtHex(sketch, SKETCHES[sketch]);
}

/** The same of a sketch at that path. */
export function builtHex(name: string, source: string): string {
  return made(`${name}.hex`, [source, import.meta.filename], (hex) => {
    const [cpp, elf] = [`${hex}.cpp`, `${hex}.elf`];
    // A sketch is C++ to which Arduino's tools add this line.
    writeFileSync(cpp, `#include <Arduino.h>\n#include "${source}"\n`);
    run("sh", ["-c", BUILD_SKETCH, "sh", ARDUINO, cpp, elf]);
    run("avr-objcopy", ["-O", "ihex", "-R", ".eeprom", elf, hex]);
    for (const path of [cpp, elf]) rmSync(path);
  });
}

// The commands of Arduino's own platform.txt, in one go. This gcc has DECIMAL_DIG by another name.
const BUILD_SKETCH = `exec avr-gcc -mmcu=atmega328p -std=gnu++11 -Os -w -flto -ffunction-sections \
  -fdata-sections -fno-exceptions -fno-threadsafe-statics -Wl,--gc-sections -DF_CPU=16000000L \
  -DARDUINO=10819 -DARDUINO_AVR_UNO -DARDUINO_ARCH_AVR -DDECIMAL_DIG=__DECIMAL_DIG__ \
  -I"$1/cores/arduino" -I"$1/variants/standard" -I"$1/libraries/EEPROM/src" -o "$3" \
  "$1"/cores/arduino/*.c "$1"/cores/arduino/*.cpp "$1"/cores/arduino/*.S "$2" -lm`;

function runnerProgram(): string {
  const source = join(import.meta.dirname, "runner.c");
  return made("runner", [source, import.meta.filename], (program) => {
    run("cc", ["-O2", "-Wall", "-I/usr/include/simavr", "-o", program, source, "-lsimavr"]);
  });
}
