import { CairnError } from "../base/errors.js";
import type { CallContext } from "../rpc/call_context.js";
import { type CallerCertificate, describeCaller, type NodeName } from "../rpc/security/caller_certificate.js";

/** The node as its own certificate names it. */
export interface OwnName {
  /** Undefined when the node knows no authority of members: then nobody is its peer. */
  readonly node: NodeName | undefined;
}

/** The caller of RaftService, by its certificate. */
export interface AdmittedPeer {
  /**
   * Checks that a message is in the name of the caller's own node.
   * @param field the message's field that names its sender
   * @throws CairnError PERMISSION_DENIED
   */
  assertIs(name: string, field: string): void;
}

/** Judges who may use the service for peers, and for which node each of them speaks. */
export interface PeerAdmission {
  /** @throws CairnError PERMISSION_DENIED for a caller that is no member of this node's cluster */
  admit(context: Pick<CallContext, "certificate">): AdmittedPeer;
}

/** Admits every caller: the nodes have no certificates. */
export const openAdmission: PeerAdmission = { admit: () => ({ assertIs() {} }) };

/**
 * Admits the members of this node's cluster, each in its own name (T9): a certificate of n2 does
 * not speak as n3, nor in another cluster. `refused` is told of every other caller.
 */
export class CertificateAdmission implements PeerAdmission {
  constructor(
    private readonly own: OwnName,
    private readonly refused: (caller: string, reason: string) => void,
  ) {}

  admit({ certificate }: Pick<CallContext, "certificate">): AdmittedPeer {
    const { node: own } = this.own;
    const node = certificate?.authority === "peer" ? certificate.node : undefined;
    if (own === undefined) throw this.#denied(certificate, "this node has no authority of members (--tls-peer-ca)");
    if (node === undefined) throw this.#denied(certificate, "RaftService is for members, by their certificates");
    if (node.cluster !== own.cluster) throw this.#denied(certificate, `this node is of cluster ${own.cluster}`);
    return {
      assertIs: (name, field) => {
        if (name === node.id) return;
        throw this.#denied(certificate, `${field} names ${JSON.stringify(name)}, and the certificate ${node.id}`);
      },
    };
  }

  #denied(certificate: CallerCertificate | undefined, reason: string): CairnError {
    const caller = describeCaller(certificate);
    this.refused(caller, reason);
    return new CairnError("PERMISSION_DENIED", `${caller} is refused: ${reason}`);
  }
}
