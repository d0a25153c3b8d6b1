"""One batch and one contact sheet.

python examples/quickstart.py
"""

import gpurender as gr
from gpurender.sheet import contact_sheet

recipe = gr.recipe("onepfrac-1k")
loader = gr.DataLoader(recipe, batch_size=64, image_size=224, augment=gr.augment.DeiT(), shuffle=True)
images, targets = next(iter(loader))

print(f"recipe   {len(recipe)} images of {recipe.classes} classes in {len(recipe.to_json())} bytes")
print(f"loader   {len(loader)} batches an epoch")
print(f"images   {images.dtype} {list(images.shape)} on {images.device}, {images.min():.2f} to {images.max():.2f}")
print(
    f"targets  {targets.dtype} {list(targets.shape)}, soft: the largest of a row is {targets.max(1).values.mean():.2f}"
)

contact_sheet(gr.Renderer(recipe), rows=8, cols=4).save("quickstart.png")
print("quickstart.png shows 32 classes")
