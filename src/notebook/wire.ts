import { createHmac, randomUUID, timingSafeEqual } from "node:crypto";
import { LabFailure, RefusedInput } from "../core/errors.js";
import { readJsonFile } from "../core/files.js";

/**
 * The Jupyter wire protocol, version 5.3: https://jupyter-client.readthedocs.io/en/stable/messaging.html
 * Both ends use it: the kernel and the client that runs notebooks.
 */
export const PROTOCOL_VERSION = "5.3";

/** First words of a kernel that could not have one of its ports. */
export const CANNOT_LISTEN = "the kernel cannot listen";

/** A connection file, as Jupyter hands it to a kernel. */
export interface ConnectionInfo {
  transport: string;
  ip: string;
  key: string;
  signature_scheme: string;
  shell_port: number;
  iopub_port: number;
  control_port: number;
  stdin_port: number;
  hb_port: number;
}

export type Channel = "shell" | "iopub" | "control" | "stdin" | "hb";

export interface Header {
  msg_id: string;
  msg_type: string;
  session: string;
  username: string;
  date: string;
  version: string;
}

export interface Message {
  /** ZeroMQ routing prefix; empty on the client's side. */
  identities: Buffer[];
  header: Header;
  /** Header of the request this answers; null for a request. */
  parent: Header | null;
  metadata: Record<string, unknown>;
  content: Record<string, unknown>;
}

/** MIME type to content: text, base64 for pictures, or a JSON value for `+json` types. */
export type MimeBundle = Record<string, unknown>;

const DELIMITER = Buffer.from("<IDS|MSG>");

export function newHeader(type: string, session: string): Header {
  return {
    msg_id: randomUUID(),
    msg_type: type,
    session,
    username: "wise-lab",
    date: new Date().toISOString(),
    version: PROTOCOL_VERSION,
  };
}

/** Frames of one message, signed with `key`; an empty key leaves it unsigned. */
export function encodeMessage(message: Message, key: string): (Buffer | string)[] {
  const parts = [message.header, message.parent ?? {}, message.metadata, message.content].map((part) =>
    JSON.stringify(part),
  );
  return [...message.identities, DELIMITER, sign(parts, key), ...parts];
}

/** @throws {LabFailure} when the frames are no Jupyter message or carry a wrong signature. */
export function decodeMessage(frames: readonly Buffer[], key: string): Message {
  const at = frames.findIndex((frame) => frame.equals(DELIMITER));
  const parts = frames.slice(at + 2, at + 6);
  if (at < 0 || parts.length !== 4) throw new LabFailure("received frames that are no Jupyter message");
  const expected = Buffer.from(sign(parts, key));
  const received = frames[at + 1] as Buffer;
  if (received.length !== expected.length || !timingSafeEqual(received, expected)) {
    throw new LabFailure("received a Jupyter message with a wrong signature");
  }
  const [header, parent, metadata, content] = parts.map((part) => JSON.parse(part.toString()));
  return {
    identities: frames.slice(0, at),
    header,
    parent: "msg_id" in parent ? parent : null,
    metadata,
    content,
  };
}

/** ZeroMQ address of one channel. */
export function channelAddress(connection: ConnectionInfo, channel: Channel): string {
  const separator = connection.transport === "ipc" ? "-" : ":";
  return `${connection.transport}://${connection.ip}${separator}${connection[`${channel}_port`]}`;
}

/** @throws {RefusedInput} when the file is no connection file, or asks for another signature than hmac-sha256. */
export async function readConnectionFile(path: string): Promise<ConnectionInfo> {
  const info = (await readJsonFile(path)) as Partial<ConnectionInfo> | null;
  const ports = [info?.shell_port, info?.iopub_port, info?.control_port, info?.stdin_port, info?.hb_port];
  const scheme = info?.signature_scheme ?? "hmac-sha256";
  if (!info?.transport || !info.ip || ports.some((port) => typeof port !== "number") || scheme !== "hmac-sha256") {
    throw new RefusedInput("not a Jupyter connection file that this kernel can use", {
      where: path,
      found: { transport: info?.transport, ip: info?.ip, ports, signature_scheme: info?.signature_scheme },
      expected: "transport, ip, five ports and signature_scheme hmac-sha256",
    });
  }
  return info as ConnectionInfo;
}

function sign(parts: readonly (Buffer | string)[], key: string): string {
  if (key === "") return "";
  const hash = createHmac("sha256", key);
  for (const part of parts) hash.update(part);
  return hash.digest("hex");
}
