// sequences: what hostile clients send: bytes, how they are cut, how the connection ends.
// Path: sequences.test → [sequences] → assault. Touches: nothing.

import { Random } from "../../../scripts/ordeal/random.ts";
import {
  ackPacket,
  type ConnectOptions,
  connectPacket,
  disconnectPacket,
  type FilterOptions,
  packet,
  pingreqPacket,
  publishPacket,
  subscribePacket,
  unsubscribePacket,
  type Version,
} from "../../conformance/support/wire-build.ts";
import type { Properties } from "../../conformance/support/wire-properties.ts";

export interface Sequence {
  readonly kind: Kind;
  /** Each is one write, with a turn of the event loop before the next. */
  readonly writes: readonly Buffer[];
  /** "close": FIN behind the last byte; "reset": RST; "deadline": the broker has to end it. */
  readonly end: "close" | "reset" | "deadline";
}

/** In hundredths: what share of all sequences is of this kind. */
const SHARES = {
  random: 10,
  mutated: 50,
  length: 12,
  slow: 3,
  flood: 5,
  half: 10,
  reset: 10,
} as const;

export type Kind = keyof typeof SHARES;

/** Client ids are few, so that sessions are resumed and taken over. */
const CLIENT_IDS = 40;
const FLOOD_PACKETS = 4_000;

/** The sequence of this number, the same one in each run. */
export function sequence(index: number): Sequence {
  const random = new Random(index);
  const kind = kindOf(random.int(100));
  return { kind, ...MAKE[kind](random) };
}

function kindOf(hundredth: number): Kind {
  let from = 0;
  for (const [kind, share] of Object.entries(SHARES)) {
    from += share;
    if (hundredth < from) return kind as Kind;
  }
  throw new Error("the shares are less than a hundred hundredths");
}

const MAKE: Readonly<Record<Kind, (random: Random) => Omit<Sequence, "kind">>> = {
  random: (random) => ({ writes: [random.bytes(1 + random.int(2_000))], end: "close" }),
  mutated: (random) => {
    let bytes: Buffer = Buffer.concat(session(random));
    for (let left = 1 + random.int(3); left > 0; left -= 1) bytes = mutated(bytes, random);
    return { writes: cut(bytes, random), end: "close" };
  },
  length: (random) => ({ writes: lyingLengths(random), end: "close" }),
  slow: (random) => {
    const connect = connectPacket(connectOptions(random));
    const most = random.once(4) ? connect.length : 1 + random.int(connect.length - 1);
    const writes = Array.from({ length: most }, (_, at) => connect.subarray(at, at + 1));
    return { writes, end: most === connect.length ? "close" : "deadline" };
  },
  flood: (random) => ({ writes: [Buffer.concat(flood(random))], end: "close" }),
  half: (random) => {
    const bytes = Buffer.concat(session(random));
    return { writes: [bytes.subarray(0, 1 + random.int(bytes.length))], end: "close" };
  },
  reset: (random) => ({ writes: cut(Buffer.concat(session(random)), random), end: "reset" }),
};

/** One session from CONNECT on, as a client may hold it. */
function session(random: Random): Buffer[] {
  const version = random.pick<Version>([3, 4, 4, 5, 5, 5]);
  const packets = [connectPacket(connectOptions(random, version))];
  for (let left = random.int(12); left > 0; left -= 1) packets.push(step(random, version));
  if (random.once(3)) packets.push(disconnectPacket({}, version));
  return packets;
}

function connectOptions(
  random: Random,
  version: Version = random.pick<Version>([3, 4, 5]),
): ConnectOptions {
  const clean = !random.once(3);
  const properties: Properties = {
    ...(clean ? {} : { sessionExpiryInterval: random.int(100) }),
    ...(random.once(3) ? { receiveMaximum: 1 + random.int(5) } : {}),
    ...(random.once(3) ? { maximumPacketSize: 20 + random.int(500) } : {}),
    ...(random.once(3) ? { topicAliasMaximum: random.int(5) } : {}),
  };
  const qos = random.int(3);
  const will = { topic: topic(random), payload: "gone", qos, retain: random.once(4) };
  return {
    version,
    clean,
    properties,
    clientId: `h-${random.int(CLIENT_IDS)}`,
    keepAlive: random.int(60),
    ...(random.once(4) ? { will } : {}),
  };
}

function step(random: Random, version: Version): Buffer {
  const packetId = 1 + random.int(8);
  switch (random.int(10)) {
    case 0:
    case 1: {
      const filters = [filter(random, version), filter(random, version)];
      const properties = random.once(3) ? { subscriptionIdentifier: [1 + random.int(99)] } : {};
      return subscribePacket({ packetId, filters, properties }, version);
    }
    case 2:
      return unsubscribePacket({ packetId, filters: [topic(random), "#"] }, version);
    case 3:
      return pingreqPacket();
    case 4: {
      const kinds = ["puback", "pubrec", "pubrel", "pubcomp"] as const;
      return ackPacket(random.pick(kinds), { packetId }, version);
    }
    default:
      return publishPacket(publication(random, packetId), version);
  }
}

function publication(random: Random, packetId: number) {
  const properties: Properties = {
    ...(random.once(3) ? { topicAlias: random.int(5) } : {}),
    ...(random.once(4) ? { messageExpiryInterval: random.int(3) } : {}),
    ...(random.once(4) ? { userProperty: [["k", "v"] as const] } : {}),
    ...(random.once(6) ? { responseTopic: "r/t", correlationData: random.bytes(8) } : {}),
  };
  const payload = random.bytes(random.int(random.once(10) ? 20_000 : 60));
  const [qos, retain, dup] = [random.int(3), random.once(5), random.once(8)];
  return { topic: topic(random), payload, qos, retain, dup, packetId, properties };
}

function topic(random: Random): string {
  return Array.from({ length: 1 + random.int(4) }, () => `h${random.int(6)}`).join("/");
}

function filter(random: Random, version: Version): FilterOptions {
  const inner = random.pick(["#", "+/#", "h0/+", "+/+/+", topic(random), topic(random)]);
  const isShared = version === 5 && random.once(4);
  const qos = random.int(3);
  if (version < 5 || isShared) return { filter: isShared ? `$share/g/${inner}` : inner, qos };
  const retainHandling = random.int(3);
  return { filter: inner, qos, retainHandling, noLocal: random.once(3) };
}

/** One change of the bytes. */
function mutated(bytes: Buffer, random: Random): Buffer {
  const [from, to] = [random.int(bytes.length + 1), random.int(bytes.length + 1)].sort(
    (one, other) => one - other,
  ) as [number, number];
  const [before, part, after] = [
    bytes.subarray(0, from),
    bytes.subarray(from, to),
    bytes.subarray(to),
  ];
  switch (random.int(6)) {
    case 0:
      return before;
    case 1:
      return Buffer.concat([before, after]);
    case 2:
      return Buffer.concat([before, part, part, after]);
    case 3:
      return Buffer.concat([before, random.bytes(1 + random.int(12)), part, after]);
    case 4: {
      const other = Buffer.concat(session(random));
      return Buffer.concat([before, other.subarray(random.int(other.length))]);
    }
    default:
      return flipped(bytes, random);
  }
}

function flipped(bytes: Buffer, random: Random): Buffer {
  const all = Buffer.from(bytes);
  if (all.length === 0) return all;
  for (let left = 1 + random.int(8); left > 0; left -= 1) {
    const at = random.int(all.length);
    all[at] = (all[at] ?? 0) ^ (1 << random.int(8));
  }
  return all;
}

/** Whole, or in pieces that end anywhere. */
function cut(bytes: Buffer, random: Random): Buffer[] {
  if (!random.once(3) || bytes.length < 2) return [bytes];
  const at = 1 + random.int(bytes.length - 1);
  return [bytes.subarray(0, at), bytes.subarray(at)];
}

/** A packet that says another length than it has, or one that no packet may have. */
function lyingLengths(random: Random): Buffer[] {
  const length = random.pick<number | Buffer>([
    0,
    1,
    random.int(300),
    random.int(70_000),
    268_435_455,
    Buffer.from([0xff, 0xff, 0xff, 0xff, 0x7f]),
    Buffer.from([0x80, 0x80, 0x80, 0x80]),
    Buffer.from([0x8a, 0x80, 0x80, 0x00]),
  ]);
  const version = random.pick<Version>([3, 4, 5]);
  const liar = packet(1 + random.int(15), random.int(16), random.bytes(random.int(40)), {
    remainingLength: length,
  });
  if (random.once(3)) return [liar];
  if (random.once(3)) {
    return [connectPacket({ ...connectOptions(random, version), remainingLength: length })];
  }
  return [Buffer.concat([connectPacket(connectOptions(random, version)), liar])];
}

function flood(random: Random): Buffer[] {
  const version = random.pick<Version>([4, 5]);
  const qos = random.int(3);
  const one = random.pick<(packetId: number) => Buffer>([
    () => pingreqPacket(),
    (packetId) => ackPacket("pubrel", { packetId }, version),
    (packetId) => ackPacket("puback", { packetId }, version),
    (packetId) => unsubscribePacket({ packetId, filters: ["h0"] }, version),
    (packetId) => subscribePacket({ packetId, filters: [{ filter: "h0/h0/h0/h0" }] }, version),
    (packetId) => publishPacket({ topic: "h5/h5/h5/h5", qos, packetId }, version),
  ]);
  const packets = Array.from({ length: FLOOD_PACKETS }, (_, index) => one(index + 1));
  return [connectPacket({ version, clientId: `h-${random.int(CLIENT_IDS)}` }), ...packets];
}
