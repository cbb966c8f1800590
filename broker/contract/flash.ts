// flash: what is told while an image is brought onto a device.
// Path: firmware-bridge → flash → [events] → cli, MQTT. Touches: nothing.

/** done, failed and refused are final: refused before anything was touched, failed after. */
export type FlashEvent =
  | {
      readonly state: "accepted";
      readonly link: string;
      readonly bytes: number;
      /** Of the image, in hexadecimal. */
      readonly sha256: string;
    }
  | {
      readonly state: "progress";
      readonly link: string;
      readonly step: FlashStep;
      /** 0 to 100, of the step. */
      readonly percent: number;
    }
  | {
      readonly state: "done";
      readonly link: string;
      readonly bytes: number;
      readonly sha256: string;
      readonly tookMs: number;
    }
  | {
      readonly state: "failed" | "refused";
      readonly link: string;
      readonly reason: string;
    };

export type FlashStep = "reading" | "writing" | "verifying";

/** The header of the request that has the image, with its detached signature in base64. */
export const SIGNATURE_HEADER = "sluice-signature";

/** Filter of the commands to flash, where the settings allow them. */
export const FLASH_COMMANDS = "sluice/flash/+/set";

export function isFinal({ state }: FlashEvent): boolean {
  return state === "done" || state === "failed" || state === "refused";
}
