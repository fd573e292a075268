import type * as grpc from "@grpc/grpc-js";
import { limits } from "../base/limits.js";
import type { ChannelSettings } from "./channel.js";
import { nameMessageLimit, refuseMalformedCalls, statusWithAnswer } from "./status.js";

// Options of grpc-js for Cairn's servers and channels.

/** Options of both ends of a connection. */
const connectionOptions = {
  "grpc.max_send_message_length": limits.messageBytes,
  "grpc.max_receive_message_length": limits.messageBytes,
  /**
   * A silent connection is probed after this many ms, and closed when the probe is not answered in
   * time.
   */
  "grpc.keepalive_time_ms": 10_000,
  "grpc.keepalive_timeout_ms": 10_000,
} as const;

/** All options of a Cairn server. */
export const serverOptions: grpc.ServerOptions = {
  ...connectionOptions,
  "grpc.max_concurrent_streams": limits.streamsPerConnection,
  /** forceShutdown() needs this bookkeeping to know the connections that it must close. */
  "grpc.enable_channelz": 1,
  interceptors: [nameMessageLimit, refuseMalformedCalls, statusWithAnswer],
};

/** All options of a Cairn client's channel. */
export const channelOptions: grpc.ChannelOptions = {
  ...connectionOptions,
  "grpc.keepalive_permit_without_calls": 1,
  /** Bookkeeping for a debugging service that Cairn does not offer. */
  "grpc.enable_channelz": 0,
  /**
   * By default grpc-js waits up to two minutes between attempts; a restarted peer must be found
   * sooner.
   */
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 1_000,
  "grpc.dns_min_time_between_resolutions_ms": 1_000,
  "grpc.service_config_disable_resolution": 1,
  "grpc.enable_http_proxy": 0,
  /** The code above decides about retries: a repeated write must carry a request id. */
  "grpc.enable_retries": 0,
  /**
   * With a retry buffer, a write counts as done once it is in that buffer, and a slow receiver does
   * not slow its sender.
   */
  "grpc.per_rpc_retry_buffer_size": 0,
  /**
   * A channel does not share its connection: its attempts and their backoff do not depend on other
   * channels to the same address.
   */
  "grpc.use_local_subchannel_pool": 1,
  /** Bytes in flight to a client that has not read yet, for each stream and for the connection. */
  "grpc-node.flow_control_window": 1024 * 1024,
};

/**
 * Settings of a channel to a peer. The node notices within seconds whether a peer is reachable, and
 * finds a peer within a second of its return.
 */
export const peerChannelSettings: ChannelSettings = {
  connectTimeoutMs: limits.peerConnectMs,
  options: {
    ...channelOptions,
    "grpc.keepalive_time_ms": limits.peerPingMs,
    "grpc.keepalive_timeout_ms": limits.peerPingTimeoutMs,
    "grpc.initial_reconnect_backoff_ms": 50,
    "grpc.max_reconnect_backoff_ms": 300,
  },
};
