import { isLoopback } from "../base/addresses.js";
import { CairnError } from "../base/errors.js";
import { checkToken, wouldShowToken } from "../rpc/security/bearer_token.js";
import { type MemberCredentials, TokenCredentials } from "../rpc/security/member_credentials.js";
import { AccessControl } from "../server/access/access_control.js";
import type { Logger } from "../system/logger.js";
import type { MemberOptions } from "./member.js";
import type { MemberNode } from "./world.js";

// Opens the access file of a member, and refuses settings under which it could not be safe.

/** The settings of a member that concern access. */
export interface AccessSettings {
  readonly access?: string | undefined;
  readonly peerToken?: string | undefined;
  readonly tls?: object | undefined;
  readonly insecure?: boolean | undefined;
  readonly node: { readonly logger?: Logger | undefined };
  readonly member: Pick<MemberOptions<MemberNode>, "claim" | "join">;
}

/** Returns whether a member founds its cluster with others, or comes to one. */
export function comesToOthers({ claim, join }: Pick<MemberOptions<MemberNode>, "claim" | "join">): boolean {
  return join !== undefined || (claim.founders?.length ?? 0) > 1;
}

/**
 * Opens the access file, if there is one.
 * @throws CairnError INVALID_ARGUMENT for a file that is not valid, and when members could not
 * prove to each other that they are members; FAILED_PRECONDITION when their token would travel
 * unencrypted to another machine
 */
export function openAccess(settings: AccessSettings): AccessControl | undefined {
  const { access: file, peerToken, tls, member, node } = settings;
  checkPeerToken(settings);
  if (file === undefined) return undefined;
  const peerProof = tls === undefined ? "token" : "certificate";
  const access = AccessControl.open({ file, peerProof, logger: node.logger });
  if (tls !== undefined) return access;
  const problem = tokenProblem(access, peerToken, comesToOthers(member));
  if (problem === undefined) return access;
  access.close();
  throw new CairnError("INVALID_ARGUMENT", `access file ${file}: ${problem}`);
}

/** Returns the credentials of connections to members that have no certificates; undefined: none. */
export function tokenCredentials({ peerToken, insecure = false }: AccessSettings): MemberCredentials | undefined {
  return peerToken === undefined ? undefined : new TokenCredentials({ text: peerToken, unencrypted: insecure });
}

/** @throws CairnError INVALID_ARGUMENT, LIMIT_EXCEEDED */
function checkPeerToken({ peerToken, tls, insecure = false, member }: AccessSettings): void {
  if (peerToken === undefined) return;
  checkToken(peerToken);
  if (tls === undefined) {
    const { claim, join = [] } = member;
    const addresses = [...join, ...(claim.founders ?? []).map(({ address }) => address)];
    const open = addresses.find((address) => !isLoopback(address));
    if (open !== undefined && !insecure) throw wouldShowToken(open);
    return;
  }
  const text = "members prove themselves by their certificates when there is TLS, and need no token";
  throw new CairnError("INVALID_ARGUMENT", `${text}: leave the token of the members out (--peer-token-file)`);
}

function tokenProblem(access: AccessControl, peerToken: string | undefined, hasOthers: boolean): string | undefined {
  if (peerToken === undefined) {
    if (!hasOthers) return undefined;
    return (
      "the members could not prove to each other that they are members: use TLS between them (--tls-peer-ca), or give each " +
      "the token of a caller with the role peer (--peer-token-file)"
    );
  }
  if (access.policy.withToken(peerToken)?.isPeer === true) return undefined;
  return "no caller with the role peer has the token of --peer-token-file: the other members would refuse this one";
}
