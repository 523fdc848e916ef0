// The Node.js way from an MQTT message to a result, as one file: mqtt.js and
// tfjs-tflite-node, its interpreter called without the tensors of
// TensorFlow.js between, which is its fastest way.
//
//   node gateway.js tcp://127.0.0.1:1883 model.tflite json|raw
'use strict';
require('@tensorflow/tfjs-backend-cpu');
const mqtt = require('mqtt');
const tflite = require('tfjs-tflite-node');

const [url, file, form] = process.argv.slice(2);

async function main() {
  const model = await tflite.loadTFLiteModel(file, {numThreads: 1});
  const runner = model.modelRunner;
  const input = runner.getInputs()[0], output = runner.getOutputs()[0];
  const into = input.data();
  const client = mqtt.connect(url);
  client.on('connect', () => client.subscribe('peer/in/+', {qos: 1}, () => console.log('ready')));
  client.on('message', (topic, payload, packet) => {
    if (form === 'json') {
      into.set(JSON.parse(payload).v);
    } else {
      into.set(new into.constructor(payload.buffer.slice(payload.byteOffset, payload.byteOffset + payload.length)));
    }
    runner.infer();
    const out = output.data();
    let score = 0, best = 0;
    if (out.length === into.length) {
      // An autoencoder: the mean squared difference.
      for (let i = 0; i < out.length; i++) score += (out[i] - into[i]) ** 2;
      score /= out.length;
    } else {
      for (let i = 1; i < out.length; i++) if (out[i] > out[best]) best = i;
      score = out[best];
    }
    client.publish(topic.replace('peer/in/', 'peer/out/'),
      JSON.stringify({time: new Date().toISOString(), best, score}), {qos: packet.qos});
  });
}

main();
