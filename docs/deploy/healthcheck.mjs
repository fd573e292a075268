// Asks the node in this container whether it is alive, as the container file's HEALTHCHECK: exit code 0 when it is.
import { get as getHttp } from "node:http";
import { get as getHttps } from "node:https";

const { CAIRN_HTTP = "127.0.0.1:7180", CAIRN_TLS_CERT } = process.env;
const port = CAIRN_HTTP.slice(CAIRN_HTTP.lastIndexOf(":") + 1);
const get = CAIRN_TLS_CERT === undefined ? getHttp : getHttps;
// The certificate is for the names that clients use, and this connection does not leave the container.
const options = { host: "127.0.0.1", port, path: "/healthz", rejectUnauthorized: false, timeout: 2_000 };
const request = get(options, ({ statusCode }) => process.exit(statusCode === 200 ? 0 : 1));
request.on("error", () => process.exit(1));
request.on("timeout", () => process.exit(1));
