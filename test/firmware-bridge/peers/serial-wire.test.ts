// serial-wire.test: mosquitto's clients speak through a serial port to whoever has it open.
// Path: test → [serial-wire]. Touches: a pseudo-terminal, TCP ports; runs socat, mosquitto_pub.

import { test } from "node:test";
import { TestBroker } from "../../support/test-broker.ts";
import { waitFor } from "../../support/wait-for.ts";
import { PeerProcess } from "./peer-process.ts";
import { SerialWire } from "./serial-wire.ts";

test("a client of mosquitto reaches a broker over a serial port", async (t) => {
  const broker = await TestBroker.start(t);
  const wire = await SerialWire.open(t);
  const serial = ["socat", `FILE:${wire.path},raw,echo=0`, `TCP:127.0.0.1:${broker.port}`];
  const bridge = PeerProcess.begin(t, "socat", serial);
  const words = `-h 127.0.0.1 -p ${wire.port} -i uno -q 1 -t a/b -m 21.5`;
  PeerProcess.begin(t, "mosquitto_pub", ["mosquitto_pub", ...words.split(" ")]);
  await waitFor("the reading", () => broker.texts("a/b").includes("21.5"));
  await waitFor("the port hangs up with its client", () => bridge.isOver);
});
