import { Command, InvalidArgumentError, Option } from "commander";
import { idText, nonEmpty, wholeNumber } from "../../options/options.js";

/** Options of every command that makes certificates. */
export interface MakeOptions {
  readonly out: string;
  readonly days: number;
  readonly force?: true;
  readonly json?: true;
}

export interface AuthorityOptions extends MakeOptions {
  readonly name: string;
}

export interface NodeCertificateOptions extends MakeOptions {
  readonly authority: string;
  readonly id: string;
  readonly clusterId: string;
  readonly host: readonly string[];
}

export interface ClientCertificateOptions extends MakeOptions {
  readonly authority: string;
  readonly name: string;
  readonly san?: readonly string[];
}

export interface DevOptions extends MakeOptions {
  readonly nodes: readonly string[];
  readonly clients: readonly string[];
  readonly clusterId: string;
  readonly host: readonly string[];
}

/** Lifetimes in days: an authority outlives what it signs. */
const AUTHORITY_DAYS = 3650;
const CERTIFICATE_DAYS = 365;
const DAYS_MAX = 36_500;

/** Hosts of a cluster on one machine. */
const LOCAL_HOSTS = ["127.0.0.1", "localhost", "::1"];

const HELP = `
Keys are on the curve P-256, and only their user may read the files. An existing file is replaced only with --force. For production, take an
authority that you operate already: what a certificate must hold is in docs/certificates.md.

Examples:
  cairn certs dev --out certs
  cairn certs authority --out ca/peers --name "Peers of orders"
  cairn certs node --authority ca/peers --id n1 --cluster-id orders --host 10.0.0.1,db1.example --out certs
  cairn certs authority --out ca/clients --name "Clients of orders"
  cairn certs client --authority ca/clients --name alice --out certs
  cairn certs show certs/n1.crt`;

const DEV_HELP = `
Makes two authorities, one of the nodes and one of the clients, and a certificate for each node and client. All nodes get the same hosts.

Example:
  cairn certs dev --out certs --nodes n1,n2,n3 --clients admin,alice
  cairn cluster --certs certs`;

/** Defines `cairn certs`, which makes certificates. */
export function certsCommand(): Command {
  const certs = new Command("certs")
    .description("Make certificates for TLS: an authority, and what it signs for nodes and clients.")
    .addHelpText("after", HELP);
  making(certs, "authority", "Make an authority: authority.crt and authority.key.", AUTHORITY_DAYS)
    .option("--name <name>", "its common name", nonEmpty, "Cairn authority")
    .action(async (options: AuthorityOptions) => (await work()).makeAuthorityFiles(options));
  making(certs, "node", "Make a node's certificate, for clients and for the other nodes: ID.crt and ID.key.")
    .addOption(authority())
    .requiredOption("--id <id>", "name of the node, as in cairn start --id", idText)
    .requiredOption("--cluster-id <name>", "name of the cluster in certificates, the same for all its nodes", idText)
    .addOption(hosts().makeOptionMandatory())
    .action(async (options: NodeCertificateOptions) => (await work()).makeNodeFiles(options));
  making(certs, "client", "Make a client's certificate: NAME.crt and NAME.key.")
    .addOption(authority())
    .requiredOption("--name <name>", "its common name, which roles refer to", nonEmpty)
    .option("--san <list>", "further names: DNS:host,IP:address,URI:uri,EMAIL:address", nameList)
    .action(async (options: ClientCertificateOptions) => (await work()).makeClientFiles(options));
  making(
    certs,
    "dev",
    "Make all certificates of a development cluster, with one authority for nodes and one for clients.",
  )
    .option("--nodes <list>", "names of the nodes", idList, ["n1", "n2", "n3"])
    .option("--clients <list>", "names of the clients", nameList, ["admin"])
    .option("--cluster-id <name>", "name of the cluster in certificates", idText, "dev")
    .addOption(hosts().default(LOCAL_HOSTS, LOCAL_HOSTS.join(",")))
    .addHelpText("after", DEV_HELP)
    .action(async (options: DevOptions) => (await work()).makeDevFiles(options));
  certs
    .command("show")
    .description("Show the certificates in a PEM file: names, validity, what they may be used for.")
    .argument("<file>", "the file", nonEmpty)
    .option("--json", "print JSON")
    .action(async (file: string, options: { readonly json?: true }) => (await work()).showFile(file, options));
  return certs;
}

/** The library that makes certificates takes long to load. */
function work(): Promise<typeof import("./make_certs.js")> {
  return import("./make_certs.js");
}

function making(certs: Command, name: string, description: string, days = CERTIFICATE_DAYS): Command {
  return certs
    .command(name)
    .description(description)
    .requiredOption("--out <dir>", "directory for the files, created when it does not exist", nonEmpty)
    .option("--days <n>", "days until it expires; never later than its authority", wholeNumber(1, DAYS_MAX), days)
    .option("--force", "replace existing files")
    .option("--json", "print JSON");
}

function authority(): Option {
  return new Option("--authority <dir>", "directory of the authority that signs it")
    .argParser(nonEmpty)
    .makeOptionMandatory();
}

function hosts(): Option {
  return new Option("--host <list>", "DNS names and IP addresses at which others reach the node").argParser(nameList);
}

function nameList(text: string): string[] {
  const names = text.split(",").map((part) => part.trim());
  if (names.every((name) => name !== "") && new Set(names).size === names.length) return names;
  throw new InvalidArgumentError("expected a list as a,b,c, without repetitions");
}

function idList(text: string): string[] {
  return nameList(text).map(idText);
}
