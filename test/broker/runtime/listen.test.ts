// listen.test: servers whose address may be taken, and the sockets that killed processes leave.
// Path: test. Touches: unix sockets, temporary folders.

import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync, renameSync, statSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { SluiceError } from "#contract/errors";
import { listenOn, PatientServer } from "#runtime/listen";
import { capturedLog } from "../../firmware-bridge/captured-log.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { waitFor } from "../../support/wait-for.ts";

const QUICK = { least: 1, most: 2 };

function serverOf(t: TestContext): Server {
  const server = createServer();
  t.after(() => server.close());
  return server;
}

test("replaces the socket of a process that was killed, for owner and group alone", async (t) => {
  const folder = temporaryFolder(t);
  const [path, elsewhere] = [join(folder, "socket"), join(folder, "elsewhere")];
  const killed = createServer().listen(elsewhere);
  await once(killed, "listening");
  // Under another name its file stays, as that of a process that could not remove it.
  renameSync(elsewhere, path);
  killed.close();
  await once(killed, "close");
  assert.ok(existsSync(path));
  await listenOn(serverOf(t), `unix:${path}`, "[x] address");
  assert.equal((statSync(path).mode & 0o777).toString(8), "660");
});

test("leaves alone what is in use, or no socket, and says what is to be done", async (t) => {
  const folder = temporaryFolder(t);
  const path = join(folder, "socket");
  const refusal = (at: string) =>
    listenOn(serverOf(t), `unix:${at}`, "[x] address").then(
      () => assert.fail("was opened"),
      (fault) => {
        assert.ok(fault instanceof SluiceError && fault.code === "LISTEN_FAILED");
        return fault.message.replaceAll(folder, "");
      },
    );
  await listenOn(serverOf(t), `unix:${path}`, "[x] address");
  const begin = "[x] address unix:/socket cannot be listened on: ";
  assert.equal(
    await refusal(path),
    `${begin}is held by another process; stop that, or name another path`,
  );
  writeFileSync(join(folder, "file"), "");
  assert.match(
    await refusal(join(folder, "file")),
    /is a file that is no socket; name another path/,
  );
  assert.match(
    await refusal(join(folder, "none/socket")),
    /its folder is missing, or this user may/,
  );
});

test("tries again until the address is free, and tells each reason once", async () => {
  const { log, count } = capturedLog();
  const reasons = ["taken", "taken", "taken", "gone", "gone"];
  const open = async () => {
    const reason = reasons.shift();
    if (reason !== undefined) throw new SluiceError("LISTEN_FAILED", reason);
    return { close: async () => {} };
  };
  const server = new PatientServer(open, log, QUICK);
  await waitFor("the last reason", () => reasons.length === 0);
  await server.close();
  assert.equal(count("warn", "will try again"), 2);
});

test("ends its tries when it is closed", async () => {
  const { log } = capturedLog();
  let tries = 0;
  const open = () => {
    tries += 1;
    return Promise.reject(new SluiceError("LISTEN_FAILED", "taken"));
  };
  const server = new PatientServer(open, log, QUICK);
  await waitFor("some tries", () => tries > 2);
  await server.close();
});
