"""receiver: a GPS receiver on a pseudo-terminal: gpsfake's own, which replays a log over and over.

Path: nmea.ts → [receiver] → the terminal's reader. Touches: gps.fake, one pseudo-terminal.

    receiver.py LOG SECONDS      the log of a receiver; the pause behind each of its sentences

Prints the terminal's path and how many sentences gpsd's packet sniffer sees in the log. When its
input is closed it falls silent and keeps the port open: a receiver that hangs.
"""

import select
import sys

from gps.fake import FakePTY, TestLoad


def is_told_to_stop():
    return bool(select.select([sys.stdin], [], [], 0)[0])


def main():
    load = TestLoad(sys.argv[1])
    load.delay = float(sys.argv[2])
    receiver = FakePTY(load, speed=9600)
    print(receiver.byname, len(load.sentences), flush=True)
    while not is_told_to_stop():
        receiver.feed()
    select.select([], [], [])


main()
