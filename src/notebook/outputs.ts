import type { CodeCell, Output } from "./nbformat.js";
import type { Message, MimeBundle } from "./wire.js";

/** Turns a kernel's messages into the outputs of cells, as a notebook front end does. */
export class OutputCollector {
  #cell: CodeCell | null = null;
  /** A clear_output with `wait`: the next output takes the place of all before it. */
  #clearNext = false;
  /** Outputs by display id. An update changes all of them, in whatever cell. */
  readonly #displays = new Map<string, Extract<Output, { output_type: "display_data" }>[]>();

  /** From now on messages belong to this cell. */
  begin(cell: CodeCell): void {
    this.#cell = cell;
    this.#clearNext = false;
  }

  take({ header, content }: Message): void {
    const cell = this.#cell;
    if (!cell) return;
    switch (header.msg_type) {
      case "execute_input":
        cell.execution_count = Number(content.execution_count);
        break;
      case "stream":
        this.#addText(cell, String(content.name), String(content.text));
        break;
      case "clear_output":
        if (content.wait === true) this.#clearNext = true;
        else cell.outputs = [];
        break;
      case "update_display_data":
        this.#update(content);
        break;
      case "display_data":
        this.#addDisplay(cell, content);
        break;
      case "execute_result":
        this.#add(cell, {
          output_type: "execute_result",
          ...readBundle(content),
          execution_count: Number(content.execution_count),
        });
        break;
      case "error": {
        const { ename, evalue, traceback } = content as { ename: string; evalue: string; traceback: string[] };
        this.#add(cell, { output_type: "error", ename, evalue, traceback });
        break;
      }
    }
  }

  #addText(cell: CodeCell, name: string, text: string): void {
    const last = cell.outputs.at(-1);
    if (last?.output_type === "stream" && last.name === name && !this.#clearNext) last.text += text;
    else this.#add(cell, { output_type: "stream", name, text });
  }

  #addDisplay(cell: CodeCell, content: Record<string, unknown>): void {
    const output = { output_type: "display_data" as const, ...readBundle(content) };
    const id = displayId(content);
    if (id !== undefined) this.#displays.set(id, [...(this.#displays.get(id) ?? []), output]);
    this.#add(cell, output);
  }

  #update(content: Record<string, unknown>): void {
    for (const output of this.#displays.get(displayId(content) ?? "") ?? []) Object.assign(output, readBundle(content));
  }

  #add(cell: CodeCell, output: Output): void {
    if (this.#clearNext) cell.outputs = [];
    this.#clearNext = false;
    cell.outputs.push(output);
  }
}

function readBundle(content: Record<string, unknown>): { data: MimeBundle; metadata: Record<string, unknown> } {
  return { data: content.data as MimeBundle, metadata: (content.metadata ?? {}) as Record<string, unknown> };
}

function displayId(content: Record<string, unknown>): string | undefined {
  return (content.transient as { display_id?: string } | undefined)?.display_id;
}
