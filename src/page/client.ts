import type { CallName, FromWorker, News, Received, Sent, ToWorker } from "./messages.js";

/** A call that ended otherwise than it should. */
export class CallEnded extends Error {
  constructor(
    message: string,
    /** "stopped" by the user, "refused" for what was asked, or "failed". */
    readonly kind: string,
  ) {
    super(message);
  }
}

/** The page's side of its worker. */
export interface Client {
  call<N extends CallName>(name: N, sent: Sent<N>): Promise<Received<N>>;
  /** Ends the work at hand between two steps. */
  stop(): void;
}

/** Starts the worker from its script as text: a page that is opened from a disk can load no other file. */
export function startClient(script: string, onNews: (news: News) => void): Client {
  const url = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  const worker = new Worker(url);
  const open = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  let next = 0;
  const failAll = (message: string) => {
    for (const { reject } of open.values()) reject(new CallEnded(message, "failed"));
    open.clear();
  };
  worker.onerror = (event) => failAll(event.message || "the worker of this page ended");
  worker.onmessage = ({ data }: MessageEvent<FromWorker>) => {
    if ("news" in data) {
      onNews(data.news);
      return;
    }
    const call = open.get(data.id);
    open.delete(data.id);
    if ("refused" in data) call?.reject(new CallEnded(data.refused, data.kind));
    else call?.resolve(data.received);
  };
  const post = (message: ToWorker) => worker.postMessage(message);
  return {
    call: (name, sent) =>
      new Promise((resolve, reject) => {
        next += 1;
        open.set(next, { resolve: resolve as (value: unknown) => void, reject });
        post({ id: next, name, sent });
      }),
    stop: () => post({ stop: true }),
  };
}
