// proxy-header: writes PROXY v2 headers, for tests (HAProxy's proxy-protocol.txt §2.2).
// Path: tests. Touches: nothing.

import { isIPv4 } from "node:net";

export interface HeaderParts {
  readonly command?: "LOCAL" | "PROXY";
  readonly ip?: string;
  readonly port?: number;
  readonly tlvs?: Buffer;
}

/** The header with which a balancer names a TCP client. */
export function proxyHeader({
  command = "PROXY",
  ip = "192.0.2.1",
  port = 50_000,
  tlvs = Buffer.alloc(0),
}: HeaderParts): Buffer {
  const source = isIPv4(ip) ? ipv4Bytes(ip) : ipv6Bytes(ip);
  const ports = Buffer.alloc(4);
  ports.writeUInt16BE(port, 0);
  ports.writeUInt16BE(1883, 2);
  const body = Buffer.concat([source, Buffer.alloc(source.length), ports, tlvs]);
  const start = Buffer.from("0d0a0d0a000d0a515549540a00000000", "hex");
  start[12] = command === "PROXY" ? 0x21 : 0x20;
  start[13] = isIPv4(ip) ? 0x11 : 0x21;
  start.writeUInt16BE(body.length, 14);
  return Buffer.concat([start, body]);
}

/** One type-length-value. */
export function tlv(type: number, value: Buffer | string = ""): Buffer {
  const bytes = Buffer.from(value as string);
  return Buffer.concat([Buffer.from([type, bytes.length >> 8, bytes.length & 0xff]), bytes]);
}

/** What `send-proxy-v2-ssl-cn` says: bits of the client, result of the check, version, name. */
export function sslTlv(parts: { client: number; verify: number; name?: string }): Buffer {
  const start = Buffer.alloc(5);
  start.writeUInt8(parts.client, 0);
  start.writeUInt32BE(parts.verify, 1);
  const name = parts.name === undefined ? Buffer.alloc(0) : tlv(0x22, parts.name);
  return tlv(0x20, Buffer.concat([start, tlv(0x21, "TLSv1.3"), name]));
}

function ipv4Bytes(ip: string): Buffer {
  return Buffer.from(ip.split(".").map(Number));
}

function ipv6Bytes(ip: string): Buffer {
  const [front = "", back] = ip.split("::");
  const groups = (text: string) => text.split(":").filter((group) => group !== "");
  const missing = 8 - groups(front).length - groups(back ?? "").length;
  const zeros = Array<string>(back === undefined ? 0 : missing).fill("0");
  const all = [...groups(front), ...zeros, ...groups(back ?? "")];
  return Buffer.from(all.map((group) => group.padStart(4, "0")).join(""), "hex");
}
