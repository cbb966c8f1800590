// broker-door: how the devices reach the broker, and as whom.
// Path: settings → [broker-door] → connection. Touches: the files of the secrets, the network.

import { connect as connectTcp } from "node:net";
import type { Duplex } from "node:stream";
import { connect as connectTls } from "node:tls";
import { parseAddress } from "#runtime/address";
import { readSecret, readTlsFiles } from "#runtime/files";
import type { BridgeSettings } from "#runtime/settings-links";
import type { BrokerDoor } from "../driver.ts";

/** Reads the secrets' files once; @throws SluiceError CERTIFICATE_UNREADABLE. */
export function brokerDoor(settings: BridgeSettings): BrokerDoor {
  const { username, password_file } = settings;
  const password = password_file === undefined ? undefined : readSecret(password_file);
  return { open: streamTo(settings), username, password };
}

function streamTo(settings: BridgeSettings): () => Duplex {
  if (settings.broker.startsWith("unix:")) {
    const address = parseAddress(settings.broker);
    return () => connectTcp(address);
  }
  const { protocol, hostname, port } = new URL(settings.broker);
  const host = hostname.replace(/^\[|\]$/g, "");
  const tls = protocol === "mqtts:";
  // What is small goes at once, not with the next that comes.
  const target = { host, port: Number(port || (tls ? 8883 : 1883)), noDelay: true };
  if (!tls) return () => connectTcp(target);
  const { ca } = readTlsFiles({ ca_file: settings.ca_file });
  return () => connectTls({ ...target, ...(ca && { ca }) });
}
