// report: what the sentences of a receiver say of time, place and movement, by their layouts in
// NMEA 0183 4.11 (IEC 61162-1): GGA, RMC, GLL, VTG, GSA, GSV, ZDA.
// Path: sentence → [report] → epochs. Touches: nothing.

import type { Sentence } from "./sentence.ts";

/** What one sentence says; what it leaves empty is undefined. */
export interface Report {
  /** In ms since midnight, UTC. */
  readonly timeOfDayMs?: number | undefined;
  /** In ms of Unix time, at midnight, UTC. */
  readonly dateMs?: number | undefined;
  readonly hasFix?: boolean;
  /** In degrees, north and east positive. */
  readonly latitude?: number | undefined;
  readonly longitude?: number | undefined;
  /** In m above the mean sea level. */
  readonly altitude?: number | undefined;
  /** Over ground, in m/s. */
  readonly speed?: number | undefined;
  /** In degrees from true north. */
  readonly course?: number | undefined;
  /** GGA's digit: 0 none, 1 GNSS, 2 differential, 4 RTK, 5 float RTK, 6 estimated. */
  readonly quality?: number | undefined;
  readonly fix?: "none" | "2d" | "3d" | undefined;
  readonly satellites?: number | undefined;
  readonly satellitesInView?: number | undefined;
  readonly hdop?: number | undefined;
}

const METRES_A_SECOND_A_KNOT = 1_852 / 3_600;
const FIXES = { 1: "none", 2: "2d", 3: "3d" } as const;

class NotAsLaidOut extends Error {}

/** Reads fields by their numbers, which begin with 1, as in the tables of the standard. */
class Fields {
  readonly #fields: readonly string[];

  constructor(fields: readonly string[]) {
    this.#fields = fields;
  }

  text(at: number): string {
    return this.#fields[at - 1] ?? "";
  }

  /** Undefined where the field is empty; no digit after the point is lost. */
  number(at: number): number | undefined {
    const text = this.text(at);
    if (text === "") return undefined;
    if (!/^-?[0-9]+(?:\.[0-9]*)?$/.test(text)) throw new NotAsLaidOut();
    return Number(text);
  }

  /** `hhmmss.ss`, as ms since midnight; a leap second is the end of the one before. */
  time(at: number): number | undefined {
    const text = this.text(at);
    if (text === "") return undefined;
    const match = /^([01][0-9]|2[0-3])([0-5][0-9])([0-5][0-9]|60)(\.[0-9]+)?$/.exec(text);
    if (!match) throw new NotAsLaidOut();
    const [, hours, minutes, seconds, part = "0"] = match.map((it) => it ?? "0");
    const whole = Math.min(59, Number(seconds));
    return (
      ((Number(hours) * 60 + Number(minutes)) * 60 + whole) * 1_000 +
      Math.floor(Number(part) * 1_000)
    );
  }

  /** `ddmm.mm` or `dddmm.mm` and the letter behind it, in degrees to 1 cm. */
  degrees(at: number, positive: string, negative: string, most: number): number | undefined {
    const text = this.text(at);
    const letter = this.text(at + 1);
    if (text === "" && letter === "") return undefined;
    const match = /^([0-9]{2,3})([0-5][0-9](?:\.[0-9]*)?)$/.exec(text);
    if (!match || (letter !== positive && letter !== negative)) throw new NotAsLaidOut();
    const degrees = Number(match[1]) + Number(match[2]) / 60;
    if (degrees > most) throw new NotAsLaidOut();
    return rounded(letter === negative && degrees > 0 ? -degrees : degrees, 7);
  }

  position(at: number): Pick<Report, "latitude" | "longitude"> {
    return {
      latitude: this.degrees(at, "N", "S", 90),
      longitude: this.degrees(at + 2, "E", "W", 180),
    };
  }

  /** A speed in knots, in m/s. */
  knots(at: number): number | undefined {
    const knots = this.number(at);
    return knots === undefined ? undefined : rounded(knots * METRES_A_SECOND_A_KNOT, 3);
  }
}

/** How each formatter's fields are read. */
const LAYOUTS: Readonly<Record<string, (fields: Fields) => Report>> = {
  GGA: (f) => ({
    timeOfDayMs: f.time(1),
    ...f.position(2),
    quality: f.number(6),
    hasFix: f.text(6) !== "0" && f.text(6) !== "",
    satellites: f.number(7),
    hdop: f.number(8),
    altitude: f.number(9),
  }),
  RMC: (f) => ({
    timeOfDayMs: f.time(1),
    hasFix: f.text(2) === "A",
    ...f.position(3),
    speed: f.knots(7),
    course: f.number(8),
    dateMs: dateOf(f.text(9)),
  }),
  GLL: (f) => ({ ...f.position(1), timeOfDayMs: f.time(5), hasFix: f.text(6) !== "V" }),
  VTG: (f) => ({ course: f.number(1), speed: f.knots(5) }),
  GSA: (f) => ({ fix: FIXES[f.number(2) as keyof typeof FIXES], hdop: f.number(16) }),
  GSV: (f) => ({ satellitesInView: f.number(3) }),
  ZDA: (f) => ({ timeOfDayMs: f.time(1), dateMs: dayOf(f.number(4), f.number(3), f.number(2)) }),
};

/** The formatter of a sentence that reports are made of; undefined for all others. */
export function formatterOf({ address, bytes }: Sentence): string | undefined {
  // A talker has two letters; proprietary sentences begin with P, encapsulated ones with `!`.
  if (address.length !== 5 || address.startsWith("P") || bytes[0] !== 0x24) return undefined;
  const formatter = address.slice(2);
  return Object.hasOwn(LAYOUTS, formatter) ? formatter : undefined;
}

/** What the sentence says; undefined where its fields are not as they are laid out. */
export function reportOf(formatter: string, fields: readonly string[]): Report | undefined {
  try {
    return LAYOUTS[formatter]?.(new Fields(fields));
  } catch (fault) {
    if (fault instanceof NotAsLaidOut) return undefined;
    throw fault;
  }
}

/** `ddmmyy`. */
function dateOf(text: string): number | undefined {
  if (text === "") return undefined;
  const match = /^([0-9]{2})([0-9]{2})([0-9]{2})$/.exec(text);
  if (!match) throw new NotAsLaidOut();
  const [day, month, year] = [Number(match[1]), Number(match[2]), Number(match[3])];
  // Receivers tell no century; there was no GPS before 1980.
  return dayOf(year < 80 ? 2_000 + year : 1_900 + year, month, day);
}

function dayOf(
  year: number | undefined,
  month: number | undefined,
  day: number | undefined,
): number | undefined {
  if (year === undefined || month === undefined || day === undefined) return undefined;
  const ms = Date.UTC(year, month - 1, day);
  // Else 31 February would be in March.
  if (year < 1980 || year > 9_999 || new Date(ms).getUTCDate() !== day) throw new NotAsLaidOut();
  return ms;
}

function rounded(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
