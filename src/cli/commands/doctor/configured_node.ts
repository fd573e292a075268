import { CairnError } from "../../../base/errors.js";
import type { NodeTlsFiles } from "../../../server/node_security.js";
import { applyConfigFile } from "../../options/config_file.js";
import { tlsOf } from "../../options/node_tls.js";
import type { StartOptions } from "../../options/start_settings.js";
import { startCommand } from "../start.js";

/** The part of a config file that the doctor looks at. */
export interface ConfiguredNode {
  readonly id: string | undefined;
  /** Its TLS files; undefined when it is configured without TLS. */
  readonly tls: NodeTlsFiles | undefined;
}

/**
 * Reads a config file as `cairn start` does, without the environment.
 * @throws CairnError INVALID_ARGUMENT when a start would refuse it
 */
export function configuredNode(path: string): ConfiguredNode {
  const command = startCommand().configureOutput({ outputError: () => {}, writeErr: () => {} });
  command.exitOverride(({ message }) => {
    throw new CairnError("INVALID_ARGUMENT", message.replace(/^error: /, ""));
  });
  applyConfigFile(command, path);
  const options = command.opts<StartOptions>();
  const { tls } = tlsOf(options, (text) => {
    throw new CairnError("INVALID_ARGUMENT", `config file ${path}: ${text}`);
  });
  return { id: options.id, tls };
}
