// port-lines: the electrical side of a port that was just opened: modem lines, RS-485.
// Path: port → [port-lines]. Touches: the port, by ioctl.ts; the clock.

import { SluiceError } from "#contract/errors";
import { wait } from "#runtime/backoff";
import type { LinkSettings } from "#runtime/settings-links";
import { keepLinesOnClose, setLine, setRs485 } from "./ioctl.ts";

/** Boards take their reset from the falling edge; so long is enough for all of them. */
const RESET_MS = 250;

type ElectricalSettings = Pick<LinkSettings, "rs485" | "reset_on_open" | "dtr" | "rts">;

/** @throws SluiceError LINK_FAILED when the port cannot do what it cannot work without. */
export async function setUpLines(
  fd: number,
  node: string,
  settings: ElectricalSettings,
  warn: (what: string) => void,
): Promise<void> {
  await keepLinesOnClose(fd);
  if (settings.rs485 && !(await setRs485(fd, settings.rs485))) {
    const mend = "use an adapter that switches the direction by itself, and remove [links.rs485]";
    throw new SluiceError("LINK_FAILED", `${node} cannot do RS-485 by RTS; ${mend}`);
  }
  for (const { line, level, forMs } of steps(settings)) {
    const went = await setLine(fd, line, level);
    if (went === "refused") {
      const mend = "unplug it and plug it in again";
      throw new SluiceError("LINK_FAILED", `${node} does not set ${line.toUpperCase()}; ${mend}`);
    }
    if (went === "none") {
      warn(`${node} has no modem lines: dtr, rts and reset_on_open have no effect`);
      return;
    }
    if (forMs > 0) await wait(forMs);
  }
}

interface Step {
  readonly line: "dtr" | "rts";
  readonly level: boolean;
  readonly forMs: number;
}

/** What the settings ask of the modem lines, in order. */
function steps({ reset_on_open, dtr, rts }: ElectricalSettings): Step[] {
  const reset: Step[] = reset_on_open ? [{ line: "dtr", level: false, forMs: RESET_MS }] : [];
  const level = dtr ?? (reset_on_open ? true : undefined);
  return [
    ...(rts === undefined ? [] : [{ line: "rts", level: rts, forMs: 0 } as const]),
    ...reset,
    ...(level === undefined ? [] : [{ line: "dtr", level, forMs: 0 } as const]),
  ];
}
