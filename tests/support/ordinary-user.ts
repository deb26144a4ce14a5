/** Nobody: file permissions bind this user, and never bind root, as which many containers run their tests. */
const ORDINARY_USER = 65_534;

/** Runs work under file permissions that hold, whoever runs the tests. Folders it uses must be open to others. */
export async function asOrdinaryUser<T>(work: () => Promise<T>): Promise<T> {
  if (process.geteuid?.() !== 0) return work();
  process.seteuid?.(ORDINARY_USER);
  try {
    return await work();
  } finally {
    process.seteuid?.(0);
  }
}
