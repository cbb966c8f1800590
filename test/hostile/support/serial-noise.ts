// serial-noise: what a broken or hostile device says on a link of each driver, by a fixed seed.
// Path: tests of hostile input → [serial-noise]. Touches: nothing.

/** A driver as the settings have it, and a frame that it understands. */
export interface Speaker {
  readonly settings: string;
  readonly frame: string | Uint8Array;
}

const MYSENSORS = "1;1;1;0;0;21.5\n";
const REGISTERS = `[{ channel = "v", function = "input", address = 0, type = "uint16" }]`;
const MQTT_CONNECT = [0x10, 13, 0, 4, 0x4d, 0x51, 0x54, 0x54, 4, 2, 0, 60, 0, 1, 0x61];
const MQTT_PUBLISH = [0x30, 4, 0, 1, 0x74, 0x31];
const SN_CONNECT = [7, 0x04, 0x04, 1, 0, 60, 0x61];
const SN_SEARCH = [3, 0x01, 0];

/** By the link's name. */
export const SPEAKERS: Readonly<Record<string, Speaker>> = {
  text: { settings: 'driver = "lines"', frame: "hello\n" },
  json: {
    settings: 'driver = "lines"\nlines = { format = "json" }',
    frame: '{"t":21.5,"deep":[[{"a":1e400}]]}\n',
  },
  pairs: {
    settings: 'driver = "lines"\nlines = { format = "key-value", checksum = "nmea" }',
    frame: "t=21.5 h=40*00\n",
  },
  csv: {
    settings: 'driver = "lines"\nlines = { format = "csv", encoding = "latin1" }',
    frame: '1,"2",,3\n',
  },
  regex: {
    settings: `driver = "lines"
      [links.lines]
      format = "regex"
      patterns = ['^t=(?<t>[0-9.]+)$', '(?<a>(a|b)*c.*d)$']`,
    frame: "ababababababababab\n",
  },
  cobs: {
    settings: 'driver = "frames"\nframes = { framing = "cobs", checksum = "crc32" }',
    frame: Uint8Array.of(2, 0x41, 3, 0x42, 0x43, 0),
  },
  slip: {
    settings: 'driver = "frames"\nframes = { framing = "slip" }',
    frame: Uint8Array.of(0xc0, 0x41, 0xdb, 0xdc, 0xc0),
  },
  nmea: { settings: 'driver = "nmea"', frame: "$GPGLL,4916.45,N,12311.12,W,225444,A*31\r\n" },
  dsmr: {
    settings: 'driver = "dsmr"\ndsmr = { others = true }',
    frame: "/X\r\n1-0:1.7.0(01.193*kW)\r\n1-0:99.1.1(1)(2)\r\n!\r\n",
  },
  mqtt: { settings: 'driver = "mqtt"', frame: Uint8Array.of(...MQTT_CONNECT, ...MQTT_PUBLISH) },
  sn: { settings: 'driver = "mqtt-sn"', frame: Uint8Array.of(...SN_CONNECT, ...SN_SEARCH) },
  mysensors: { settings: 'driver = "mysensors"', frame: MYSENSORS },
  modbus: {
    settings: `driver = "modbus-rtu"
      [links.modbus-rtu]
      every_ms = 100
      [[links.modbus-rtu.slaves]]
      device = "slave"
      address = 1
      registers = ${REGISTERS}`,
    frame: Uint8Array.of(1, 4, 2, 0, 1, 0x78, 0xf0),
  },
};

/** Bytes without end: random ones, the frame as it is, and the frame with a byte that is another. */
export class Noise {
  readonly #frame: Buffer;
  #state: number;

  constructor({ frame }: Speaker, seed: number) {
    this.#frame = Buffer.from(frame as string);
    this.#state = seed;
  }

  next(): Buffer {
    const kind = this.#random(3);
    if (kind === 0) return Buffer.from(Array.from({ length: 64 }, () => this.#random(256)));
    const frame = Buffer.from(this.#frame);
    if (kind === 1) frame[this.#random(frame.length)] = this.#random(256);
    return frame;
  }

  /** From 0 to below `below`: the high bits of a linear congruential generator. */
  #random(below: number): number {
    this.#state = (Math.imul(this.#state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((this.#state / 2 ** 32) * below);
  }
}
