"""client: one end of a line that speaks MQTT-SN 1.2, with the packets of scapy.

Path: mqtt-sn.ts → [client] → a gateway. Touches: scapy, a serial port or a UDP socket.

    client.py PATH | HOST:PORT

    says      ready                          when the line is open
              {"type": "CONNACK", …}         each packet that it hears, in scapy's words
    is told   ["CONNECT", {"client_id": …}]  what to send, in scapy's words
              "0216"                         these very bytes, in hexadecimal form

On a serial port, packets follow each other bare: the length that each begins with is the framing.
"""

import json
import os
import select
import socket
import sys
import tty

from scapy.contrib.mqttsn import DISCONNECT, MQTTSN, PACKET_TYPE

TYPES = {PACKET_TYPE[fields["type"]]: layer for fields, layer in MQTTSN.payload_guess}

# scapy builds a duration of 0 behind the length of a packet that has none.
PLAIN_DISCONNECT = bytes([2, DISCONNECT])


class SerialLine:
    def __init__(self, path):
        self.fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self.fd)
        self.waiting = b""

    def write(self, packet):
        os.write(self.fd, packet)

    def read(self):
        """The packets that are whole by now."""
        chunk = os.read(self.fd, 4096)
        if not chunk:
            sys.exit(0)
        self.waiting += chunk
        packets = []
        while self.length() is not None and len(self.waiting) >= self.length():
            length = self.length()
            packets.append(self.waiting[:length])
            self.waiting = self.waiting[length:]
        return packets

    def length(self):
        """Of the packet that waits (5.2.1): one byte, or 1 and two more; None: not known."""
        if not self.waiting or (self.waiting[0] == 1 and len(self.waiting) < 3):
            return None
        length = self.waiting[0]
        if length == 1:
            length = int.from_bytes(self.waiting[1:3], "big")
        if length < 2:
            sys.exit(f"client: no packet is {length} bytes long")
        return length


class UdpLine:
    def __init__(self, address):
        host, port = address.split(":")
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect((host, int(port)))
        self.fd = self.socket.fileno()

    def write(self, packet):
        self.socket.send(packet)

    def read(self):
        return [self.socket.recv(65535)]


def told(packet):
    """As JSON: bytes become text."""
    header = MQTTSN(packet)
    fields = dict(header.payload.fields)
    for name, value in fields.items():
        if isinstance(value, bytes):
            fields[name] = value.decode("utf-8", "backslashreplace")
    return json.dumps({"type": PACKET_TYPE.get(header.type, str(header.type)), **fields})


def built(order):
    if isinstance(order, str):
        return bytes.fromhex(order)
    name, fields = order
    if name == "DISCONNECT" and not fields:
        return PLAIN_DISCONNECT
    return bytes(MQTTSN() / TYPES[name](**fields))


def main():
    target = sys.argv[1]
    line = SerialLine(target) if target.startswith("/") else UdpLine(target)
    print("ready", flush=True)
    while True:
        readable, _, _ = select.select([line.fd, sys.stdin], [], [])
        if line.fd in readable:
            for packet in line.read():
                print(told(packet), flush=True)
        if sys.stdin in readable:
            orders = os.read(sys.stdin.fileno(), 65536).decode()
            if not orders:
                return
            for order in orders.splitlines():
                line.write(built(json.loads(order)))


main()
