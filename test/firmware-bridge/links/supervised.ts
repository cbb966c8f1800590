// supervised: a supervisor of a link whose driver reads all, for tests to watch.
// Path: tests → [supervised] → links. Touches: what the link touches.

import type { TestContext } from "node:test";
import type { LinkSettings } from "#runtime/settings-links";
import type { Link } from "../../../firmware-bridge/driver.ts";
import {
  LINK_LIMITS,
  type LinkLimits,
  type LinkMode,
  LinkSupervisor,
} from "../../../firmware-bridge/links/links.ts";
import { ROOTS, type Roots } from "../../../firmware-bridge/links/usb-ports.ts";
import { waitFor } from "../../support/wait-for.ts";
import { capturedLog } from "../captured-log.ts";
import { linkSettings } from "../link-settings.ts";

export interface Change {
  readonly mode: LinkMode;
  readonly why: string;
  readonly atMs: number;
}

interface Supervised {
  readonly limits?: Partial<LinkLimits>;
  readonly roots?: Roots;
}

/** A supervisor that was started, with a driver that reads until the link ends. */
export function supervised(
  t: Pick<TestContext, "after">,
  where: Partial<LinkSettings>,
  { limits, roots = ROOTS }: Supervised = {},
) {
  const changes: Change[] = [];
  const heard: string[] = [];
  const captured = capturedLog();
  const driver = {
    link: undefined as Link | undefined,
    run: async (link: Link) => {
      driver.link = link;
      for await (const chunk of link.readable) heard.push(Buffer.from(chunk.bytes).toString());
    },
  };
  const supervisor = new LinkSupervisor({
    settings: linkSettings(where),
    driver,
    log: captured.log,
    onMode: (mode, why) => changes.push({ mode, why, atMs: performance.now() }),
    // The clock alone never brings a node back within a test.
    limits: { ...LINK_LIMITS, rescanMs: 600_000, ...limits },
    roots,
  });
  t.after(() => supervisor.stop());
  supervisor.start();
  const is = (mode: LinkMode, msMax?: number) =>
    waitFor(`the link to be ${mode}`, () => supervisor.mode === mode, msMax);
  const hears = (text: string) =>
    waitFor(`the driver to hear ${text}`, () => heard.join("").endsWith(text));
  const warnings = () =>
    captured.lines.filter(({ msg }) => msg === "link warning").map(({ what }) => String(what));
  return { supervisor, driver, changes, heard, captured, is, hears, warnings };
}
