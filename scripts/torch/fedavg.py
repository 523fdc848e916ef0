# Trains 784-200-200-10 on MNIST by federated averaging (arXiv:1602.05629) as a
# plain loop in PyTorch, one thread: 100 clients of 600 pictures, 10 a round, one
# epoch at batches of 10. Prints the seconds a round, with the accuracy on the
# test pictures after each, the processor's seconds, and the last accuracy.
#
#   fedavg.py FOLDER ROUNDS SEED RATE
import sys
import time

import numpy as np
import torch

folder, rounds, seed, rate = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])


def idx(name, header):
    return np.fromfile(f"{folder}/{name}", dtype=np.uint8)[header:]


torch.set_num_threads(1)
torch.manual_seed(seed)
x = torch.from_numpy(idx("train-images-idx3-ubyte", 16).reshape(-1, 784).astype(np.float32) / 255)
y = torch.from_numpy(idx("train-labels-idx1-ubyte", 8).astype(np.int64))
xt = torch.from_numpy(idx("t10k-images-idx3-ubyte", 16).reshape(-1, 784).astype(np.float32) / 255)
yt = torch.from_numpy(idx("t10k-labels-idx1-ubyte", 8).astype(np.int64))
net = torch.nn.Sequential(
    torch.nn.Linear(784, 200), torch.nn.ReLU(), torch.nn.Linear(200, 200), torch.nn.ReLU(), torch.nn.Linear(200, 10)
)
loss = torch.nn.CrossEntropyLoss()
parts = torch.randperm(len(x)).reshape(100, 600)
weights = torch.nn.utils.parameters_to_vector(net.parameters()).detach().clone()
start, used = time.perf_counter(), time.process_time()
for _ in range(rounds):
    total = torch.zeros_like(weights)
    for client in torch.randperm(100)[:10]:
        torch.nn.utils.vector_to_parameters(weights.clone(), net.parameters())
        optimizer = torch.optim.SGD(net.parameters(), lr=rate)
        order = parts[client][torch.randperm(600)]
        for batch in order.split(10):
            optimizer.zero_grad()
            loss(net(x[batch]), y[batch]).backward()
            optimizer.step()
        total += torch.nn.utils.parameters_to_vector(net.parameters()).detach() - weights
    weights = weights + total / 10
    torch.nn.utils.vector_to_parameters(weights.clone(), net.parameters())
    with torch.no_grad():
        accuracy = (net(xt).argmax(1) == yt).float().mean().item()
seconds, used = time.perf_counter() - start, time.process_time() - used
print(f"{seconds / rounds:.3f} {used / rounds:.3f} {accuracy:.4f}")
