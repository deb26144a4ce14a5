/** The package is optional: types are checked also where it is absent. */
declare module "@tensorflow/tfjs-backend-webgpu" {
  export const WebGPUBackend: import("./webgpu.js").WebgpuBackendClass;
}
