// proxy-protocol: reads the PROXY header, version 2, in which a balancer names the client.
// Path: socket → [proxy-protocol] → listeners. Touches: nothing.
// The clauses are those of HAProxy's proxy-protocol.txt.

import { isUtf8 } from "node:buffer";
import { SluiceError } from "#contract/errors";

export interface ProxyHeader {
  /** LOCAL: the balancer speaks for itself, as its health checks do. */
  readonly command: "LOCAL" | "PROXY";
  /** Absent where the client has no IP address, or the balancer does not tell it. */
  readonly source?: { readonly ip: string; readonly port: number };
  /** The balancer tells of the client's TLS, or of its absence: so TLS beyond is its own. */
  readonly tellsTls?: true;
  /** Common name of the client's certificate, which the balancer verified. */
  readonly certificateName?: string;
}

/** The header, whole or not, may not be longer; HAProxy's are below 400 bytes. */
export const PROXY_HEADER_BYTES_MAX = 2_048;

const SIGNATURE = Buffer.from("0d0a0d0a000d0a515549540a", "hex");
const START_BYTES = 16;
const VERSION = 2;
const COMMANDS = ["LOCAL", "PROXY"] as const;

// §2.2, the 14th byte: family in the high nibble, transport in the low one.
const FAMILY = { unspec: 0, inet: 1, inet6: 2, unix: 3 } as const;
const TRANSPORT = { unspec: 0, stream: 1, dgram: 2 } as const;
const INET_BYTES = 12;
const INET6_BYTES = 36;
const UNIX_BYTES = 216;

// §2.2.6
const TYPE_SSL = 0x20;
const SUBTYPE_SSL_CN = 0x22;
const SSL_START_BYTES = 5;
const CLIENT_CERTIFICATE = 0x02 | 0x04;

/**
 * The header at the front of `bytes` and how many of them it takes; or, while it is not whole, how
 * many there must be before it is worth another look.
 * @throws SluiceError PROXY_INVALID at the first byte that no PROXY v2 header has there.
 */
export function parseProxyHeader(
  bytes: Buffer,
): { needs: number } | { header: ProxyHeader; bytes: number } {
  assertStart(bytes);
  if (bytes.length < START_BYTES) return { needs: START_BYTES };
  const length = START_BYTES + bytes.readUInt16BE(14);
  if (length > PROXY_HEADER_BYTES_MAX) {
    throw invalid(`is ${length} bytes long, over the ${PROXY_HEADER_BYTES_MAX} allowed`);
  }
  if (bytes.length < length) return { needs: length };
  return { header: readHeader(bytes.subarray(0, length)), bytes: length };
}

/** Looks at as much of signature, version, command and family as there is. */
function assertStart(bytes: Buffer): void {
  const seen = Math.min(bytes.length, SIGNATURE.length);
  if (bytes.compare(SIGNATURE, 0, seen, 0, seen) !== 0) {
    throw invalid("does not begin with the signature of version 2");
  }
  const versionAndCommand = bytes[12];
  if (versionAndCommand === undefined) return;
  if (versionAndCommand >> 4 !== VERSION || COMMANDS[versionAndCommand & 0x0f] === undefined) {
    throw invalid(`has ${versionAndCommand} for version and command`);
  }
  const familyAndTransport = bytes[13];
  // With LOCAL the family is to be ignored, whatever it says.
  if (familyAndTransport === undefined || (versionAndCommand & 0x0f) === 0) return;
  if (familyAndTransport >> 4 > FAMILY.unix || (familyAndTransport & 0x0f) > TRANSPORT.dgram) {
    throw invalid(`has ${familyAndTransport} for family and transport`);
  }
}

function readHeader(bytes: Buffer): ProxyHeader {
  // The rest of a LOCAL header is to be discarded: the connection's own ends are the true ones.
  if (COMMANDS[bytes.readUInt8(12) & 0x0f] === "LOCAL") return { command: "LOCAL" };
  const familyAndTransport = bytes.readUInt8(13);
  const family = familyAndTransport >> 4;
  // Without a family or a transport nobody can tell addresses from what follows them.
  if (family === FAMILY.unspec || (familyAndTransport & 0x0f) === TRANSPORT.unspec) {
    return { command: "PROXY" };
  }
  const body = bytes.subarray(START_BYTES);
  const addressBytes = addressBytesOf(family);
  if (body.length < addressBytes) throw invalid("ends in the middle of its addresses");
  return {
    command: "PROXY",
    ...readSource(family, body),
    ...readTls(body.subarray(addressBytes)),
  };
}

function addressBytesOf(family: number): number {
  if (family === FAMILY.inet) return INET_BYTES;
  return family === FAMILY.inet6 ? INET6_BYTES : UNIX_BYTES;
}

/** Source address, destination address, source port, destination port. */
function readSource(family: number, body: Buffer): Pick<ProxyHeader, "source"> {
  if (family === FAMILY.inet) {
    return { source: { ip: ipv4Text(body.subarray(0, 4)), port: body.readUInt16BE(8) } };
  }
  if (family === FAMILY.inet6) {
    return { source: { ip: ipv6Text(body.subarray(0, 16)), port: body.readUInt16BE(32) } };
  }
  return {};
}

function readTls(bytes: Buffer): Pick<ProxyHeader, "tellsTls" | "certificateName"> {
  let told: Pick<ProxyHeader, "tellsTls" | "certificateName"> | undefined;
  for (const { type, value } of readTlvs(bytes)) {
    if (type !== TYPE_SSL) continue;
    if (told !== undefined) throw invalid("tells of TLS twice");
    told = readSsl(value);
  }
  return told ?? {};
}

function readSsl(value: Buffer): Pick<ProxyHeader, "tellsTls" | "certificateName"> {
  if (value.length < SSL_START_BYTES) throw invalid("ends in the middle of what it tells of TLS");
  const client = value.readUInt8(0);
  const verified = (client & CLIENT_CERTIFICATE) !== 0 && value.readUInt32BE(1) === 0;
  let name: Buffer | undefined;
  for (const { type, value: inner } of readTlvs(value.subarray(SSL_START_BYTES))) {
    if (type !== SUBTYPE_SSL_CN) continue;
    // Two names would leave it to chance who the client is.
    if (name !== undefined) throw invalid("holds two certificate names");
    name = inner;
  }
  return {
    tellsTls: true,
    ...(verified && name !== undefined && name.length > 0 && { certificateName: nameText(name) }),
  };
}

function nameText(bytes: Buffer): string {
  if (!isUtf8(bytes)) throw invalid("holds a certificate name that is not UTF-8");
  return bytes.toString("utf8");
}

/** Type, length and value, one after the other to the very end. */
function* readTlvs(bytes: Buffer): Generator<{ type: number; value: Buffer }> {
  for (let at = 0; at < bytes.length; ) {
    const start = at + 3;
    const end = start <= bytes.length ? start + bytes.readUInt16BE(at + 1) : Infinity;
    if (end > bytes.length) throw invalid("ends in the middle of a type-length-value");
    yield { type: bytes.readUInt8(at), value: bytes.subarray(start, end) };
    at = end;
  }
}

function ipv4Text(bytes: Buffer): string {
  return bytes.join(".");
}

/** The one text of an IPv6 address that RFC 5952 recommends. */
function ipv6Text(bytes: Buffer): string {
  const groups = Array.from({ length: 8 }, (_, index) => bytes.readUInt16BE(index * 2));
  if (groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff) {
    return `::ffff:${ipv4Text(bytes.subarray(12))}`;
  }
  const hex = groups.map((group) => group.toString(16));
  const { start, length } = longestZeroRun(groups);
  if (length < 2) return hex.join(":");
  return `${hex.slice(0, start).join(":")}::${hex.slice(start + length).join(":")}`;
}

/** Of equally long runs the first (RFC 5952 §4.2.3). */
function longestZeroRun(groups: readonly number[]): { start: number; length: number } {
  let longest = { start: 0, length: 0 };
  let start = 0;
  for (const [index, group] of groups.entries()) {
    if (group !== 0) start = index + 1;
    else if (index + 1 - start > longest.length) longest = { start, length: index + 1 - start };
  }
  return longest;
}

function invalid(what: string): SluiceError {
  return new SluiceError("PROXY_INVALID", `the PROXY header ${what}`);
}
