import { StringDecoder } from "node:string_decoder";

export type StreamName = "stdout" | "stderr";

/** Longest time that text waits. Below it the text of many writes goes as one message: 20,000 lines are a few dozen. */
const FLUSH_EVERY_MS = 50;

/**
 * Gathers what cells print and hands it on in order, in few messages. A change of stream starts a new message.
 * It also flushes from inside `write`, so that a loop that never lets timers run still shows its output.
 */
export class StreamBuffer {
  readonly #send: (name: StreamName, text: string) => void;
  readonly #decoders = { stdout: new StringDecoder("utf8"), stderr: new StringDecoder("utf8") };
  #name: StreamName = "stdout";
  #text = "";
  #timer: NodeJS.Timeout | null = null;
  #flushedAt = 0;

  constructor(send: (name: StreamName, text: string) => void) {
    this.#send = send;
  }

  write(name: StreamName, chunk: string | Uint8Array): void {
    const text = typeof chunk === "string" ? chunk : this.#decoders[name].write(chunk);
    if (text === "") return;
    if (name !== this.#name) this.flush();
    this.#name = name;
    this.#text += text;
    if (performance.now() - this.#flushedAt >= FLUSH_EVERY_MS) this.flush();
    else this.#timer ??= setTimeout(() => this.flush(), FLUSH_EVERY_MS);
  }

  flush(): void {
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
    if (this.#text === "") return;
    const text = this.#text;
    this.#text = "";
    this.#flushedAt = performance.now();
    this.#send(this.#name, text);
  }
}

/** Sends what this process prints through `console` and `process.stdout` into the buffer, from now on. */
export function captureStandardStreams(buffer: StreamBuffer): void {
  for (const name of ["stdout", "stderr"] as const) {
    process[name].write = (
      chunk: string | Uint8Array,
      encodingOrDone?: BufferEncoding | ((error?: Error | null) => void),
      done?: (error?: Error | null) => void,
    ): boolean => {
      const encoding = typeof encodingOrDone === "string" ? encodingOrDone : "utf8";
      const isText = typeof chunk === "string" && encoding !== "utf8" && encoding !== "utf-8";
      buffer.write(name, isText ? Buffer.from(chunk, encoding) : chunk);
      const callback = typeof encodingOrDone === "function" ? encodingOrDone : done;
      if (callback) process.nextTick(callback);
      return true;
    };
  }
}
