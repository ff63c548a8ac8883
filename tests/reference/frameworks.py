"""Steps of frameworks that cannot be installed beside this library, in NumPy, after their sources.

Each takes the number of the step from 1, a weight, its gradient and a dictionary of buffers that start at 0, and
returns the next weight.
"""

import numpy as np


def tf1_adam(t, p, g, s, lr=1e-3, b1=0.9, b2=0.999, eps=1e-8):
    s["m"] = b1 * s["m"] + (1 - b1) * g
    s["v"] = b2 * s["v"] + (1 - b2) * g**2
    return p - lr * np.sqrt(1 - b2**t) / (1 - b1**t) * s["m"] / (np.sqrt(s["v"]) + eps)


def tf1_rmsprop(t, p, g, s, lr=0.01, decay=0.9, momentum=0.9, eps=1e-10):
    s["rms"] = decay * (s["rms"] if t > 1 else 1.0) + (1 - decay) * g**2
    s["mom"] = momentum * s["mom"] + lr / t * g / np.sqrt(s["rms"] + eps)
    return p - s["mom"]


def mlx_adamw(t, p, g, s, lr=1e-3, wd=0.01, b1=0.9, b2=0.999, eps=1e-8):
    s["m"] = b1 * s["m"] + (1 - b1) * g
    s["v"] = b2 * s["v"] + (1 - b2) * g**2
    return p * (1 - lr * wd) - lr * s["m"] / (np.sqrt(s["v"]) + eps)


def mlx_adamax(t, p, g, s, lr=1e-3, b1=0.9, b2=0.999, eps=1e-8):
    s["m"] = b1 * s["m"] + (1 - b1) * g
    s["v"] = np.maximum(b2 * s["v"], np.abs(g))
    return p - lr * s["m"] / (s["v"] + eps)


def bert_adamw(t, p, g, s, lr=1e-3, wd=0.01, b1=0.9, b2=0.999, eps=1e-6):
    s["m"] = b1 * s["m"] + (1 - b1) * g
    s["v"] = b2 * s["v"] + (1 - b2) * g**2
    return p - lr * (s["m"] / (np.sqrt(s["v"]) + eps) + wd * p)


def paddle_amsgrad(t, p, g, s, lr=1e-3, wd=0.1, b1=0.9, b2=0.999, eps=1e-8):
    g = g + wd * p
    s["m"] = b1 * s["m"] + (1 - b1) * g
    s["v"] = b2 * s["v"] + (1 - b2) * g**2
    s["max"] = np.maximum(s["max"], s["v"])
    return p - lr * np.sqrt(1 - b2**t) / (1 - b1**t) * s["m"] / (np.sqrt(s["max"]) + eps * np.sqrt(1 - b2**t))


def torch7_adam(t, p, g, s, lr=1e-3, lrd=0.1, wd=0.1, b1=0.9, b2=0.999, eps=1e-8):
    return tf1_adam(t, p, g + wd * p, s, lr / (1 + (t - 1) * lrd), b1, b2, eps)


def torch7_adagrad(t, p, g, s, lr=1e-3, lrd=0.1):
    s["variance"] = s["variance"] + g**2
    return p - lr / (1 + (t - 1) * lrd) * g / (np.sqrt(s["variance"]) + 1e-10)


def chainer_amsgrad(t, p, g, s, alpha=0.01, eta=0.5, wd=0.1, b1=0.9, b2=0.999, eps=1e-8):
    lr = alpha * np.sqrt(1 - b2**t) / (1 - b1**t)
    s["m"] = s["m"] + (1 - b1) * (g - s["m"])
    s["v"] = s["v"] + (1 - b2) * (g * g - s["v"])
    s["vhat"] = np.maximum(s["vhat"], s["v"])
    return p - eta * (lr * s["m"] / (np.sqrt(s["vhat"]) + eps) + wd * p)


def mxnet_adagrad(t, p, g, s, lr=0.01, wd=0.1, eps=1e-7):
    s["history"] = s["history"] + g**2
    return p + (g / np.sqrt(s["history"] + eps) + p * wd) * -lr


def mxnet_adadelta(t, p, g, s, rho=0.9, eps=1e-5, wd=0.1):
    s["g"] = rho * s["g"] + (1 - rho) * g * g
    delta = np.sqrt(s["delta"] + eps) / np.sqrt(s["g"] + eps) * g
    s["delta"] = rho * s["delta"] + (1 - rho) * delta * delta
    return p - (delta + wd * p)


def mxnet_nadam(t, p, g, s, lr=1e-3, b1=0.9, b2=0.999, eps=1e-8, psi=0.004, wd=0.1):
    g = g + wd * p
    here, ahead = (b1 * (1 - 0.5 * 0.96 ** (i * psi)) for i in (t, t + 1))
    s["schedule"] = (s["schedule"] if t > 1 else 1.0) * here
    s["m"] = b1 * s["m"] + (1 - b1) * g
    s["v"] = b2 * s["v"] + (1 - b2) * g * g
    m_bar = (1 - here) * g / (1 - s["schedule"]) + ahead * s["m"] / (1 - s["schedule"] * ahead)
    return p - lr * m_bar / (np.sqrt(s["v"] / (1 - b2**t)) + eps)


def caffe_adam(t, p, g, s):
    return tf1_adam(t, p, g + 0.1 * p, s, b1=0.0)


def blocks_adagrad(t, p, g, s, lr=0.002, eps=1e-6):
    s["ssq"] = s["ssq"] + g**2
    return p - lr * g / (np.sqrt(s["ssq"]) + eps)
