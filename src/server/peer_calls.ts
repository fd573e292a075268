import { RaftService } from "../../gen/cairn/v1/raft_pb.js";
import { limits } from "../base/limits.js";
import type { RaftView } from "../node/views.js";
import type { FloodGuardOptions } from "../rpc/floods/flood_guard.js";
import { certificateOf } from "../rpc/security/connections.js";
import type { NodeTls } from "../rpc/security/node_tls.js";
import type { AccessControl } from "./access/access_control.js";

const PEER_PATH = `/${RaftService.typeName}/`;

/** The facts by which a node knows members of its cluster. */
export interface PeerProofs {
  readonly node: { readonly raft: Pick<RaftView, "membership"> };
  readonly security: NodeTls | undefined;
  readonly access: AccessControl | undefined;
}

/**
 * Tells the guard against floods which calls are those of peers: by certificate; else by the token
 * of a peer, if there is an access file; else by the service alone. Without certificates, the
 * number of members bounds the connections that may be those of peers.
 */
export function peerCalls({ node, security, access }: PeerProofs): Pick<FloodGuardOptions, "isPeer" | "peerRoom"> {
  if (security !== undefined) {
    return {
      isPeer(path, session) {
        if (!path.startsWith(PEER_PATH)) return false;
        const certificate = certificateOf(session);
        const cluster = security.node?.cluster;
        return certificate?.authority === "peer" && cluster !== undefined && certificate.node?.cluster === cluster;
      },
    };
  }
  return {
    isPeer: (path, _session, { authorization }) =>
      path.startsWith(PEER_PATH) && (access === undefined || access.isPeerToken(authorization)),
    peerRoom() {
      const { length } = node.raft.membership.members;
      return length * limits.peerConnectionsPerMember + limits.peerConnectionsSpare;
    },
  };
}
