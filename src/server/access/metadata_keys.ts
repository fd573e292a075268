/** Metadata of calls between the processes of a cluster. */
export const metadataKeys = {
  /**
   * Id of the member that passes a call on. A call that has it is not passed on again. Under an
   * access file it is refused from anybody but a member.
   */
  forwardedBy: "cairn-forwarded-by",
  /** Cluster of that member. */
  cluster: "cairn-cluster",
  /** Name of the caller for whom a member passes a call on. */
  caller: "cairn-caller",
  /** Marks the streams of an ingress process itself, which hand calls of several clients over. */
  ingress: "cairn-ingress",
  /** The client of a call that an ingress process passes through; see ingress_client.ts. */
  client: "cairn-client",
} as const;

/** In place of a caller's name: the member makes the call for itself. No caller can have it. */
export const MEMBER_ITSELF = "!member";
