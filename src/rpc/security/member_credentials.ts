import type { PeerCertificate, SecureContext } from "node:tls";
import * as grpc from "@grpc/grpc-js";
import type { ChannelSettings } from "../channel.js";
import type { Connector } from "../credentials/wrapped_credentials.js";
import { alternativeNames, type NodeName, nodeNamed, nodeUri, plainFingerprint } from "./caller_certificate.js";

// Credentials of connections to members.

/**
 * Name that a member asks for when it connects to another one. A node that has one certificate for
 * clients and another for members answers with the latter. It is no name in a certificate: the
 * member that was meant decides.
 */
export const PEER_SERVER_NAME = "peer.cairn";

/** Makes the credentials of connections to members. */
export interface MemberCredentials {
  /**
   * Returns credentials that accept the certificate of this member alone; that of any member of the
   * cluster when its name is not known.
   */
  to(member: string | undefined): grpc.ChannelCredentials;
  /** The token of the members, where they have no certificates. @internal */
  readonly token?: MemberToken | undefined;
}

/** A token by which members know each other. */
export interface MemberToken {
  readonly text: string;
  /** It is sent to other machines without encryption, too. */
  readonly unencrypted: boolean;
}

/** Credentials of members that have a token in common, and no certificates. */
export class TokenCredentials implements MemberCredentials {
  constructor(readonly token: MemberToken) {}

  to(): grpc.ChannelCredentials {
    return grpc.credentials.createInsecure();
  }
}

/** Returns the settings of a channel to a member: that of its name, if it is known. */
export function settingsTo(
  member: string | undefined,
  settings: ChannelSettings,
  credentials: MemberCredentials | undefined,
): ChannelSettings {
  if (credentials === undefined) return settings;
  const { token } = credentials;
  return {
    ...settings,
    credentials: credentials.to(member),
    ...(token !== undefined && { token: () => token.text, tokenUnencrypted: token.unencrypted }),
  };
}

/** The certificates that connections between members use at present. */
export interface PeerIdentity {
  readonly context: SecureContext;
  readonly node: NodeName;
}

/**
 * Credentials for one member, with the certificates that the node has when it connects. A member is
 * known by the node that its certificate names (T9): its address may be anything.
 */
export class ToMember extends grpc.ChannelCredentials {
  constructor(
    private readonly member: string | undefined,
    /** Returns the certificates to use now. @throws Error when the node has none */
    private readonly identity: () => PeerIdentity,
    /** Whether a certificate was revoked, by its fingerprint. */
    private readonly isRevoked: (fingerprint: string) => boolean = () => false,
  ) {
    super();
  }

  override _isSecure(): boolean {
    return true;
  }

  override _equals(other: grpc.ChannelCredentials): boolean {
    return this === other;
  }

  override _createSecureConnector(
    ...[target, options, callCredentials]: Parameters<grpc.ChannelCredentials["_createSecureConnector"]>
  ): Connector {
    const named = { ...options, "grpc.ssl_target_name_override": PEER_SERVER_NAME };
    const current = () => {
      const { context, node } = this.identity();
      const checkServerIdentity = (_host: string, certificate: PeerCertificate) => this.#check(certificate, node);
      return grpc.credentials
        .createFromSecureContext(context, { checkServerIdentity })
        ._createSecureConnector(target, named, callCredentials);
    };
    const calls = grpc.credentials.createInsecure()._createSecureConnector(target, options, callCredentials);
    return {
      waitForReady: () => Promise.resolve(),
      connect: async (socket) => current().connect(socket),
      getCallCredentials: () => calls.getCallCredentials(),
      destroy: () => {},
    };
  }

  #check({ subjectaltname, fingerprint256 }: PeerCertificate, own: NodeName): Error | undefined {
    if (this.isRevoked(plainFingerprint(fingerprint256))) {
      return new Error("the certificate at the other end is revoked by the access file");
    }
    const found = nodeNamed(alternativeNames(subjectaltname));
    const isMeant = found?.cluster === own.cluster && (this.member === undefined || found.id === this.member);
    if (isMeant) return undefined;
    const wanted = nodeUri({ cluster: own.cluster, id: this.member ?? "<any>" });
    const shown = found === undefined ? "no node" : nodeUri(found);
    return new Error(`the certificate at the other end is for ${shown}, not for ${wanted}`);
  }
}
