// reach: the addresses that the command line names, and where a listening address is reached.
// Path: fetch-document, tail → [reach]. Touches: nothing.

import { SluiceError } from "#contract/errors";
import type { Address } from "#runtime/address";

/** An address as the settings have them; @throws SluiceError USAGE that names the option. */
export function readAddress(option: string, text: string): string {
  const port = Number(/^(?:\[[0-9a-fA-F:.]+\]|[^\s:[\]]+):([0-9]{1,5})$/.exec(text)?.[1] ?? 0);
  if ((port >= 1 && port <= 65_535) || /^unix:\/./.test(text)) return text;
  const allowed = 'allowed: host:port, as "127.0.0.1:1883", or "unix:/path"';
  throw new SluiceError("USAGE", `--${option} is ${JSON.stringify(text)}; ${allowed}`);
}

/** Who listens on all addresses is reached by the machine's own. */
export function reachable(address: Address): Address {
  if ("path" in address) return address;
  const { host, port } = address;
  if (host === "0.0.0.0") return { host: "127.0.0.1", port };
  return host === "::" ? { host: "::1", port } : address;
}
