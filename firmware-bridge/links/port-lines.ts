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
  const known = await setModemLines(fd, settings);
  if (!known) warn(`${node} has no modem lines: dtr, rts and reset_on_open have no effect`);
}

/** False where there are none to be set. */
async function setModemLines(fd: number, settings: ElectricalSettings): Promise<boolean> {
  const { reset_on_open, dtr, rts } = settings;
  let known = true;
  if (rts !== undefined) known = await setLine(fd, "rts", rts);
  if (known && reset_on_open) {
    known = await setLine(fd, "dtr", false);
    if (known) await wait(RESET_MS);
  }
  const level = dtr ?? (reset_on_open ? true : undefined);
  if (known && level !== undefined) known = await setLine(fd, "dtr", level);
  return known;
}
