// telegram: the objects of one P1 telegram as values by channel.
// Path: telegram-reader → [telegram] → dsmr. Touches: nothing.

import { MEANINGS, METER_TYPES, type Meaning, type ValueKind, writtenUnit } from "./objects.ts";

/** `<code>(…)(…)` of one line. */
interface TelegramObject {
  readonly code: string;
  /** What stands in parentheses. */
  readonly values: readonly string[];
  readonly line: string;
}

export interface Reading {
  readonly channel: string;
  readonly text: string;
  readonly unit?: string;
  readonly kind: "number" | "text";
}

export interface Telegram {
  /** The maker's code and the meter's name. */
  readonly identification: string;
  readonly readings: readonly Reading[];
  /** Lines that are no objects, or whose values are not as they must be. */
  readonly broken: readonly string[];
}

// The optional fourth part of a code, as .255, says no more than its absence.
const OBJECT =
  /^([0-9]{1,3}-[0-9]{1,3}:[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3})(?:\.255)?((?:\([^()]*\))+)$/;
/** Of a meter behind this one: its number, and what of it. */
const METER_OBJECT = /^0-([1-9][0-9]?):(.+)$/;

/** With `hasOthers`, objects that are not known get a channel by their code. */
export function readTelegram(bytes: Uint8Array, hasOthers: boolean): Telegram {
  const [identification = "", ...lines] = Buffer.from(bytes).toString("latin1").split(/\r?\n/);
  const broken: string[] = [];
  const objects: TelegramObject[] = [];
  for (const line of joined(lines)) {
    const [, code, values] = OBJECT.exec(line) ?? [];
    if (code && values) objects.push({ code, values: values.slice(1, -1).split(")("), line });
    else broken.push(line);
  }
  const names = meterNames(objects);
  const readings: Reading[] = [];
  for (const object of objects) {
    const read = readingsOf(object, names) ?? (hasOthers ? other(object) : []);
    if (read === "broken") broken.push(object.line);
    else readings.push(...read);
  }
  return { identification: identification.slice(1), readings, broken };
}

/** DSMR 2.2 and 3 put the value of gas on a line of its own. */
function joined(lines: readonly string[]): string[] {
  const all: string[] = [];
  for (const line of lines) {
    const last = all.at(-1);
    if (line.startsWith("(") && last !== undefined) all[all.length - 1] = last + line;
    else if (line !== "" && line !== "!") all.push(line);
  }
  return all;
}

/** Undefined where the object's code is not known. */
function readingsOf(
  object: TelegramObject,
  names: ReadonlyMap<number, MeterName>,
): Reading[] | "broken" | undefined {
  const [, meter, rest = ""] = METER_OBJECT.exec(object.code) ?? [];
  if (meter) {
    const name = names.get(Number(meter));
    return name && meterReadings(object.values, rest, name);
  }
  const meaning = Object.hasOwn(MEANINGS, object.code) ? MEANINGS[object.code] : undefined;
  return meaning && measured(object.values, meaning);
}

/** One value; or the time that it is of, and the value. */
function measured(values: readonly string[], meaning: Meaning): Reading[] | "broken" {
  const [value = "", more] = values;
  if (more === undefined) return allOf(reading(meaning, value));
  const time = reading({ channel: `${meaning.channel}_time`, kind: "time" }, value);
  return allOf(reading(meaning, more), time);
}

interface MeterName {
  readonly name: string;
  readonly unit: string;
}

/** What each meter measures; of two that measure the same, the second has its number, too. */
function meterNames(objects: readonly TelegramObject[]): Map<number, MeterName> {
  const names = new Map<number, MeterName>();
  const taken = new Set<string>();
  for (const { code, values } of objects) {
    const [, meter, rest] = METER_OBJECT.exec(code) ?? [];
    const type = rest === "24.1.0" ? METER_TYPES[Number(values[0])] : undefined;
    if (!type || names.has(Number(meter))) continue;
    const name = taken.has(type.name) ? `${type.name}_${meter}` : type.name;
    taken.add(name);
    names.set(Number(meter), { name, unit: type.unit });
  }
  return names;
}

/** Undefined where the object is none of those that each meter has. */
function meterReadings(
  values: readonly string[],
  rest: string,
  { name, unit }: MeterName,
): Reading[] | "broken" | undefined {
  const meaning: Meaning = { channel: name, kind: "number", unit };
  switch (rest) {
    case "24.1.0":
      return [];
    case "96.1.0":
    case "96.1.1":
      return allOf(reading({ channel: `${name}_id`, kind: "hex" }, values[0] ?? ""));
    case "24.4.0":
      return allOf(reading({ channel: `${name}_valve`, kind: "number" }, values[0] ?? ""));
    case "24.2.1":
    // Belgium's gas, not corrected by temperature.
    case "24.2.3":
      return measured(values, meaning);
    case "24.3.0":
      // DSMR 3: time, three numbers, the code of the value, its unit, the value.
      return measured([values[0] ?? "", `${values[6]}*${values[5]}`], meaning);
    default:
      return undefined;
  }
}

function allOf(...readings: readonly (Reading | undefined)[]): Reading[] | "broken" {
  return readings.every((it) => it !== undefined) ? [...readings] : "broken";
}

/** Undefined where the value is not written as it must be, or in another unit. */
function reading({ channel, kind, unit }: Meaning, value: string): Reading | undefined {
  const [content = "", given] = value.split("*");
  if (given !== unit) return undefined;
  const text = READERS[kind](content);
  if (text === undefined) return undefined;
  const about = { channel, text, kind: kind === "number" ? kind : "text" } as const;
  return unit === undefined ? about : { ...about, unit: writtenUnit(unit) };
}

const READERS: Readonly<Record<ValueKind, (content: string) => string | undefined>> = {
  number: (content) =>
    /^-?[0-9]+(?:\.[0-9]+)?$/.test(content) ? content.replace(/^(-?)0+(?=[0-9])/, "$1") : undefined,
  text: (content) => content,
  hex: (content) =>
    /^(?:[0-9A-F]{2})*$/i.test(content)
      ? Buffer.from(content, "hex").toString("latin1")
      : undefined,
  time: timeOf,
};

/** `YYMMDDhhmmss`, from DSMR 4 on with S for summer or W: then with its distance from UTC. */
function timeOf(content: string): string | undefined {
  const match = /^([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})([SW]?)$/.exec(
    content,
  );
  if (!match) return undefined;
  const [, year, month, day, hours, minutes, seconds, season] = match;
  const local = `20${year}-${month}-${day}T${hours}:${minutes}:${seconds}`;
  const date = new Date(`${local}Z`);
  if (Number.isNaN(date.getTime()) || !date.toISOString().startsWith(local)) return undefined;
  // All countries with P1 ports have central European time.
  return local + { "": "", S: "+02:00", W: "+01:00" }[season as "" | "S" | "W"];
}

function other({ code, values }: TelegramObject): Reading[] {
  return [{ channel: `other/${code}`, text: `(${values.join(")(")})`, kind: "text" }];
}
