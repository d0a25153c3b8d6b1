"""JAX: a loader's batches by DLPack; a small network is trained on the CPU.

pip install 'gpurender[jax]'
python examples/jax_dlpack.py

Without JAX the script says so and ends. On a GPU, JAX and torch share the device: give the loader ``device="cuda"``
and start JAX with ``XLA_PYTHON_CLIENT_PREALLOCATE=false``, so that it leaves memory for the loader.
"""

import sys

try:
    import jax
    import jax.numpy as jnp
except ImportError:
    print("skipped: this example needs jax, pip install 'gpurender[jax]'")
    sys.exit(0)

import gpurender as gr

RECIPE, STEPS = "onepfrac-1k", 20


def loss_of(weights: dict[str, jax.Array], images: jax.Array, targets: jax.Array) -> jax.Array:
    hidden = jax.nn.relu(images.reshape(len(images), -1) @ weights["first"])
    return -(jax.nn.log_softmax(hidden @ weights["last"])[jnp.arange(len(targets)), targets]).mean()


@jax.jit
def step(
    weights: dict[str, jax.Array], images: jax.Array, targets: jax.Array
) -> tuple[dict[str, jax.Array], jax.Array]:
    loss, gradients = jax.value_and_grad(loss_of)(weights, images, targets)
    return jax.tree.map(lambda w, g: w - 0.1 * g, weights, gradients), loss


def main() -> None:
    loader = gr.DataLoader(RECIPE, 50, shuffle=True, image_size=32, augment="crop", device="cpu", steps_per_epoch=STEPS)
    keys = jax.random.split(jax.random.key(0))
    weights = {
        "first": jax.random.normal(keys[0], (3 * 32 * 32, 64)) / 64,
        "last": jax.random.normal(keys[1], (64, loader.dataset.recipe.classes)) / 8,
    }
    for images, targets in loader.as_dlpack():
        pictures, labels = jax.dlpack.from_dlpack(images), jax.dlpack.from_dlpack(targets)
        weights, loss = step(weights, pictures, labels)
    print(f"{STEPS} steps, loss {float(loss):.4f}")


if __name__ == "__main__":
    main()
