import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    root: new URL("..", import.meta.url).pathname,
    include: ["tests/**/*.test.ts"],
    // Processes, not threads: native TensorFlow cannot be loaded by two threads of one process.
    pool: "forks",
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
