/// <reference types="vitest/config" />
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

// The page is served by the hub from agentpipe/web. Names in assets/ carry a hash of their content, so that the hub lets
// browsers keep them; two builds of the same sources give the same bytes under the same names.
export default defineConfig({
  base: "./", // works behind a path prefix too
  plugins: [svelte()],
  build: {
    outDir: "../agentpipe/web",
    emptyOutDir: true,
    target: "es2023",
    assetsInlineLimit: 0, // no data: addresses; the policy of the page allows files of its own origin only
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    rolldownOptions: {
      output: {
        entryFileNames: "assets/[name]-[hash].js",
        chunkFileNames: "assets/[name]-[hash].js",
        assetFileNames: "assets/[name]-[hash][extname]",
      },
    },
  },
  server: {
    // `npm run dev` against a hub on this machine: AGENTPIPE_HUB=http://127.0.0.1:8765
    proxy: Object.fromEntries(
      ["/api", "/ws"].map((path) => [path, { target: process.env["AGENTPIPE_HUB"] ?? "http://127.0.0.1:8765", ws: true }]),
    ),
  },
  test: { environment: "node", include: ["src/**/*.test.ts"], reporters: ["default"] },
});
