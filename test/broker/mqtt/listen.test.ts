// listen.test: which addresses are opened, how, and what is said of those that cannot be.
// Path: test. Touches: loopback, temporary folders.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { BOUNDED, connectTo, open } from "./open.ts";

function failure(message: string) {
  return { name: "SluiceError", code: "LISTEN_FAILED", message };
}

test("says of a port that it is taken", BOUNDED, async (t) => {
  const opened = await open(t, [{}]);
  const address = (opened.addresses[0] ?? "").replace("mqtt://", "");
  await assert.rejects(
    open(t, [{ protocol: "ws", address }]),
    failure(
      `listener ws ${address} is taken by another process; stop that, or name another address`,
    ),
  );
});

test("says of an address that it is not this machine's", BOUNDED, async (t) => {
  // TEST-NET-3 (RFC 5737) is nobody's.
  await assert.rejects(
    open(t, [{ address: "203.0.113.1:18830" }]),
    failure(
      "listener mqtt 203.0.113.1:18830 is no address of this machine; " +
        "name one that is, or 0.0.0.0 for all",
    ),
  );
});

test("says of a unix socket that its folder is missing", BOUNDED, async (t) => {
  const address = `unix:${temporaryFolder(t)}/missing/broker.sock`;
  await assert.rejects(
    open(t, [{ address }]),
    failure(
      `listener mqtt ${address} cannot be created; ` +
        "its folder is missing, or this user may not write there",
    ),
  );
});

test("opens a unix socket for owner and group, and removes it at close", BOUNDED, async (t) => {
  const path = join(temporaryFolder(t), "broker.sock");
  const opened = await open(t, [{ address: `unix:${path}` }]);
  assert.equal((statSync(path).mode & 0o777).toString(8), "660");
  await opened.close();
  assert.equal(existsSync(path), false);
});

test("replaces the socket that a killed broker left behind", BOUNDED, async (t) => {
  const path = join(temporaryFolder(t), "broker.sock");
  const script = `require("net").createServer().listen(process.argv[1], () => process.kill(process.pid, "SIGKILL"))`;
  await once(spawn(process.execPath, ["-e", script, path]), "exit");
  assert.ok(existsSync(path));
  const opened = await open(t, [{ address: `unix:${path}` }]);
  opened.socket();
  await opened.next();
});

test("leaves a unix socket alone that another process listens on", BOUNDED, async (t) => {
  const path = join(temporaryFolder(t), "broker.sock");
  const held = await open(t, [{ address: `unix:${path}` }]);
  await assert.rejects(
    open(t, [{ address: `unix:${path}` }]),
    failure(
      `listener mqtt unix:${path} is held by another process; stop that, or name another path`,
    ),
  );
  // The question whether somebody is there was a connection itself.
  await held.next();
  held.socket();
  await held.next();
});

test("leaves a file alone that is no socket", BOUNDED, async (t) => {
  const path = join(temporaryFolder(t), "broker.sock");
  writeFileSync(path, "precious");
  await assert.rejects(
    open(t, [{ address: `unix:${path}` }]),
    failure(`listener mqtt unix:${path} is a file that is no socket; name another path`),
  );
  assert.equal(readFileSync(path, "utf8"), "precious");
});

test("closes what it has opened when a later listener fails", BOUNDED, async (t) => {
  const path = join(temporaryFolder(t), "broker.sock");
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const bound = probe.address();
  assert.ok(typeof bound === "object" && bound !== null);
  probe.close();
  await once(probe, "close");
  const taken = await open(t, [{}]);
  await assert.rejects(
    open(t, [
      { address: `unix:${path}` },
      { address: `127.0.0.1:${bound.port}` },
      { address: (taken.addresses[0] ?? "").replace("mqtt://", "") },
    ]),
    { code: "LISTEN_FAILED" },
  );
  assert.equal(existsSync(path), false);
  const [refused] = await once(connectTo(t, { port: bound.port, host: "127.0.0.1" }), "error");
  assert.equal(refused.code, "ECONNREFUSED");
});

test("opens no port before every certificate is read", BOUNDED, async (t) => {
  const path = join(temporaryFolder(t), "broker.sock");
  const missing = { cert_file: "/missing/server.crt", key_file: "/missing/server.key" };
  await assert.rejects(open(t, [{ address: `unix:${path}` }, { protocol: "mqtts", ...missing }]), {
    code: "CERTIFICATE_UNREADABLE",
    message: /cert_file \/missing\/server\.crt cannot be used/,
  });
  assert.equal(existsSync(path), false);
});
