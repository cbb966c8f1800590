// decimal: numbers as they are written, so that a tenth of 231 is 23.1 and nothing else.
// Path: [decimal] → values. Touches: nothing.

/** `digits` times ten to the power of `exponent`; no zeros at the end of the digits. */
export interface Decimal {
  readonly digits: bigint;
  readonly exponent: number;
}

/** A command's payload must not make us count to ten to the power of a billion. */
const TEXT_LENGTH_MAX = 64;
/** No type of a register reaches further. */
const EXPONENT_MAX = 400;
/** Beyond so many places before or behind the point, `1e+30` is easier to read. */
const PLAIN_PLACES_MAX = 40;
/** Twice the digits that a float64 can tell apart. */
const QUOTIENT_DIGITS = 34;

// JSON's numbers (RFC 8259 §6), and a sign in front.
const NUMBER = /^([+-]?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d{1,3}))?$/;

export function decimal(digits: bigint, exponent = 0): Decimal {
  if (digits === 0n) return { digits, exponent: 0 };
  let shorter = digits;
  let power = exponent;
  while (shorter % 10n === 0n) {
    shorter /= 10n;
    power += 1;
  }
  return { digits: shorter, exponent: power };
}

/** The number that the text is; undefined when it is none, or out of all measure. */
export function parseDecimal(text: string): Decimal | undefined {
  if (text.length > TEXT_LENGTH_MAX) return undefined;
  const [, sign, whole, fraction = "", power = "0"] = NUMBER.exec(text) ?? [];
  if (whole === undefined || Math.abs(Number(power)) > EXPONENT_MAX) return undefined;
  const digits = BigInt(whole + fraction);
  return decimal(sign === "-" ? -digits : digits, Number(power) - fraction.length);
}

/** The shortest decimal that is this number; undefined for NaN and the infinities. */
export function decimalOf(number: number): Decimal | undefined {
  return parseDecimal(String(number));
}

/** As JSON has it, with all its digits. */
export function formatDecimal({ digits, exponent }: Decimal): string {
  const sign = digits < 0n ? "-" : "";
  const text = String(digits < 0n ? -digits : digits);
  const point = text.length + exponent;
  if (point > PLAIN_PLACES_MAX || point < -PLAIN_PLACES_MAX) {
    const fraction = text.length > 1 ? `.${text.slice(1)}` : "";
    return `${sign}${text[0]}${fraction}e${point - 1}`;
  }
  if (exponent >= 0) return `${sign}${text}${"0".repeat(exponent)}`;
  const padded = text.padStart(1 - exponent, "0");
  return `${sign}${padded.slice(0, exponent)}.${padded.slice(exponent)}`;
}

export function times(a: Decimal, b: Decimal): Decimal {
  return decimal(a.digits * b.digits, a.exponent + b.exponent);
}

export function plus(a: Decimal, b: Decimal): Decimal {
  const exponent = Math.min(a.exponent, b.exponent);
  return decimal(scaled(a, exponent) + scaled(b, exponent), exponent);
}

export function minus(a: Decimal, b: Decimal): Decimal {
  return plus(a, { digits: -b.digits, exponent: b.exponent });
}

/** Less than 0, 0 or more than 0, as `a` is less than, the same as or more than `b`. */
export function compare(a: Decimal, b: Decimal): number {
  const { digits } = minus(a, b);
  return digits < 0n ? -1 : digits > 0n ? 1 : 0;
}

/** How often `b`, which is not 0, goes into `a`; undefined when there is a rest. */
export function wholeQuotient(a: Decimal, b: Decimal): bigint | undefined {
  const exponent = Math.min(a.exponent, b.exponent);
  const numerator = scaled(a, exponent);
  const denominator = scaled(b, exponent);
  return numerator % denominator === 0n ? numerator / denominator : undefined;
}

/** The float64 that is nearest to `a` divided by `b`, which is not 0. */
export function nearestQuotient(a: Decimal, b: Decimal): number {
  const quotient = (a.digits * 10n ** BigInt(QUOTIENT_DIGITS + String(b.digits).length)) / b.digits;
  const exponent = a.exponent - b.exponent - QUOTIENT_DIGITS - String(b.digits).length;
  return Number(`${quotient}e${exponent}`);
}

function scaled({ digits, exponent }: Decimal, to: number): bigint {
  return digits * 10n ** BigInt(exponent - to);
}
