// silent-broker: a broker that answers nothing but CONNECT, unless a test tells it to.
// Path: tests → [silent-broker] → broker-session. Touches: nothing.

import { type Duplex, duplexPair } from "node:stream";
import { type IConnackPacket, type Packet as MqttPacket, parser, writeToStream } from "mqtt-packet";
import { waitFor } from "../../../support/wait-for.ts";
import type { After } from "./site.ts";

const MQTT_5 = { protocolVersion: 5 } as const;

export function silentBroker(t: After, properties: IConnackPacket["properties"] = {}) {
  const packets: MqttPacket[] = [];
  let stream: Duplex | undefined;
  const say = (packet: MqttPacket) => stream && writeToStream(packet, stream, MQTT_5);
  const open = () => {
    const [ours, theirs] = duplexPair();
    stream = theirs;
    t.after(() => theirs.destroy());
    const read = parser(MQTT_5);
    read.on("packet", (packet) => {
      packets.push(packet);
      if (packet.cmd === "connect")
        say({ cmd: "connack", reasonCode: 0, sessionPresent: !packet.clean, properties });
      if (packet.cmd === "disconnect") theirs.end();
    });
    theirs.on("data", (chunk) => read.parse(chunk));
    return ours;
  };
  const takes = <C extends MqttPacket["cmd"]>(cmd: C, nth = 1) =>
    waitFor(`${cmd} ${nth}`, () => {
      const all = packets.filter((packet) => packet.cmd === cmd);
      return all[nth - 1] as Extract<MqttPacket, { cmd: C }> | undefined;
    });
  /** Takes nothing, or goes on. */
  const stall = (stalled: boolean) => void (stalled ? stream?.pause() : stream?.resume());
  return { open, say, takes, stall, packets };
}
