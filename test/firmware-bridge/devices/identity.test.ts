// identity.test: who a device is by the settings, and which settings are refused.
// Path: test. Touches: a temporary folder.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { parseSettings } from "#runtime/settings";
import { identityOf } from "../../../firmware-bridge/devices/identity.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { linkSettings } from "../link-settings.ts";

const open = () => assert.fail("opened");
const bridge = { open, username: "bridge", password: "secret" };

function identity(link: string) {
  const text = `role = "gateway"\n[[links]]\npath = "/dev/x"\n${link}`;
  return parseSettings(text, "sluice.toml").links[0];
}

test("takes each word from the device's own table, else the link's, else the bridge's", (t) => {
  const password_file = join(temporaryFolder(t), "password");
  writeFileSync(password_file, "of the link\n");
  const devices = [{ name: "two", model: "M2", username: "second", silent_seconds_max: 5 }];
  const words = { client_id: "one", model: "M1", username: "first", password_file };
  const link = linkSettings({ path: "/dev/x", silent_seconds_max: 60, devices, ...words });
  const of = identityOf(link, "one", bridge);
  assert.deepEqual(of("one"), {
    clientId: "one",
    door: { open, username: "first", password: "of the link" },
    about: { model: "M1" },
    silentMsMax: 60_000,
  });
  assert.deepEqual(of("two"), {
    clientId: "serial-two",
    door: { open, username: "second", password: undefined },
    about: { model: "M2" },
    silentMsMax: 5_000,
  });
  const plain = identityOf(linkSettings({ path: "/dev/x" }), "three", bridge)("three");
  assert.deepEqual(plain, { clientId: "serial-three", door: bridge, about: {}, silentMsMax: 0 });
});

test("names the password's file that cannot be read", () => {
  const devices = [{ name: "two", password_file: "/nowhere" }];
  assert.throws(() => identityOf(linkSettings({ path: "/dev/x", devices }), "one", bridge), {
    code: "CERTIFICATE_UNREADABLE",
    message: /^password_file \/nowhere cannot be used/,
  });
});

test("refuses a device or a channel that is named twice, with its line", () => {
  const twice = (table: string) => `[[links.${table}]]\nname = "a"\n[[links.${table}]]\nname = "a"`;
  assert.throws(() => identity(twice("devices")), /sluice\.toml:\d+: .*each name once/);
  assert.throws(() => identity(twice("channels")), /sluice\.toml:\d+: .*each name once/);
  const apart = `${twice("channels")}\ndevice = "b"`;
  assert.equal(identity(apart)?.channels.length, 2);
});

test("refuses client ids and prefixes that would be more than they say", () => {
  assert.throws(() => identity('client_id = "a/b"'), /client_id/);
  assert.throws(() => identity('client_id = ""'), /client_id/);
  for (const prefix of ["#", "a/+", "/a", "a/", "$SYS", ""]) {
    const text = `role = "gateway"\n[bridge]\ndiscovery_prefix = "${prefix}"`;
    assert.throws(() => parseSettings(text, "test"), /discovery_prefix/, prefix);
  }
});
