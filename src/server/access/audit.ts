import type { CairnErrorCode } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import type { Clock } from "../../system/clock.js";
import type { LogFacts } from "../../system/log_fields.js";
import type { Logger } from "../../system/logger.js";

// Writes the audit: one line in the log for every admin call, and for refusals.

/** A call that the audit tells of. */
export interface AuditedCall {
  /** Name of the caller; "unknown" without valid credentials. */
  readonly caller: string;
  /** The member that passed the call on. */
  readonly via?: string | undefined;
  /** Address and port of the client, or of the member that passed the call on. */
  readonly from: string;
  /** /package.Service/Method */
  readonly method: string;
}

/** A refusal of which equal ones came since it was written. */
interface CountedRefusal {
  readonly facts: LogFacts;
  repeats: number;
}

/**
 * The audit of a node. A refusal is written at once. Equal ones within a window are counted, and
 * told of in one line at its end; so is the number of refusals beyond the first
 * `limits.auditRefusals` different ones. So strangers cannot fill a disk with it.
 */
export class AccessAudit {
  /** The refusals of the window, by caller, method, outcome and host. */
  readonly #refusals = new Map<string, CountedRefusal>();
  #suppressed = 0;
  #endWindow: (() => void) | undefined;

  constructor(
    private readonly logger: Logger,
    private readonly clock: Clock,
  ) {}

  /** Notes the end of an admin call. */
  adminCall(call: AuditedCall, outcome: CairnErrorCode | "OK"): void {
    this.logger.info({ audit: "admin", ...factsOf(call, outcome) }, "an admin call has ended");
  }

  /** Notes a refusal. `missing`: what the caller lacks; of keys, a prefix at most. */
  refused(call: AuditedCall, outcome: CairnErrorCode, missing: string): void {
    const name = JSON.stringify([call.caller, call.via, call.method, outcome, hostOf(call.from)]);
    const known = this.#refusals.get(name);
    if (known !== undefined) known.repeats++;
    else if (this.#refusals.size >= limits.auditRefusals) this.#suppressed++;
    else {
      const facts = factsOf(call, outcome);
      this.#refusals.set(name, { facts, repeats: 0 });
      this.logger.info({ audit: "refused", ...facts, missing }, "a call was refused");
    }
    this.#endWindow ??= this.clock.after(limits.auditWindowMs, () => this.#tellRepeats(), true);
  }

  /** Tells of what was counted, and ends. */
  close(): void {
    this.#endWindow?.();
    this.#tellRepeats();
  }

  #tellRepeats(): void {
    this.#endWindow = undefined;
    for (const { facts, repeats } of this.#refusals.values()) {
      if (repeats > 0) this.logger.info({ audit: "refused", ...facts, repeats }, "the same call was refused again");
    }
    const suppressed = this.#suppressed;
    if (suppressed > 0) {
      const text = "further calls were refused, above the limit auditRefusals of different ones";
      this.logger.info({ audit: "refused", limit: "auditRefusals", times: suppressed }, text);
    }
    this.#refusals.clear();
    this.#suppressed = 0;
  }
}

function factsOf({ caller, via, from, method }: AuditedCall, code: CairnErrorCode | "OK"): LogFacts {
  return { caller, via, address: from, method, code };
}

function hostOf(from: string): string {
  return from.replace(/:\d+$/, "");
}
