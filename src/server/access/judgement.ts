import type { MethodRule } from "./method_rules.js";
import type { Openness, Policy } from "./policy.js";
import { isEmpty, type Rights } from "./rights.js";

// Judges callers by the rules of methods.

/** Returns who may call a method; "known": its rule says which caller may. */
export function opennessOf(rule: MethodRule | undefined, policy: Policy): Openness {
  if (rule?.needs === "health") return policy.health;
  return rule?.needs === "reflection" ? policy.reflection : "known";
}

/** Returns whether a caller may call a method, before any key of the call is looked at. */
export function isAllowed({ needs, byAdmins, byMembers }: MethodRule, { keys, isAdmin, isPeer }: Rights): boolean {
  if (isPeer) return byMembers === true;
  if (isAdmin && byAdmins === true) return true;
  switch (needs) {
    case "reader":
    case "writer":
      return !isEmpty(keys[needs]);
    case "reader of all keys":
      return keys.reader === "all";
    case "writer of all keys":
      return keys.writer === "all";
    case "admin":
      return isAdmin;
    case "known":
    case "health":
    case "reflection":
      return isAdmin || !isEmpty(keys.reader);
    case "peer":
      return false;
  }
}

/** Names what a caller lacks that may not call a method. */
export function lackOf({ needs }: MethodRule): string {
  switch (needs) {
    case "reader":
    case "writer":
      return `role ${needs}`;
    case "known":
    case "health":
    case "reflection":
      return "place of a caller in the access file";
    default:
      return `role ${needs.replace(" of ", " for ")}`;
  }
}
