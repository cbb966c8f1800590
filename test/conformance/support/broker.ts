// broker: the broker that a file of conformance tests speaks to.
// Path: conformance tests → [broker] → broker/main. Touches: what a gateway touches.

import { after, before, type TestContext } from "node:test";
import { accepts } from "../../../scripts/chain/ready.ts";
import {
  freePlace,
  type Gateway,
  type Place,
  startGateway,
} from "../../journeys/support/gateway.ts";
import { waitFor } from "../../support/wait-for.ts";
import type { ConnectOptions, Version } from "./wire-build.ts";
import { WireClient } from "./wire-client.ts";

/** The port of a broker that runs already, to try the tests against another one. */
const OTHER_PORT = Number(process.env.SLUICE_CONFORMANCE_PORT ?? 0);

export interface ConformanceBroker {
  readonly port: number;
  /** A connection without CONNECT. */
  open(t: Pick<TestContext, "after">, version?: Version): Promise<WireClient>;
  /** A client that was accepted; 3.1.1 unless the options say another version. */
  connect(t: Pick<TestContext, "after">, options?: ConnectOptions): Promise<WireClient>;
  /** Ends it as a power cut of the process does (SIGKILL), and starts it on the same data. */
  restart(): Promise<void>;
  /** Asks it to stop (SIGTERM); resolves when it has. */
  stop(): Promise<void>;
  /** After `stop`, on the same data. */
  start(): Promise<void>;
}

/**
 * A gateway with the smallest settings and `more` laid over them (`{ limits: { … } }`), as a process
 * from before the first test of the file until after the last.
 */
export function conformanceBroker(more: Record<string, unknown> = {}): ConformanceBroker {
  const ends: (() => unknown)[] = [];
  // What was started last ends first; hooks of a file have no test of their own to give.
  const file = { after: (end: () => unknown) => ends.unshift(end) } as unknown as TestContext;
  let place: Place = { folder: "", mqttPort: OTHER_PORT, statusPort: 0 };
  let gateway: Gateway | undefined;
  const start = async () => {
    gateway = startGateway(file, place, more);
    await ready(gateway, place.mqttPort);
  };
  before(async () => {
    if (OTHER_PORT > 0) return;
    place = await freePlace(file);
    await start();
  });
  after(async () => {
    for (const end of ends) await end();
  });
  const end = async (signal: "SIGKILL" | "SIGTERM") => {
    if (!gateway) throw new Error("a broker that runs already is not ours to end");
    gateway.child.kill(signal);
    await gateway.exited;
  };
  return {
    get port() {
      return place.mqttPort;
    },
    open: (t, version) => WireClient.open(t, place.mqttPort, version),
    connect: (t, options) => WireClient.connect(t, place.mqttPort, options),
    async restart() {
      await end("SIGKILL");
      await start();
    },
    stop: () => end("SIGTERM"),
    start,
  };
}

/** Until it accepts; fails at once when the process has ended. */
async function ready(gateway: Gateway, port: number): Promise<void> {
  const check = () => {
    const { exitCode } = gateway.child;
    if (exitCode !== null) throw new Error(`it ended with ${exitCode}: ${gateway.output()}`);
    return accepts(port);
  };
  await waitFor("the broker to accept", check, 20_000);
}
