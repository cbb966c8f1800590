// links.test: what `sluice links` tells an operator of the links, on wide and narrow terminals.
// Path: test. Touches: loopback, child processes, a temporary folder.

import assert from "node:assert/strict";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { formatLinks } from "../../../broker/cli/links.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { DEVICE, LINK, NOW, TROUBLED, WELL } from "./links-document.ts";
import { sluice } from "./sluice-command.ts";

const WIDE = Number.POSITIVE_INFINITY;

test("shows each link on a line when all is well", () => {
  assert.equal(
    formatLinks(WELL, NOW, WIDE),
    `gw-001: 1 link: 1 up

link   driver  state  device                                since        in      out  frames  errors   heard
meter  modbus  up     by-id usb-1a86_USB_Serial-if00-port0  2h 5m  47.0 KiB  9.4 KiB   1,204       3  3s ago
`,
  );
});

test("says first what is wrong, since when and why", () => {
  const [title, ...lines] = formatLinks(TROUBLED, NOW, WIDE).split("\n");
  assert.equal(title, "gw-001: 4 links: 1 up, 1 lent, 1 absent, 1 failing");
  assert.deepEqual(lines.slice(0, 3), [
    "  absent   boiler for 3m 12s: /dev/serial/by-id/usb-boiler is not there",
    "  failing  arduino for 3m 12s: avrdude ended with code 1: avrdude error: unable to open programmer",
    "",
  ]);
  assert.match(lines[3] ?? "", /^link +driver/);
  assert.match(lines[5] ?? "", /^boiler +lines +absent +\/dev\/serial\S+ .* never$/);
});

test("says which device of a link that is up is offline, and why; of others the link says it", () => {
  const why = "slave 9: no answer within 500 ms, 3 times in a row";
  const silent = { ...DEVICE, device: "meter-9", online: false, why, sinceMs: NOW - 65_000 };
  const up = { ...LINK, devices: [DEVICE, silent] };
  const absent = {
    ...LINK,
    link: "boiler",
    state: "absent",
    why: "gone",
    devices: [silent],
  } as const;
  const [, ...lines] = formatLinks({ ...WELL, links: [up, absent] }, NOW, WIDE).split("\n");
  assert.deepEqual(lines.slice(0, 3), [
    `  offline  meter-9 for 1m 5s: ${why}`,
    "  absent   boiler for 2h 5m: gone",
    "",
  ]);
});

test("fits its table into the terminal, and keeps link, state and heard to the last", () => {
  for (const width of [120, 100, 80, 60, 40, 30]) {
    const [, table = ""] = formatLinks(TROUBLED, NOW, width).split("\n\n");
    for (const line of table.split("\n")) {
      assert.ok(line.length <= width, `${width}: ${line}`);
    }
    assert.match(table, /^link .*state .*heard\n/);
  }
  const [, wide = ""] = formatLinks(TROUBLED, NOW, 200).split("\n\n");
  assert.match(wide, /^link +driver +state +device +since +in +out +frames +errors +heard\n/);
  assert.match(formatLinks(TROUBLED, NOW, 1), /\n\nlink +state +heard\n/);
});

test("says so when there are no links", () => {
  assert.equal(formatLinks({ ...WELL, links: [] }, NOW, WIDE), "gw-001: 0 links\n");
});

test("shows nothing that would move the cursor, whoever named the device", () => {
  const link = {
    ...LINK,
    state: "failing",
    why: "\x1b[2J\u202e",
    identity: "\x1b]0;x\x07",
  } as const;
  const text = formatLinks({ ...WELL, links: [link] }, NOW, WIDE);
  assert.doesNotMatch(text.replaceAll("\n", ""), /[\p{Cc}\p{Cf}]/u);
  assert.match(text, /\\u\{1b\}\[2J/);
});

/** A server in the bridge's place; gives the address. */
async function serve(t: TestContext, listen: { path: string } | { port: number }, body: string) {
  const server = createServer((request, response) => {
    response.statusCode = request.url === "/links" ? 200 : 404;
    response.setHeader("Date", new Date(NOW).toUTCString());
    response.end(body);
  });
  server.listen({ host: "127.0.0.1", ...listen });
  await once(server, "listening");
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  const address = server.address();
  if (typeof address === "string" || !address) return `unix:${address}`;
  return `127.0.0.1:${address.port}`;
}

test("asks where the settings say that the bridge tells, TCP or unix socket", async (t) => {
  const folder = temporaryFolder(t);
  const config = join(folder, "sluice.toml");
  const body = JSON.stringify(TROUBLED);
  for (const listen of [{ port: 0 }, { path: join(folder, "status.sock") }]) {
    const address = await serve(t, listen, body);
    writeFileSync(config, `role = "gateway"\nbridge.status.address = "${address}"\n`);
    const { code, stdout } = await sluice(t, "links", "--config", config);
    assert.equal(stdout, formatLinks(TROUBLED, NOW, WIDE));
    // What it shows may be bad; that it could be shown is good.
    assert.equal(code, 0);
    const json = await sluice(t, "links", "--json", "--status", address);
    assert.deepEqual(JSON.parse(json.stdout), TROUBLED);
  }
});

test("says what to look at when the bridge does not answer, with code 1", async (t) => {
  const folder = temporaryFolder(t);
  const none = await sluice(t, "links", "--status", `unix:${folder}/none`);
  assert.match(
    none.stderr,
    /^sluice: no answer from the firmware-bridge at unix:\S+: .*systemctl status sluice-firmware-bridge\n$/,
  );
  assert.equal(none.code, 1);
  const other = await sluice(t, "links", "--status", await serve(t, { port: 0 }, "[]"));
  assert.match(other.stderr, /answers, but not as a firmware-bridge \(HTTP 200\)/);
  assert.equal(other.code, 1);
  const config = join(folder, "sluice.toml");
  writeFileSync(config, 'role = "gateway"\nbridge.status.address = "none"\n');
  const silent = await sluice(t, "links", "--config", config);
  assert.match(silent.stderr, /tells nothing: \[bridge\.status\] address is "none"/);
  assert.equal(silent.code, 1);
});
