// credentials.test: as whom MQTT-SN clients are at the broker.
// Path: test. Touches: a temporary folder.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { parse } from "valibot";
import { Credentials } from "../../../../firmware-bridge/drivers/mqtt-sn/credentials.ts";
import { Settings } from "../../../../firmware-bridge/drivers/mqtt-sn/settings.ts";
import { temporaryFolder } from "../../../support/temporary-folder.ts";

const DOOR = {
  open: () => assert.fail("nobody connects"),
  username: "bridge",
  password: "secret",
} as const;

function credentials(clients: unknown): Credentials {
  return new Credentials(parse(Settings, { clients }).clients, DOOR);
}

test("a client with a user of its own is that user, all others are the bridge's", (t) => {
  const file = join(temporaryFolder(t), "password");
  writeFileSync(file, "own secret\n");
  const some = credentials([
    { client_id: "a", username: "a", password_file: file },
    { client_id: "b", username: "b" },
    { client_id: "c" },
  ]);
  assert.deepEqual(some.of("a"), { username: "a", password: "own secret" });
  // Never the password of another.
  assert.deepEqual(some.of("b"), { username: "b", password: undefined });
  const bridge = { username: "bridge", password: "secret" };
  assert.deepEqual(some.of("c"), bridge);
  assert.deepEqual(some.of("d"), bridge);
  assert.deepEqual([some.isListed("c"), some.isListed("d")], [true, false]);
});

test("names the file of a password that cannot be read", () => {
  const clients = [{ client_id: "a", username: "a", password_file: "/nowhere" }];
  const expected = { code: "CERTIFICATE_UNREADABLE", message: /\/nowhere/ };
  assert.throws(() => credentials(clients), expected);
});
