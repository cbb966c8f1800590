// writing: puts a value into a register, and looks whether it is there.
// Path: slave → [writing] → line. Touches: the clock.

import { wait } from "#runtime/backoff";
import type { Outcome } from "../../driver.ts";
import { type Line, whyNoData } from "./line.ts";
import { contentOf, exceptionText, readRequest } from "./pdu.ts";
import { valueIn, type Write, widthOfRegister } from "./register.ts";
import type { RegisterSettings } from "./settings-schema.ts";

/** Some devices take a moment until they hold what was written. */
const READ_BACKS_MAX = 3;
const READ_BACK_PAUSE_MS = 100;

/** What a write came to. */
export interface Written {
  readonly outcome: Outcome;
  /** Why the slave was not heard. */
  readonly silence?: string;
  /** What the register was seen to hold. */
  readonly read?: { readonly value: string; readonly receivedAtMs: number };
}

/** Done when the device acknowledged it and, where the settings want it, reads as it was written. */
export async function write(
  line: Line,
  register: RegisterSettings,
  { request, value }: Write & { kind: "write" },
): Promise<Written> {
  const answer = await line.exchange(request);
  if (answer.kind === "exception") return failed(exceptionText(answer.code));
  // Whoever may have answered can be asked what became of it.
  if (answer.kind === "silent" || (answer.kind === "unsure" && !register.read_back)) {
    const why = whyNoData(answer);
    const silence = answer.kind === "silent" ? { silence: why } : {};
    return { ...failed(`${why}; whether it was written is not known`), ...silence };
  }
  return register.read_back
    ? await readBack(line, request.unit, register, value)
    : { outcome: { state: "done" } };
}

async function readBack(
  line: Line,
  unit: number,
  register: RegisterSettings,
  wrote: string,
): Promise<Written> {
  const { function: table, address, type } = register;
  const request = readRequest(unit, table, address, widthOfRegister(register));
  let seen: Written = failed("it was not read back");
  for (let tried = 0; tried < READ_BACKS_MAX; tried += 1) {
    if (tried > 0) await wait(READ_BACK_PAUSE_MS);
    const answer = await line.exchange(request);
    if (answer.kind !== "data") {
      seen = failed(`it was written, and cannot be read back: ${whyNoData(answer)}`);
      continue;
    }
    const value = valueIn(register, contentOf(answer.pdu), address);
    const read = value === undefined ? {} : { read: { ...answer, value } };
    if (value === wrote) return { outcome: { state: "done" }, ...read };
    seen = { ...failed(`wrote ${wrote}, reads ${value ?? `what is no ${type}`}`), ...read };
  }
  return seen;
}

function failed(reason: string): Written {
  return { outcome: { state: "failed", reason } };
}
