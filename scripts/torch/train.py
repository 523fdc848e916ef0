# Trains 784-128-10 on MNIST as `edgegateway train` does (ReLU, softmax, Adam at
# 0.001, batches of 64) by PyTorch or scikit-learn on one thread, and prints the
# seconds an epoch and the accuracy on the test pictures.
#
#   train.py torch|sklearn FOLDER EPOCHS SEED
import sys
import time

import numpy as np

kind, folder, epochs, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])


def idx(name, header):
    return np.fromfile(f"{folder}/{name}", dtype=np.uint8)[header:]


x = idx("train-images-idx3-ubyte", 16).reshape(-1, 784).astype(np.float32) / 255
y = idx("train-labels-idx1-ubyte", 8).astype(np.int64)
xt = idx("t10k-images-idx3-ubyte", 16).reshape(-1, 784).astype(np.float32) / 255
yt = idx("t10k-labels-idx1-ubyte", 8).astype(np.int64)

if kind == "torch":
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Linear(784, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.001)
    loss = torch.nn.CrossEntropyLoss()
    x, y, xt = torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(xt)
    start = time.perf_counter()
    for _ in range(epochs):
        order = torch.randperm(len(x))
        for at in range(0, len(x), 64):
            batch = order[at : at + 64]
            optimizer.zero_grad()
            loss(net(x[batch]), y[batch]).backward()
            optimizer.step()
    seconds = time.perf_counter() - start
    with torch.no_grad():
        accuracy = (net(xt).argmax(1).numpy() == yt).mean()
else:
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    warnings.simplefilter("ignore", ConvergenceWarning)
    net = MLPClassifier((128,), batch_size=64, max_iter=epochs, random_state=seed, alpha=0, tol=0)
    start = time.perf_counter()
    net.fit(x, y)
    seconds = time.perf_counter() - start
    accuracy = net.score(xt, yt)
print(f"{seconds / epochs:.3f} {accuracy:.4f}")
