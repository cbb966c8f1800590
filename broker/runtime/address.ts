// address: reads the host:port and unix:/path of the settings.
// Path: listeners, status, cli. Touches: nothing.

export type Address = { readonly path: string } | { readonly host: string; readonly port: number };

/** Splits an address that the settings' check let through. */
export function parseAddress(text: string): Address {
  if (text.startsWith("unix:")) return { path: text.slice("unix:".length) };
  const colon = text.lastIndexOf(":");
  const host = text.slice(0, colon).replace(/^\[|\]$/g, "");
  return { host, port: Number(text.slice(colon + 1)) };
}

/** Is this an address of the machine itself, IPv4-mapped ones too (RFC 1122 3.2.1.3, RFC 4291 2.5.3)? */
export function isLoopback(ip: string): boolean {
  const plain = ip.replace(/^::ffff:/i, "");
  return plain === "::1" || /^127\.\d+\.\d+\.\d+$/.test(plain);
}
