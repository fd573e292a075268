import { limits } from "../../base/limits.js";
import type { CertificateInfo } from "./tls_material.js";

// Warns of certificates that are about to end.

/** The part of a certificate that tells when it ends. */
type DatedCertificate = Omit<CertificateInfo, "names">;

const DAY_MS = 24 * 3_600_000;

/**
 * Share of its life that a certificate must have left: one for a day is not always about to end.
 */
const LIFE_LEFT = 1 / 3;

/** Days before the end of a certificate at which a further warning is logged. */
const FURTHER_DAYS = [7, 1, 0];

/** Returns the whole days until the end of a certificate; below 0 after it. */
export function daysLeft({ expiresMs }: DatedCertificate, nowMs: number): number {
  return Math.floor((expiresMs - nowMs) / DAY_MS);
}

/** Describes a certificate that ends soon, or has ended; undefined for any other. */
export function expiryWarning(info: DatedCertificate, nowMs: number): string | undefined {
  const { startsMs, expiresMs } = info;
  const leastMs = Math.min(limits.certificateWarningDays * DAY_MS, (expiresMs - startsMs) * LIFE_LEFT);
  if (expiresMs - nowMs >= leastMs) return undefined;
  const days = daysLeft(info, nowMs);
  const at = new Date(expiresMs).toISOString();
  const when = days < 0 ? `has ended at ${at}` : `ends at ${at}, ${remaining(days)}`;
  return `the certificate of ${info.subject} in ${info.file} ${when}: replace the file`;
}

function remaining(days: number): string {
  if (days === 0) return "within a day";
  return days === 1 ? "in 1 day" : `in ${days} days`;
}

/** Remembers which warnings were logged, so that each step is logged once. */
export class ExpiryWatch {
  /** The step that was told last, by certificate. */
  #told = new Map<string, number>();

  /** Returns the warnings to log now. */
  look(certificates: readonly DatedCertificate[], nowMs: number): string[] {
    const told = new Map<string, number>();
    const due: string[] = [];
    for (const info of certificates) {
      const warning = expiryWarning(info, nowMs);
      if (warning === undefined) continue;
      const days = daysLeft(info, nowMs);
      const step = [limits.certificateWarningDays, ...FURTHER_DAYS].filter((each) => days < each).length;
      const key = `${info.use} ${info.file} ${info.expiresMs}`;
      if (this.#told.get(key) !== step) due.push(warning);
      told.set(key, step);
    }
    this.#told = told;
    return due;
  }
}
