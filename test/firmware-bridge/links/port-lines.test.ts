// port-lines.test: what the electrical settings of a port promise, as far as a pseudo-terminal can tell.
// Path: test. Touches: pseudo-terminals.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { type TestContext, test } from "node:test";
import type { LinkSettings } from "#runtime/settings-links";
import { openPort } from "../../../firmware-bridge/links/port.ts";
import { Pty } from "../../support/pty.ts";
import { waitFor } from "../../support/wait-for.ts";
import { linkSettings } from "../link-settings.ts";

const RS485 = {
  rts_on_send: true,
  rts_after_send: false,
  delay_before_send_ms: 0,
  delay_after_send_ms: 0,
  terminate: false,
};

async function opened(t: TestContext, some: Partial<LinkSettings>) {
  const pty = await Pty.open(t);
  // As the kernel begins with, and not what script(1) has made of it.
  execFileSync("stty", ["-F", pty.path, "hupcl"]);
  const warnings: string[] = [];
  const port = await openPort(linkSettings({ path: pty.path, ...some }), {
    warn: (what) => warnings.push(what),
  });
  t.after(() => port.close("test over"));
  const flags = execFileSync("stty", ["-F", pty.path, "-a"], { encoding: "utf8" }).split(/[\s;]+/);
  return { pty, port, warnings, flags };
}

test("leaves the modem lines as they are when the port is closed", async (t) => {
  const { flags, warnings } = await opened(t, {});
  assert.ok(flags.includes("-hupcl"));
  assert.deepEqual(warnings, []);
});

test("has XON and XOFF hold both sides back only when asked", async (t) => {
  const without = await opened(t, {});
  assert.ok(without.flags.includes("-ixon") && without.flags.includes("-ixoff"));
  const { flags } = await opened(t, { software_flow: true });
  assert.ok(flags.includes("ixon") && flags.includes("ixoff"));
});

test("opens a port without modem lines all the same, and says so", async (t) => {
  for (const some of [{ dtr: false }, { rts: true }, { reset_on_open: true }]) {
    const { pty, warnings } = await opened(t, some);
    const expected = "has no modem lines: dtr, rts and reset_on_open have no effect";
    assert.deepEqual(warnings, [`${pty.path} ${expected}`]);
  }
});

test("refuses a port that cannot do RS-485, with the mend, and lets it go", async (t) => {
  const before = readdirSync("/proc/self/fd").length;
  await assert.rejects(opened(t, { rs485: RS485 }), {
    code: "LINK_FAILED",
    message: /\/dev\/pts\/\d+ cannot do RS-485 by RTS; use an adapter .* remove \[links\.rs485\]$/,
  });
  // But for the two pipes of the terminal itself.
  assert.ok(readdirSync("/proc/self/fd").length <= before + 2);
});

test("lets go what a board says while it settles, and makes writes wait so long", async (t) => {
  const settle_ms = 300;
  const startedMs = performance.now();
  const { pty, port } = await opened(t, { settle_ms });
  let said = 0;
  const boot = setInterval(() => pty.write(`boot ${said++};`), 5);
  t.after(() => clearInterval(boot));
  const written = port.write(Buffer.from("command"));
  await waitFor("the board to have said something", () => said > 10);
  assert.equal(pty.received.length, 0);
  await written;
  assert.ok(performance.now() - startedMs >= settle_ms);
  clearInterval(boot);
  await pty.hears("command");
  pty.write("ready;");
  let heard = "";
  for await (const { bytes } of port.readable) {
    heard += Buffer.from(bytes).toString();
    if (heard.endsWith("ready;")) break;
  }
  assert.doesNotMatch(heard, /boot [0-9];/);
});

test("does not keep who waits for a board that is unplugged while it settles", async (t) => {
  const { pty, port } = await opened(t, { settle_ms: 60_000 });
  const written = port.write(Buffer.from("command"));
  const refused = assert.rejects(written, { code: "LINK_FAILED", message: /is closed/ });
  await pty.unplug();
  await refused;
  assert.equal(await port.closed, "unplugged");
});
