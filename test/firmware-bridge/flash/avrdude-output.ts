// avrdude-output: what avrdude 7.1 prints to a pipe, recorded as it flashed an Arduino.
// Path: tests. Touches: nothing.

const HEAD = `
avrdude: AVR device initialized and ready to accept instructions
avrdude: device signature = 0x1e950f (probably m328p)
avrdude: reading input file image.hex for flash
         with 6028 bytes in 1 section within [0, 0x178b]
         using 48 pages and 116 pad bytes
avrdude: writing 6028 bytes flash ...

Writing | `;
const BETWEEN = ` | 100% 0.76s

avrdude: 6028 bytes of flash written
avrdude: verifying flash memory against image.hex

Reading | `;
const TAIL = ` | 100% 1.26s

avrdude: 6028 bytes of flash verified

avrdude done.  Thank you.

`;

/** All of it, as it comes: the bars # by #. */
export const AVRDUDE_GOOD: readonly string[] = [
  HEAD,
  ..."#".repeat(50),
  BETWEEN,
  ..."#".repeat(50),
  TAIL,
];

/** No boot loader answers. */
export const AVRDUDE_BAD = `avrdude: stk500_getsync() attempt 9 of 10: not in sync: resp=0x00
avrdude: stk500_getsync() attempt 10 of 10: not in sync: resp=0x00
avrdude error: unable to open programmer arduino on port /dev/ttyUSB0

avrdude done.  Thank you.

`;

/** A small Intel HEX file. */
export const IMAGE = Buffer.from(":100000000C945D000C9485000C9485000C94850084\n:00000001FF\n");
