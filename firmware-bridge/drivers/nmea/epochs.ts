// epochs: puts together what a receiver's sentences say of one moment, and tells it once.
// Path: report → [epochs] → messages. Touches: nothing.

import type { Message } from "../../driver.ts";
import type { Report } from "./report.ts";

const DAY_MS = 86_400_000;
/** Those that belong to one moment; the others say what holds for longer. */
const OF_THE_MOMENT = new Set(["GGA", "RMC", "GLL", "VTG"]);

/**
 * A receiver says several sentences of each moment, and marks no end. So the sentence that was the
 * last of the moment before is taken for the last of this one, too; where it does not come, the
 * moment is told when the next begins.
 */
export class Epochs {
  #report: Report = {};
  #isTold = true;
  #last = "";
  /** The formatter that is waited for, whether it has come, and whether the last time it had not. */
  #lastBefore = "";
  #hasCome = false;
  #wasMissing = false;
  /** The day, and the time of day when it was said: at midnight it may be said late. */
  #date: { readonly ms: number; readonly timeOfDayMs: number } | undefined;
  #fix: Report["fix"];
  readonly #inView = new Map<string, number>();
  #inViewBefore: number | undefined;

  /** What is known for certain now. */
  push(talker: string, formatter: string, report: Report): Message[] {
    const messages: Message[] = [];
    const { timeOfDayMs, dateMs, satellitesInView, fix } = report;
    if (timeOfDayMs !== undefined && timeOfDayMs !== this.#report.timeOfDayMs) {
      messages.push(...this.#tell());
      this.#begin();
    }
    this.#merge(report);
    this.#fix = fix ?? this.#fix;
    if (dateMs !== undefined && timeOfDayMs !== undefined) this.#date = { ms: dateMs, timeOfDayMs };
    if (satellitesInView !== undefined) this.#see(talker, satellitesInView);
    if (!OF_THE_MOMENT.has(formatter)) return messages;
    this.#last = formatter;
    if (formatter !== this.#lastBefore) return messages;
    this.#hasCome = true;
    return [...messages, ...this.#tell()];
  }

  #begin(): void {
    this.#report = {};
    this.#isTold = false;
    this.#learn();
    if (this.#inView.size === 0) return;
    this.#inViewBefore = [...this.#inView.values()].reduce((sum, count) => sum + count, 0);
    this.#inView.clear();
  }

  /** One that is missing once was lost on the line, and is waited for again. */
  #learn(): void {
    const isMissing = this.#lastBefore !== "" && !this.#hasCome;
    if (!isMissing || this.#wasMissing) this.#lastBefore = this.#last;
    this.#wasMissing = isMissing && !this.#wasMissing;
    this.#hasCome = false;
    this.#last = "";
  }

  /** No sentence that says so may be overruled by one that goes on with the last known place. */
  #merge(report: Report): void {
    const said = Object.entries(report).filter(([, value]) => value !== undefined);
    const denied = this.#report.hasFix === false ? { hasFix: false } : {};
    this.#report = { ...this.#report, ...Object.fromEntries(said), ...denied };
  }

  /** A receiver with several bands says the satellites of each again. */
  #see(talker: string, count: number): void {
    this.#inView.set(talker, Math.max(count, this.#inView.get(talker) ?? 0));
  }

  #tell(): Message[] {
    const { hasFix, latitude, longitude } = this.#report;
    if (this.#isTold || hasFix === undefined) return [];
    this.#isTold = true;
    const isPlaced = hasFix && latitude !== undefined && longitude !== undefined;
    const all = this.#values(isPlaced);
    const { satellites_in_view, ...position } = all;
    const messages = Object.entries(all).map(([channel, value]) => message(channel, String(value)));
    return isPlaced ? [message("position", JSON.stringify(position)), ...messages] : messages;
  }

  #values(isPlaced: boolean): Readonly<Record<string, string | number>> {
    const { latitude, longitude, altitude, speed, course, quality, satellites, hdop } =
      this.#report;
    const placed = { latitude, longitude, altitude, speed, course };
    const values = {
      time: this.#time(),
      ...(isPlaced ? placed : {}),
      fix: isPlaced ? this.#dimensions() : "none",
      quality,
      satellites,
      hdop,
      satellites_in_view: this.#inViewBefore,
    };
    const known = Object.entries(values).flatMap(([key, value]) =>
      value === undefined ? [] : [[key, value] as const],
    );
    return Object.fromEntries(known);
  }

  /** GSA's word; without it, or before it, by what there is. */
  #dimensions(): string {
    if (this.#fix !== undefined && this.#fix !== "none") return this.#fix;
    return this.#report.altitude === undefined ? "2d" : "3d";
  }

  #time(): string | undefined {
    const { timeOfDayMs } = this.#report;
    if (timeOfDayMs === undefined || !this.#date) return undefined;
    const isNextDay = timeOfDayMs < this.#date.timeOfDayMs;
    return new Date(this.#date.ms + timeOfDayMs + (isNextDay ? DAY_MS : 0)).toISOString();
  }
}

function message(channel: string, text: string): Message {
  return { channel, payload: Buffer.from(text) };
}
