// Runs models in the WebAssembly TensorFlow Lite of @tensorflow/tfjs-tflite,
// for the differential test.
//
//   node reference.cjs FOLDER < jobs.json > answers.json
//
// FOLDER is the unpacked package. jobs.json is a list of
// {"model": path, "calls": [[input, ...], ...]} with inputs in base64; the
// answer is a list of {"error": text} or
// {"outputs": [[{"type", "shape", "data"}, ...], ...]}, one list a call.
'use strict';
const fs = require('fs');
const path = require('path');

const wasm = path.join(process.argv[2], 'wasm', 'tflite_web_api_cc_simd');
const load = require(wasm + '.js');
const wasmBinary = fs.readFileSync(wasm + '.wasm');

const bytes = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

async function run(job) {
  // A module of its own for each model: one that aborts takes no other along.
  const module = await load({wasmBinary, print: () => {}, printErr: () => {}});
  const file = fs.readFileSync(job.model);
  const at = module._malloc(file.length);
  module.HEAPU8.set(file, at);
  const list = (vector) => Array.from({length: vector.size()}, (_, i) => vector.get(i));
  const outputs = job.calls.map((inputs) => {
    // A runner of its own for each call: recurrent models keep their state.
    const made = module.TFLiteWebModelRunner.CreateFromBufferAndOptions(at, file.length, {
      numThreads: 1, enableProfiling: false, maxProfilingBufferEntries: 1024,
    });
    if (!made.ok()) throw new Error(made.errorMessage());
    const runner = made.value();
    list(runner.GetInputs()).forEach((tensor, i) => {
      const data = Buffer.from(inputs[i], 'base64');
      const to = bytes(tensor.data());
      if (to.length !== data.length) throw new Error(`input ${i} takes ${to.length} bytes, not ${data.length}`);
      to.set(data);
    });
    if (!runner.Infer()) throw new Error('Infer failed');
    const answer = list(runner.GetOutputs()).map((tensor) => ({
      type: tensor.dataType,
      shape: tensor.shape === '' ? [] : tensor.shape.split(',').map(Number),
      data: Buffer.from(bytes(tensor.data())).toString('base64'),
    }));
    runner.delete();
    return answer;
  });
  return {outputs};
}

(async () => {
  const answers = [];
  for (const job of JSON.parse(fs.readFileSync(0))) {
    try {
      answers.push(await run(job));
    } catch (e) {
      answers.push({error: String(e && e.message || e)});
    }
  }
  process.stdout.write(JSON.stringify(answers));
})();
