import type { BackendName } from "../tensor/backend.js";
export async function startCommand(_o: { out?: string; save?: boolean; backend?: BackendName }, _s: AbortSignal): Promise<number> { return 0; }
