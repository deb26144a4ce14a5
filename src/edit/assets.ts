import type { Asset, AssetControl, AssetOwner, PreparedMethod } from "./contract.js";

/** Opens the side data that a method needs. @throws {RefusedInput} when it is not there, or belongs to another model */
export async function openAssets(
  { needs }: Pick<PreparedMethod, "needs">,
  owner: AssetOwner,
  control?: AssetControl,
): Promise<Map<string, Asset>> {
  const assets = new Map<string, Asset>();
  for (const need of needs.assets) assets.set(need.name, await need.open(owner, control));
  return assets;
}

/** sha256 of side data, by name. */
export function assetHashes(assets: ReadonlyMap<string, Asset>): Record<string, string> {
  return Object.fromEntries([...assets].map(([name, { sha256 }]) => [name, sha256]));
}
